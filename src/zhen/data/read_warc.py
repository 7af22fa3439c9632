"""WARC and WET: our own framing, so that no damaged byte passes unnoticed; HTTP bodies are decoded."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from fastwarc.stream_io import BrotliReader

from zhen.data.read import Item, Lost, Page, Skipped
from zhen.data.read_stream import LONGEST, Gap, Piece, packing_of, unpack

_START = re.compile(rb"WARC/\d\.\d{1,2}\r\n")
_LONGEST_HEADER = 1 << 16
_PAGE_TYPES = {"text/html": True, "application/xhtml+xml": True, "text/plain": False}


class Record(NamedTuple):
    """A WARC record: header names in lower case, its block, where it begins in the file and unpacked, its length."""

    offset: int
    start: int
    length: int
    headers: dict[str, str]
    block: bytes


def read(file: IO[bytes], size: int, head: bytes, packing: str | None) -> Iterator[Item]:
    """The pages of a WARC or WET file: responses and resources that are HTML or plain text, and conversions."""
    packing = packing_of(head, packing)
    for record in records(unpack(file, size, packing, _START), packed=packing is not None):
        if isinstance(record, Record):
            yield _item(record, packed=packing is not None)
        else:
            yield record


class _Framer:
    """Cuts the unpacked stream into records. `start` is the unpacked offset of `buffer[0]`."""

    def __init__(self, packed: bool) -> None:
        self.packed = packed
        self.buffer = bytearray()
        self.start = 0
        self.skip = 0
        self.places: list[tuple[int, int]] = []

    def add(self, piece: Piece) -> None:
        self.places.append((self.start + len(self.buffer), piece.offset))
        self.buffer += piece.data

    def offset(self) -> int:
        """Where `buffer[0]` lies in the file (packed: where its member begins)."""
        while len(self.places) > 1 and self.places[1][0] <= self.start:
            self.places.pop(0)
        begin, offset = self.places[0]
        return offset if self.packed else offset + self.start - begin

    def drop(self, count: int) -> None:
        del self.buffer[:count]
        self.start += count

    def lost(self, length: int, reason: str) -> Lost:
        at = self.start if self.packed else self.offset()
        return Lost(at, length, reason, unpacked=self.packed)

    def clear(self) -> None:
        self.drop(len(self.buffer))
        self.skip = 0

    def cut(self, ended: bool) -> Iterator[Record | Lost]:
        """All records that are whole by now; with `ended` what is left over is lost."""
        while self.buffer:
            if self.skip:
                count = min(self.skip, len(self.buffer))
                self.skip -= count
                self.drop(count)
                continue
            blank = len(self.buffer) - len(self.buffer.lstrip(b"\r\n"))
            if blank:
                self.drop(blank)
                continue
            found = self._record(ended)
            if found is None:
                return
            yield found

    def _record(self, ended: bool) -> Record | Lost | None:
        if not _START.match(self.buffer):
            return self._resync(ended)
        end = self.buffer.find(b"\r\n\r\n", 0, _LONGEST_HEADER)
        if end < 0:
            if len(self.buffer) < _LONGEST_HEADER and not ended:
                return None
            return self._broken("WARC header without an end", ended)
        headers = _headers(bytes(self.buffer[:end]))
        length = headers.get("content-length", "")
        if not length.isdigit():
            return self._broken(f"WARC record with Content-Length {length!r}", ended)
        total = end + 4 + int(length)
        if int(length) > LONGEST:
            lost = self.lost(total, f"a WARC record of {int(length):,} bytes; at most {LONGEST:,} are read")
            self.skip = total
            return lost
        if len(self.buffer) < total:
            return self._broken("the file ends inside a WARC record", ended) if ended else None
        record = Record(self.offset(), self.start, total, headers, bytes(self.buffer[end + 4 : total]))
        self.drop(total)
        return record

    def _broken(self, reason: str, ended: bool) -> Lost:
        """Lose the record that begins here, up to the next one that begins."""
        match = _START.search(self.buffer, 1)
        length = match.start() if match else len(self.buffer)
        lost = self.lost(length, reason)
        self.drop(length)
        return lost

    def _resync(self, ended: bool) -> Lost | None:
        match = _START.search(self.buffer)
        if not match and not ended and len(self.buffer) < LONGEST:
            return None
        length = match.start() if match else len(self.buffer)
        lost = self.lost(length, "bytes between WARC records")
        self.drop(length)
        return lost


def records(pieces: Iterator[Piece | Gap], packed: bool) -> Iterator[Record | Lost]:
    """The records of an unpacked stream. Those cut from a member that turns out damaged are lost with it."""
    framer = _Framer(packed)
    ready: list[Record | Lost] = []
    for piece in pieces:
        if isinstance(piece, Gap):
            yield from (item for item in ready if not (isinstance(item, Record) and item.offset == piece.offset))
            ready = []
            framer.clear()
            yield Lost(piece.offset, piece.bytes, piece.reason)
            continue
        yield from ready
        framer.add(piece)
        ready = list(framer.cut(ended=False))
    yield from ready
    if framer.places:
        yield from framer.cut(ended=True)
        if framer.skip:
            yield framer.lost(0, f"the file ends {framer.skip:,} bytes before the end of the record")


def _headers(block: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    name = ""
    for line in block.decode("utf-8", "replace").splitlines()[1:]:
        if line[:1] in (" ", "\t") and name:
            headers[name] += " " + line.strip()
        else:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            headers[name] = value.strip()
    return headers


def _item(record: Record, packed: bool) -> Item:
    kind = record.headers.get("warc-type", "?")
    if kind not in ("response", "resource", "conversion"):
        return Skipped(f"WARC {kind} record")
    wrong = _digest_problem(record)
    if wrong:
        at = record.start if packed else record.offset
        return Lost(at, record.length, wrong, unpacked=packed)
    url = record.headers.get("warc-target-uri", "").strip("<>")
    content_type = record.headers.get("content-type", "")
    body = record.block
    if kind == "response" and content_type.lower().startswith("application/http"):
        try:
            status, content_type, body = _http(record.block)
        except ValueError as error:
            at = record.start if packed else record.offset
            return Lost(at, record.length, str(error), unpacked=packed)
        if status != 200:
            return Skipped(f"HTTP status {status}")
    media, charset = _media(content_type)
    if media not in _PAGE_TYPES:
        return Skipped(f"content of type {media.split('/')[0] or 'unknown'}")
    if _PAGE_TYPES[media]:
        return Page(body, "", url=url, at=record.offset, charset=charset)
    return Page(None, body, url=url, at=record.offset, charset="utf-8" if kind == "conversion" else charset)


def _media(content_type: str) -> tuple[str, str | None]:
    media, _, rest = content_type.partition(";")
    match = re.search(r"charset\s*=\s*[\"']?([\w.:-]+)", rest, re.IGNORECASE)
    return media.strip().lower(), match.group(1) if match else None


def _digest_problem(record: Record) -> str | None:
    """What is wrong with the record's block digest (WARC 1.1, 5.8), or None; unknown algorithms are let pass."""
    algorithm, _, expected = record.headers.get("warc-block-digest", "").partition(":")
    algorithm = algorithm.strip().lower().replace("-", "")
    if algorithm not in ("sha1", "sha256", "sha512", "md5"):
        return None
    digest = hashlib.new(algorithm, record.block, usedforsecurity=False).digest()
    expected = expected.strip()
    if len(expected) == 2 * len(digest):
        return None if expected.lower() == digest.hex() else "the block digest does not match"
    try:
        given = base64.b32decode(expected.upper() + "=" * (-len(expected) % 8))
    except binascii.Error:
        return None
    return None if given == digest else "the block digest does not match"


def _http(block: bytes) -> tuple[int, str, bytes]:
    """Status, content type, decoded body of an HTTP response. Raises ValueError saying what is wrong with it."""
    end = re.search(rb"\r?\n\r?\n", block)
    if not block.startswith(b"HTTP/") or not end:
        raise ValueError("the response is not HTTP")
    head, body = block[: end.start()], block[end.end() :]
    status = re.match(rb"HTTP/\S+\s+(\d{3})", head)
    headers = _headers(head)
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = _dechunk(body)
    for encoding in reversed(headers.get("content-encoding", "").lower().split(",")):
        body = _decode(body, encoding.strip())
    return int(status.group(1)) if status else 0, headers.get("content-type", ""), body


def _dechunk(body: bytes) -> bytes:
    """RFC 9112, 7.1. A body that does not begin with a chunk was stored unchunked, as many archives do."""
    parts: list[bytes] = []
    place = 0
    while True:
        end = body.find(b"\n", place)
        size = body[place : max(end, place)].split(b";")[0].strip()
        if end < 0 or not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size):
            if place == 0:
                return body
            raise ValueError("the HTTP body ends inside its chunks")
        count = int(size, 16)
        if count == 0:
            return b"".join(parts)
        chunk = body[end + 1 : end + 1 + count]
        if len(chunk) < count:
            raise ValueError("the HTTP body ends inside a chunk")
        parts.append(chunk)
        place = end + 1 + count
        place += 2 if body[place : place + 2] == b"\r\n" else 1


def _decode(body: bytes, encoding: str) -> bytes:
    """Undo one Content-Encoding; a body without the mark of its packing was stored unpacked."""
    if encoding in ("gzip", "x-gzip") and body.startswith(b"\x1f\x8b"):
        return _inflate(body, 31, encoding)
    if encoding == "deflate" and body:
        return _inflate(body, 15 if body[0] & 0x0F == 8 else -15, encoding)
    if encoding == "br" and body:
        try:
            return bytes(BrotliReader(io.BytesIO(body)).read(LONGEST))
        except OSError as error:
            raise ValueError(f"the HTTP body is no {encoding}: {error}") from error
    return body


def _inflate(body: bytes, wbits: int, encoding: str) -> bytes:
    stream = zlib.decompressobj(wbits=wbits)
    try:
        out = stream.decompress(body, LONGEST)
    except zlib.error as error:
        raise ValueError(f"the HTTP body is damaged {encoding} ({str(error).split(': ')[-1]})") from error
    if not stream.eof:
        raise ValueError(f"the HTTP body ends inside its {encoding} stream, or is longer than {LONGEST:,} bytes")
    return out
