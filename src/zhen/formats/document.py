"""The document record: one Arrow schema from the readers to the shards, and a document's id."""

from __future__ import annotations

import hashlib

import pyarrow as pa

ID_BYTES = 16

SCHEMA = pa.schema(
    [
        ("id", pa.binary(ID_BYTES)),
        ("text", pa.large_string()),
        ("url", pa.string()),
        ("source", pa.string()),
        ("lang", pa.string()),
        ("license", pa.string()),
        ("meta", pa.string()),
    ]
)
"""`id` may repeat (the same page twice); `lang` is an ISO 639-1 code or `und`; `meta` is a JSON object."""


def document_id(url: str, text: str) -> bytes:
    """BLAKE2b-128 of url and text, with a NUL between them (16 bytes)."""
    digest = hashlib.blake2b(digest_size=ID_BYTES)
    digest.update(url.encode("utf-8", "surrogatepass"))
    digest.update(b"\0")
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.digest()
