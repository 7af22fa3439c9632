"""The recipe section `[data]`: where text comes from, which rules decide over it, what is held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta, Struct

SAMPLEWEB = "sampleweb"
"""The `path` that means the built-in web."""

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Name = Annotated[str, Meta(pattern=r"^[^./\s][^/\x00-\x1f]*$")]
"""Sources give folders their names."""


class Columns(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which column of a table, or key of a JSON line, holds what."""

    text: str | None = None
    """Plain text. Without `text` and `html`: the column `text`, and where there is none, `html`."""
    html: str | None = None
    """A page, as bytes or a string; it goes through extraction as the pages of a crawl do."""
    url: str = "url"
    """The document's address; a missing column is no error."""
    license: str = "license"
    """The document's licence; where missing or empty the source's is taken."""


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One place that text comes from; `[[data.sources]]`."""

    name: Name
    """What mixtures, shards and figures call it; no slash, no dot in front."""
    path: str
    """`sampleweb`, a folder (with all below it), a glob, a file, or a URL (http, https, s3, hf); `${VARIABLE}` is
    replaced by the environment's. Formats by name: .warc .wet .jsonl .parquet .html .htm .txt .md, packed as .gz or
    .zst."""
    license: str = "unknown"
    """The licence of documents that name none of their own."""
    columns: Columns | None = None
    """For Parquet and JSON lines."""


class ExtractSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How pages become text; `[data.extract]`."""

    page_seconds: Annotated[float, Meta(gt=0.0)] = 10.0
    """CPU seconds that the extraction of one page may take (no outside source; pages take about 10 ms)."""


class RulesSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which documents are kept; `[data.rules]`. A threshold that is left out is the preset's (`rules.RULES`)."""

    preset: Literal["bilingual", "none"] = "bilingual"
    """`bilingual`: Chinese and English prose. `none`: nothing goes but exact duplicates."""
    min_language: Share | None = None
    """Least share (0 to 1) of a text that is Chinese or English, whichever it is more."""
    min_characters_en: Annotated[int, Meta(ge=0)] | None = None
    """Least characters of an English document (and of any language but Chinese)."""
    min_characters_zh: Annotated[int, Meta(ge=0)] | None = None
    """Least characters of a Chinese document."""
    min_word_characters: Share | None = None
    """Least share of letters (Han characters are letters) and digits among the characters that are not blanks."""
    max_duplicate_lines: Share | None = None
    """Greatest share of characters that are in lines which repeat an earlier line."""
    max_symbols: Share | None = None
    """Greatest number of `#` and ellipses per word (a Han character counts as 0.6 words)."""


class DuplicatesSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What counts as said already; `[data.duplicates]`. Exact copies always do."""

    near: bool = True
    """Whether of documents that are much alike only the first is kept."""
    jaccard: Annotated[float, Meta(ge=0.7, le=1.0)] = 0.8
    """From this Jaccard similarity on, 0.7 to 1: the share of runs of five words (of five characters where they are
    Han) that two documents have in common, of those that either has (Lee et al. 2022: 0.8)."""


class PrivacySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is put out of sight in the text that is written; `[data.privacy]`."""

    redact: bool = True
    """Whether contacts, numbers of persons and accounts, and secrets are replaced by `[kind]`."""
    kinds: tuple[
        Literal["secret", "email", "identity-number", "bank-card", "phone", "ip-address"], ...
    ] = ("secret", "email", "identity-number", "bank-card", "phone", "ip-address")
    """Which kinds."""


class DataSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `[data]`."""

    sources: tuple[Source, ...] = ()
    """Where text comes from, in the order in which equal documents are preferred."""
    extract: ExtractSettings = ExtractSettings()
    rules: RulesSettings = RulesSettings()
    duplicates: DuplicatesSettings = DuplicatesSettings()
    privacy: PrivacySettings = PrivacySettings()
    held_out: Annotated[float, Meta(ge=0.0, le=0.2)] = 0.01
    """Share of the documents of each language that is held out from training (design: 1 %)."""
    held_out_bytes: Annotated[int, Meta(ge=0)] = 200_000
    """UTF-8 bytes of text held out at least in each language, but never more than a fifth of it (design: 200 kB)."""

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """Combinations that cannot be meant: (field, found, expected)."""
        counts = Counter(source.name for source in self.sources)
        for index, source in enumerate(self.sources):
            if counts[source.name] > 1:
                yield f"sources.{index}.name", f'"{source.name}"', "a name that no other source has"
            if not source.path.strip():
                yield f"sources.{index}.path", '""', "a folder, a glob, a file or a URL"
            if source.columns and source.columns.text and source.columns.html:
                yield f"sources.{index}.columns", "a text and an html column", "one of the two"
