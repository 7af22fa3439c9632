"""Files that are one page (HTML) or one text (plain, Markdown) each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from zhen.data.read import Item, Lost, Page
from zhen.data.read_stream import LONGEST, Gap, packing_of, unpack

_ANY = re.compile(b"")


def read(file: IO[bytes], size: int, head: bytes, packing: str | None, *, is_html: bool) -> Iterator[Item]:
    """The one page of the file. A packed file that is damaged is lost whole: half a text is no text."""
    parts, length = [], 0
    for piece in unpack(file, size, packing_of(head, packing) if packing else None, _ANY):
        if isinstance(piece, Gap):
            yield Lost(piece.offset, piece.bytes, piece.reason)
            return
        parts.append(piece.data)
        length += len(piece.data)
        if length > LONGEST:
            yield Lost(0, size, f"longer than {LONGEST:,} bytes")
            return
    data = b"".join(parts)
    yield Page(data, "") if is_html else Page(None, data)
