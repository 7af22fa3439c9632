"""One unit through read, gate, extract, signals, in one pass: documents and signals, row for row, and what was lost."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import fsspec
import msgspec
import pyarrow as pa
from msgspec import Struct

from zhen.data import benchmarks, contamination, minhash, privacy
from zhen.data.gate import clean, decode, why_not
from zhen.data.language import character_counts, identify
from zhen.data.read import Item, Lost, Page, Skipped
from zhen.data.read_any import read_file
from zhen.data.sandbox import extractor
from zhen.data.settings import Columns, ExtractSettings, Source
from zhen.data.signals import NAMES, Batch, keys
from zhen.data.sources import file_format
from zhen.data.tables import PartFile, PartTable
from zhen.data.units import Part, Unit
from zhen.formats.document import SCHEMA, document_id
from zhen.formats.files import TEMPORARY, Digest, sha256_file

BATCH = 1000
"""Documents of a row group; fewer where their text comes to `BATCH_CHARACTERS`."""

BATCH_CHARACTERS = 16_000_000

SIGNALS = pa.schema(
    [
        ("id", pa.binary(16)),
        ("source", pa.string()),
        ("lang", pa.string()),
        ("bytes", pa.int64()),
        ("hash_high", pa.uint64()),
        ("hash_low", pa.uint64()),
        *((name, pa.float32()) for name in NAMES),
        *minhash.COLUMNS,
        ("license", pa.string()),
        *privacy.COLUMNS,
        *contamination.COLUMNS,
    ]
)
"""`signals/`: a row for each row of `documents/`. `bytes`: UTF-8 bytes of the text."""


class ScanJob(Struct, frozen=True):
    """What a worker is told about a unit."""

    unit: Unit
    sources: tuple[Source, ...]
    folder: str
    extract: ExtractSettings
    hashed: list[str]
    """Locations whose SHA-256 is taken now, because it was not when the run was planned."""
    benchmarks: tuple[benchmarks.File, ...] = ()
    columns: tuple[str, ...] = ()
    """Of the benchmarks: keys that hold question and answer."""


@functools.lru_cache(maxsize=1)
def benchmark_index(files: tuple[benchmarks.File, ...], columns: tuple[str, ...]) -> contamination.Index:
    """The items of all files, ready to be looked for; made once a process."""
    return contamination.Index([item for file in files for item in benchmarks.items(file, columns)])


class UnitStatistics(Struct):
    """What a worker answers, and what `units/<unit>.json` holds."""

    unit: str
    documents: int = 0
    text_bytes: int = 0
    input_bytes: int = 0
    lost: int = 0
    """Rows of `units/<unit>.jsonl`."""
    normalised: int = 0
    """Documents whose text NFC changed."""
    extractor_failed: int = 0
    """Pages that got the quick extractor's text because the good one took too long or crashed."""
    by_source: dict[str, int] = {}
    """Documents."""
    skipped: dict[str, int] = {}
    """Records that hold no page, by reason."""
    outputs: dict[str, Digest] = {}
    temporary: dict[str, str] = {}
    """Output -> the name it has until the parent renames it; empty once that is done."""
    sha256: dict[str, Digest] = {}
    """`source/path` -> size and hash of the files in ScanJob.hashed."""


def scan_unit(job: str) -> str:
    """Scan one unit (JSON of ScanJob -> JSON of UnitStatistics). Writes three files under names of its own."""
    return msgspec.json.encode(_Scan(msgspec.json.decode(job, type=ScanJob)).run()).decode()


class _Scan:
    def __init__(self, job: ScanJob) -> None:
        self.job = job
        self.statistics = UnitStatistics(job.unit.name)
        self.skipped: Counter[str] = Counter()
        self.by_source: Counter[str] = Counter()
        self.texts: list[str] = []
        self.rows: list[tuple[str, str, str, str]] = []
        self.characters = 0

    def run(self) -> UnitStatistics:
        name, folder = self.job.unit.name, Path(self.job.folder)
        statistics = self.statistics
        with ExitStack() as stack:
            self.documents = stack.enter_context(PartTable(folder / "documents" / f"{name}.parquet", SCHEMA))
            self.signals = stack.enter_context(PartTable(folder / "signals" / f"{name}.parquet", SIGNALS))
            self.lost = stack.enter_context(PartFile(folder / "units" / f"{name}.jsonl"))
            for part in self.job.unit.parts:
                source = self.job.sources[part.source]
                for item in self._items(part, source):
                    self._take(item, part, source)
            self._flush()
        for part_file in (self.documents.file, self.signals.file, self.lost):
            output = str(part_file.path.relative_to(folder))
            statistics.outputs[output] = part_file.digest
            statistics.temporary[output] = str(part_file.temporary.relative_to(folder))
        statistics.skipped = dict(sorted(self.skipped.items()))
        statistics.by_source = dict(sorted(self.by_source.items()))
        return statistics

    def _items(self, part: Part, source: Source) -> Iterator[Item]:
        kind, packing = file_format(part.path) or ("text", None)
        path, fetched = Path(part.location), "://" in part.location
        if fetched:
            path = Path(self.job.folder) / "units" / f"{TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}-fetched"
        try:
            if fetched:
                system, root = fsspec.core.url_to_fs(part.location)
                system.get_file(root, str(path))
            if part.location in self.job.hashed and (part.window is None or part.window.begin == 0):
                self.statistics.sha256[f"{source.name}/{part.path}"] = sha256_file(path)
            self.statistics.input_bytes += part.bytes or path.stat().st_size
        except Exception as error:  # every file system has errors of its own; each means that this file is lost
            yield Lost(0, part.bytes, f"cannot be read: {getattr(error, 'strerror', None) or error}")
        else:
            yield from read_file(path, kind, packing, source.columns or Columns(), part.window)
        finally:
            if fetched:
                path.unlink(missing_ok=True)

    def _take(self, item: Item, part: Part, source: Source) -> None:
        if isinstance(item, Page):
            item = self._document(item, part, source) or Skipped("page without text")
        if isinstance(item, Lost):
            row = {"source": source.name, "file": part.path} | msgspec.structs.asdict(item)
            self.lost.write(msgspec.json.encode(row) + b"\n")
            self.statistics.lost += 1
        elif isinstance(item, Skipped):
            self.skipped[item.reason] += 1

    def _document(self, page: Page, part: Part, source: Source) -> Lost | Page | None:
        """Add the document that the page is; None where it holds no text."""
        data = page.html if page.html is not None else page.text
        meta: dict[str, str | int] = {"at": page.at, "file": part.path}
        text = data
        if isinstance(data, bytes):
            decoded = decode(data, page.charset)
            if decoded is None:
                return Lost(page.at, len(data), why_not(data), unpacked=True)
            text, meta["charset"] = decoded
        assert isinstance(text, str)
        if page.html is not None:
            found, meta["extractor"] = self._extract(text)
            if found is None:
                seconds = self.job.extract.page_seconds
                return Lost(
                    page.at, len(page.html), f"extraction crashed or took {seconds:g} CPU seconds", unpacked=True
                )
            text = found
        text, changed = clean(text)
        if not text.strip():
            return None
        self.statistics.normalised += changed
        self.texts.append(text)
        self.rows.append(
            (page.url, source.name, page.license or source.license, msgspec.json.encode(meta, order="sorted").decode())
        )
        self.characters += len(text)
        if len(self.texts) >= BATCH or self.characters >= BATCH_CHARACTERS:
            self._flush()
        return page

    def _extract(self, html: str) -> tuple[str | None, str]:
        """Text of a page and the extractor it is from: the good one, and the quick one where that finds nothing.
        Where languages are listed the quick one is first, and the good one is asked for pages in these."""
        seconds, languages = self.job.extract.page_seconds, self.job.extract.languages
        quick = None
        if languages is not None:
            quick = extractor().quick(html, seconds)
            if not quick or identify(quick, character_counts([quick])[0])[0] not in languages:
                return quick, "resiliparse"
        good = extractor().good(html, seconds)
        self.statistics.extractor_failed += good is None
        if good:
            return good, "trafilatura"
        return extractor().quick(html, seconds) if quick is None else quick, "resiliparse"

    def _overlaps(self) -> list[pa.Array]:
        """How much the batch has of each benchmark."""
        if not self.job.benchmarks:
            return contamination.empty(len(self.texts))
        return benchmark_index(self.job.benchmarks, self.job.columns).measure(self.texts)

    def _flush(self) -> None:
        if not self.texts:
            return
        batch = Batch(self.texts)
        ids = [document_id(url, text) for (url, *_), text in zip(self.rows, self.texts, strict=True)]
        urls, sources, licenses, metas = (list(column) for column in zip(*self.rows, strict=True))
        self.documents.write([ids, self.texts, urls, sources, batch.langs, licenses, metas])
        measured = keys(self.texts)
        others = [*minhash.measure(self.texts), licenses, *privacy.measure(self.texts), *self._overlaps()]
        self.signals.write([ids, sources, batch.langs, *measured.values(), *batch.signals.values(), *others])
        self.statistics.documents += len(self.texts)
        self.statistics.text_bytes += sum(measured["bytes"].to_pylist())
        self.by_source.update(sources)
        self.texts, self.rows, self.characters = [], [], 0
