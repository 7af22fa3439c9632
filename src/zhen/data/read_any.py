"""Reading any file by its format; damage is told, never raised."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zhen.data import read_lines, read_table, read_text, read_warc
from zhen.data.read import Item, Lost, Window
from zhen.data.settings import Columns

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def read_file(path: Path, kind: str, packing: str | None, columns: Columns, window: Window | None) -> Iterator[Item]:
    """The pages of one local file of format `kind` (`sources.FORMATS`); damage never raises, it is yielded."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
            file.seek(0)
            if not size:
                yield Lost(0, 0, "empty file")
            elif head.startswith(LFS_POINTER):
                yield Lost(0, size, "a Git LFS pointer, not the file itself (git lfs pull)")
            elif kind == "warc":
                yield from read_warc.read(file, size, head, packing)
            elif kind == "jsonl":
                yield from read_lines.read(file, size, head, packing, columns, window)
            elif kind == "parquet":
                yield from read_table.read(file, size, columns)
            else:
                yield from read_text.read(file, size, head, packing, is_html=kind == "html")
    except OSError as error:
        yield Lost(0, 0, f"cannot be read: {error.strerror or error}")
