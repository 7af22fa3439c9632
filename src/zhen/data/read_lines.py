"""JSON lines: one object a line; a bad line is lost alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

import msgspec

from zhen.data.read import Item, Lost, Window, page_from
from zhen.data.read_stream import PIECE, Gap, Line, lines, packing_of, unpack
from zhen.data.settings import Columns

_OBJECT = re.compile(rb"\s*[{\[]|[^\x00-\x08]")
_BOM = b"\xef\xbb\xbf"
_decode = msgspec.json.Decoder().decode


def read(
    file: IO[bytes], size: int, head: bytes, packing: str | None, columns: Columns, window: Window | None
) -> Iterator[Item]:
    """The pages of a file of JSON lines; with `window` only of the lines that begin in it."""
    packing = packing_of(head, packing)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        yield Lost(0, size, "UTF-16; JSON lines are UTF-8")
        return
    offset = 0
    if window is not None and packing is None:
        offset = _line_start(file, window.begin)
        file.seek(offset)
    for line in lines(unpack(file, size, packing, _OBJECT)):
        if isinstance(line, Gap):
            stream_damage = packing is not None and "a line of" not in line.reason
            yield Lost(line.offset, line.bytes, line.reason, unpacked=packing is not None and not stream_damage)
            continue
        start = offset + line.offset
        if window is not None and packing is None and start >= window.end:
            return
        item = _page(line, start, columns, packing is not None)
        if item is not None:
            yield item


def _line_start(file: IO[bytes], begin: int) -> int:
    """The first line start at or behind `begin`."""
    if begin == 0:
        return 0
    offset = begin - 1
    file.seek(offset)
    while data := file.read(PIECE):
        place = data.find(b"\n")
        if place >= 0:
            return offset + place + 1
        offset += len(data)
    return offset


def _page(line: Line, start: int, columns: Columns, unpacked: bool) -> Item | None:
    data = line.data.removeprefix(_BOM) if start == 0 else line.data
    if not data.strip():
        return None
    try:
        values = _decode(data)
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 at byte {error.start} of the line"
    except RecursionError:
        reason = "nested too deeply"
    except msgspec.DecodeError as error:
        reason = f"not JSON: {error}"
    else:
        page = page_from(values, columns, start) if isinstance(values, dict) else "not a JSON object"
        if not isinstance(page, str):
            return page
        reason = page
    return Lost(start, len(line.data), reason, unpacked=unpacked)
