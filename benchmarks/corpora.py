"""Texts of the shared corpora as they lie there, for the benchmarks that measure on them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import zstandard


def stored(path: Path, key: str = "text") -> Iterator[str]:
    """The texts of one `.jsonl.zst`."""
    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        for line in io.TextIOWrapper(reader, encoding="utf-8"):
            yield json.loads(line)[key]


def of_language(folder: Path, lang: str) -> Iterator[str]:
    """The texts of all `.jsonl.zst` of a language, in the order of the files' names."""
    for path in sorted((folder / lang).glob("*.jsonl.zst")):
        yield from stored(path)
