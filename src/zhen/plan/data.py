"""Work on data: cores, hours, storage and shuffle for an amount of raw pages, from measured rates."""

from __future__ import annotations

import msgspec

PAGE_BYTES = 30_000
"""A page in a compressed WARC file, about: archives of Common Crawl have some 75 TB (arXiv 2404.09770), that of
December 2024 2.64 billion pages (its announcement)."""

LANGUAGES = 0.5
"""Share of a crawl's pages that are in English or Chinese, about: 46 % and under 6 % (Common Crawl, March 2023)."""

KEPT = 0.15
"""Share of these pages that rules and duplicates leave, about: FineWeb has 15 T tokens of 96 crawls (arXiv 2406.17557),
15 % at 2.7 billion pages each, 46 % of them English, 830 tokens a page. A run on a sample of one's own says better."""

TEXT_BYTES, ZSTD = 3000, 2.6
"""Text of a page, and by how much zstd shrinks it: the mean of documents extracted from news pages, and of their
Parquet files."""

SIGNALS_BYTES = 24 * 8 + 256 * 4 + 70 * 4
"""Signals of a document: 24 bands, a sketch of up to 256 hashes, some seventy numbers (`docs/rules.md`)."""

KEY_BYTES = 24 * (8 + 16)
"""What crosses between machines for a document: a hash and an id in each of 24 bands (`docs/duplicates.md`)."""

TOKEN_BYTES = 3.6
"""Text of a token: Yi's vocabulary has 3.7 bytes in English and 4.3 in Chinese prose, less in code."""

RATES = {
    "reading": 4836.0,
    "the gate": 738.0,
    "extraction": 105.0,
    "rules and signals": 2366.0,
    "benchmarks' questions": 6000.0,
    "duplicates": 776.0,
    "tokens": 2600.0,
}
"""Pages a second and core, each measured on a shared x86-64 core: fastwarc 2.0; resiliparse 2.0's main content;
trafilatura 2.3 on 181 news pages; what all rules measure, the harmonic mean of 1,822 English documents of 8,050
characters and 3,372 Chinese ones of 1,999 (`docs/results/data.md`); 18 MB/s (`docs/contamination.md`); 13,200 texts of
3 kB in 7.3 s (English) and 9.7 s (Chinese) on two cores, start and end with them (`docs/duplicates.md`); SentencePiece
at 7.8 MB/s."""

IN_LANGUAGE = ("extraction", "rules and signals", "benchmarks' questions", "duplicates")
"""Work on pages that the gate let through; tokens are made of those that are kept."""


class DataWork(msgspec.Struct, frozen=True):
    """What an amount of raw pages takes."""

    raw_bytes: float
    pages: float
    core_hours: dict[str, float]
    storage_bytes: dict[str, float]
    shuffle_bytes: float
    """Crosses between machines, for duplicates."""
    tokens: float

    @property
    def hours_of_cores(self) -> float:
        """All of it."""
        return sum(self.core_hours.values())


def data_work(raw_bytes: float) -> DataWork:
    """Cores, storage and shuffle for `raw_bytes` of compressed crawl: read and gated all, extracted and judged what is
    in a wanted language, tokenised what is kept. Text never crosses between machines, keys do."""
    pages = raw_bytes / PAGE_BYTES
    wanted, kept = pages * LANGUAGES, pages * LANGUAGES * KEPT
    counts = {name: wanted if name in IN_LANGUAGE else kept if name == "tokens" else pages for name in RATES}
    tokens = kept * TEXT_BYTES / TOKEN_BYTES
    return DataWork(
        raw_bytes=raw_bytes,
        pages=pages,
        core_hours={name: counts[name] / rate / 3600 for name, rate in RATES.items()},
        storage_bytes={
            "raw": raw_bytes,
            "documents": wanted * TEXT_BYTES / ZSTD,
            "signals": wanted * SIGNALS_BYTES,
            "kept": kept * TEXT_BYTES / ZSTD,
            "shards": 2 * tokens,
        },
        shuffle_bytes=wanted * KEY_BYTES,
        tokens=tokens,
    )
