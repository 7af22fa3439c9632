"""The document record: one Arrow schema from the readers to the shards, a document's id, reading documents back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zhen.errors import ZhenError

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


def document_files(folder: Path) -> list[Path]:
    """The Parquet files directly in `folder`, in order of their names; empty where there is no such folder."""
    return sorted(folder.glob("*.parquet"))


def count_documents(files: Sequence[Path]) -> int:
    """Rows of all `files`, read from their footers. Raises ZhenError for a file that is not readable Parquet."""
    total = 0
    for path in files:
        try:
            total += pq.read_metadata(path).num_rows
        except (OSError, pa.ArrowException) as error:
            raise _damaged(path, error) from error
    return total


def read_documents(path: Path, columns: Sequence[str], rows: int = 256) -> Iterator[Any]:
    """The rows of one file in order, as Arrow record batches of at most `rows`; memory stays that of a row group.

    Raises ZhenError for a file that is not readable Parquet or lacks one of `columns`.
    """
    try:
        with pq.ParquetFile(path) as file:
            if missing := [name for name in columns if name not in file.schema_arrow.names]:
                raise ZhenError(f"has no column {', '.join(missing)}", expected="a file of documents", file=path)
            yield from file.iter_batches(batch_size=rows, columns=list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ZhenError:
    return ZhenError(
        f"cannot be read as Parquet: {error}".splitlines()[0],
        file=path,
        hint="remove the folder of the stage that wrote it; that stage is then gone over again",
    )
