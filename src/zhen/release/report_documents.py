"""What the report reads of documents, signals and verdicts: columns of a run's first units, single documents."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from zhen.release.summary import Run

MOST_ROWS = 1_000_000
"""Documents that the data report looks at, at most: whole units from the first on."""

ROW_BITS = 32
"""A document's place in the column `cluster` is unit << 32 | row."""


class Documents(NamedTuple):
    """The documents that were scanned, with what was measured and decided, unit by unit in one order of rows."""

    documents: list[Path]
    signals: list[Path]
    verdicts: list[Path]
    rows: int
    """Documents in these units."""
    total: int
    """Documents in all units."""

    def column(self, kind: str, name: str) -> pa.ChunkedArray | None:
        """One column of `documents`, `signals` or `verdicts` over all units; None where it is not there."""
        files: list[Path] = getattr(self, kind)
        if not files or name not in pq.read_schema(files[0]).names:
            return None
        return pa.chunked_array([chunk for path in files for chunk in pq.read_table(path, columns=[name])[name].chunks])

    def at(self, index: int) -> tuple[int, int]:
        """(unit, row) of the document at `index` of the columns."""
        for unit, path in enumerate(self.documents):
            rows = pq.read_metadata(path).num_rows
            if index < rows:
                return unit, index
            index -= rows
        raise IndexError(index)

    def read(self, unit: int, row: int) -> dict[str, Any]:
        """url, lang and text of one document."""
        group, place = _group_of(self.documents[unit], row)
        found: dict[str, Any] = _group(self.documents[unit], group).slice(place, 1).to_pylist()[0]
        return found


def open_documents(run: Run) -> Documents | None:
    """The run's documents; None where scan or decision are missing."""
    scanned, decided = run.stages.get("data.scan"), run.stages.get("data.decide")
    if not scanned or not decided:
        return None
    names = [path.name for path in sorted((decided / "verdicts").glob("unit-*.parquet"))]
    counts = [pq.read_metadata(decided / "verdicts" / name).num_rows for name in names]
    taken = 0
    chosen: list[str] = []
    for name, count in zip(names, counts, strict=True):
        if chosen and taken + count > MOST_ROWS:
            break
        chosen.append(name)
        taken += count
    if not taken:
        return None
    folders = (scanned / "documents", scanned / "signals", decided / "verdicts")
    paths = [[folder / name for name in chosen] for folder in folders]
    return Documents(paths[0], paths[1], paths[2], taken, sum(counts))


def kept_texts(run: Run, most_bytes: int) -> Iterator[tuple[str, str, str]]:
    """(url, lang, text) of the documents kept to train on, from the first unit on, until `most_bytes` of text."""
    folder = run.stages.get("data.write")
    taken = 0
    for path in sorted((folder / "kept").glob("unit-*.parquet")) if folder else []:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["url", "lang", "text"], use_threads=False):
                for row in batch.to_pylist():
                    taken += len(row["text"])
                    if taken > most_bytes:
                        return
                    yield row["url"], row["lang"], row["text"]


def choose(indices: Sequence[int], count: int, name: str) -> list[int]:
    """`count` of the indices at most, the same ones each time."""
    return sorted(random.Random(name).sample(list(indices), min(count, len(indices))))


def _group_of(path: Path, row: int) -> tuple[int, int]:
    """The row group that holds a row, and the row's place in it."""
    metadata = pq.read_metadata(path)
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        if row < rows:
            return group, row
        row -= rows
    raise IndexError(row)


@lru_cache(maxsize=4)
def _group(path: Path, group: int) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read_row_group(group, columns=["url", "lang", "text"], use_threads=False)
