"""Bytes of a file, unpacked piece by piece; damage is told as gaps and reading goes on behind it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Generator, Iterator
from typing import IO, NamedTuple, Protocol

import zstandard

PIECE = 1 << 20
"""Bytes that are unpacked at a time: a small packed file cannot fill the memory."""

LONGEST = 64 << 20
"""Bytes of the longest record that is read; a longer one is counted as lost."""

_FEED = {"gzip": 1 << 14, "zstd": 1 << 11}
"""Packed bytes fed at a time. A zstd block of 4 bytes may stand for 128 KiB, and zstd bounds no output itself."""

_MAGIC = {"gzip": b"\x1f\x8b\x08", "zstd": b"\x28\xb5\x2f\xfd"}


class Piece(NamedTuple):
    """Some unpacked bytes. `offset`: where they lie in the file; for a packed file, where their member begins."""

    offset: int
    data: bytes


class Gap(NamedTuple):
    """A stretch of the file that could not be unpacked. `offset`: where the damaged member begins."""

    offset: int
    bytes: int
    reason: str


class Line(NamedTuple):
    """A line without its end; `offset` counts unpacked bytes."""

    offset: int
    data: bytes


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        """Unpacked bytes, and the packed bytes that are left over."""


class _Gzip:
    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        out = self._stream.decompress(data, PIECE)
        return out, self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail


class _Zstd:
    def __init__(self) -> None:
        self._stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()

    @property
    def eof(self) -> bool:
        return bool(self._stream.eof)

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        head, rest = data[: _FEED["zstd"]], data[_FEED["zstd"] :]
        out = self._stream.decompress(head)
        return out, self._stream.unused_data + rest if self._stream.eof else rest


_DECODERS: dict[str, Callable[[], _Decoder]] = {"gzip": _Gzip, "zstd": _Zstd}
_DAMAGE = (zlib.error, zstandard.ZstdError)


def packing_of(head: bytes, named: str | None) -> str | None:
    """How a file is packed, by its first bytes; the name decides only where they say nothing."""
    for packing, magic in _MAGIC.items():
        if head.startswith(magic):
            return packing
    plain = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"<", b"W") or not head
    return None if plain else named


def unpack(file: IO[bytes], size: int, packing: str | None, accept: re.Pattern[bytes]) -> Iterator[Piece | Gap]:
    """The unpacked content of `file` (`size` bytes long), from its present position if it is not packed.

    After damage reading goes on at the next gzip member or zstd frame whose content matches `accept`.
    """
    if packing is None:
        offset = file.tell()
        while data := file.read(PIECE):
            yield Piece(offset, data)
            offset += len(data)
        return
    member = 0
    while member < size:
        file.seek(member)
        ended, reason = yield from _member(file, member, packing)
        if reason is None:
            member = ended
            continue
        file.seek(member)
        if size - member <= PIECE and not file.read().strip(b"\0"):
            return  # zeros behind the last member are padding
        begin = _next_member(file, member + 1, packing, accept)
        yield Gap(member, (begin or size) - member, reason)
        member = begin or size


def _member(file: IO[bytes], member: int, packing: str) -> Generator[Piece, None, tuple[int, str | None]]:
    """Unpack one member; returns where it ended, and None or what is wrong with it."""
    decoder = _DECODERS[packing]()
    position = member
    rest = b""
    while not decoder.eof:
        if not rest:
            rest = file.read(_FEED[packing])
            position += len(rest)
            if not rest:
                return position, f"the file ends inside a {packing} member"
        try:
            data, rest = decoder.step(rest)
        except _DAMAGE as error:
            return position, f"damaged {packing} member ({str(error).split(': ')[-1]})"
        if data:
            yield Piece(member, data)
    return position - len(rest), None


def _next_member(file: IO[bytes], begin: int, packing: str, accept: re.Pattern[bytes]) -> int | None:
    """Where the next member begins whose content matches `accept`, or None."""
    magic = _MAGIC[packing]
    offset, tail = begin, b""
    file.seek(begin)
    while data := file.read(PIECE):
        window = tail + data
        start = offset - len(tail)
        place = window.find(magic)
        while place >= 0:
            if _begins(file, start + place, packing, accept):
                return start + place
            place = window.find(magic, place + 1)
        offset += len(data)
        tail = window[-(len(magic) - 1) :]
        file.seek(offset)
    return None


def _begins(file: IO[bytes], offset: int, packing: str, accept: re.Pattern[bytes]) -> bool:
    file.seek(offset)
    try:
        data, _ = _DECODERS[packing]().step(file.read(_FEED[packing]))
    except _DAMAGE:
        return False
    return bool(accept.match(data))


def lines(pieces: Iterator[Piece | Gap]) -> Iterator[Line | Gap]:
    """Lines of the unpacked content, cut at LF. A line begun before a gap is lost with it."""
    start = 0
    parts: list[bytes] = []
    length = 0
    for piece in pieces:
        if isinstance(piece, Gap):
            start += length
            parts, length = [], 0
            yield piece
            continue
        *ended, open_line = piece.data.split(b"\n")
        for part in ended:
            length += len(part)
            if length > LONGEST:
                yield Gap(start, length, f"a line of {length:,} bytes; at most {LONGEST:,} are read")
            else:
                yield Line(start, b"".join([*parts, part]) if parts else part)
            start += length + 1
            parts, length = [], 0
        length += len(open_line)
        if length > LONGEST:
            parts = []
        elif open_line:
            parts.append(open_line)
    if length > LONGEST:
        yield Gap(start, length, f"a line of {length:,} bytes; at most {LONGEST:,} are read")
    elif length:
        yield Line(start, b"".join(parts))
