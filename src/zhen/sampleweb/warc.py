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

REASONS = {200: "OK", 404: "Not Found"}
SHORT = 40
"""Bytes by which a damaged record's block or length is wrong."""


def write_warcinfo(file: HashingFile, host: str) -> None:
    """The record that opens a WARC file."""
    body = f"software: zhen sampleweb\r\nformat: WARC File Format 1.1\r\nisPartOf: {host}\r\n".encode()
    _write(file, "warcinfo", host, [("WARC-Filename", f"{host}.warc.gz")], "application/warc-fields", body)


def write_response(
    file: HashingFile, url: str, html: bytes, charset: str | None = "utf-8", status: int = 200, damage: str = ""
) -> int:
    """A page as the answer of its server. Returns the bytes of the HTTP message.

    `damage`: `cut-member` ends the gzip member early, `wrong-digest` changes the block under its digest,
    `wrong-length` names a length that is short of the block's.
    """
    label = f"; charset={charset}" if charset else ""
    head = (
        f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: text/html{label}\r\nContent-Length: {len(html)}\r\n\r\n"
    )
    block = head.encode("ascii") + html
    fields = [("WARC-Target-URI", url), ("WARC-Payload-Digest", _digest(html))]
    _write(file, "response", url, fields, "application/http; msgtype=response", block, damage)
    return len(block)


def _write(
    file: HashingFile,
    kind: str,
    name: str,
    fields: list[tuple[str, str]],
    content_type: str,
    block: bytes,
    damage: str = "",
) -> None:
    content = hashlib.blake2b(f"{kind}\n{name}\n".encode() + block, digest_size=16).digest()
    lines = [
        ("WARC-Type", kind),
        ("WARC-Record-ID", f"<urn:uuid:{uuid.UUID(bytes=content, version=4)}>"),
        ("WARC-Date", DATE),
        *fields,
        ("WARC-Block-Digest", _digest(block)),
        ("Content-Type", content_type),
        ("Content-Length", str(len(block) - (SHORT if damage == "wrong-length" else 0))),
    ]
    if damage == "wrong-digest":
        block = block[:-SHORT] + b"?" * SHORT
    head = "WARC/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in lines) + "\r\n"
    packer = zlib.compressobj(6, zlib.DEFLATED, GZIP_WINDOW)
    member = packer.compress(head.encode("utf-8") + block + b"\r\n\r\n") + packer.flush()
    file.write(member[: len(member) * 2 // 3] if damage == "cut-member" else member)


def _digest(data: bytes) -> str:
    """`sha1:` and base 32, as crawlers write it."""
    return "sha1:" + base64.b32encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode("ascii")
