"""WARC 1.1 response records, a gzip member each, whose bytes depend on their content alone."""

from __future__ import annotations

import base64
import hashlib
import uuid
import zlib

from zhen.formats.files import HashingFile

DATE = "2026-01-01T00:00:00Z"
"""When everything was fetched: the web has no time of its own."""

GZIP_WINDOW = 31
"""zlib's wbits for a gzip wrapper; zlib then writes 0 for the time."""


def write_warcinfo(file: HashingFile, host: str) -> None:
    """The record that opens a WARC file."""
    body = f"software: zhen sampleweb\r\nformat: WARC File Format 1.1\r\nisPartOf: {host}\r\n".encode()
    _write(file, "warcinfo", host, [("WARC-Filename", f"{host}.warc.gz")], "application/warc-fields", body)


def write_response(file: HashingFile, url: str, html: bytes, content_type: str = "text/html; charset=utf-8") -> int:
    """A page as the answer of its server. Returns the bytes of the HTTP message."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(html)}\r\n\r\n"
    block = head.encode("ascii") + html
    fields = [("WARC-Target-URI", url), ("WARC-Payload-Digest", _digest(html))]
    _write(file, "response", url, fields, "application/http; msgtype=response", block)
    return len(block)


def _write(
    file: HashingFile, kind: str, name: str, fields: list[tuple[str, str]], content_type: str, block: bytes
) -> None:
    content = hashlib.blake2b(f"{kind}\n{name}\n".encode() + block, digest_size=16).digest()
    lines = [
        ("WARC-Type", kind),
        ("WARC-Record-ID", f"<urn:uuid:{uuid.UUID(bytes=content, version=4)}>"),
        ("WARC-Date", DATE),
        *fields,
        ("WARC-Block-Digest", _digest(block)),
        ("Content-Type", content_type),
        ("Content-Length", str(len(block))),
    ]
    head = "WARC/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in lines) + "\r\n"
    packer = zlib.compressobj(6, zlib.DEFLATED, GZIP_WINDOW)
    file.write(packer.compress(head.encode("utf-8") + block + b"\r\n\r\n") + packer.flush())


def _digest(data: bytes) -> str:
    """`sha1:` and base 32, as crawlers write it."""
    return "sha1:" + base64.b32encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode("ascii")
