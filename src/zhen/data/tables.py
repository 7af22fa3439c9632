"""Parquet tables of a unit: written by a worker under a name of its own, renamed by the parent alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zhen.formats.files import TEMPORARY, Digest, HashingFile, sync_folder

_ZSTD_LEVEL = 3


class PartFile:
    """A file under a temporary name, hashed while written and synced when closed; removed when writing fails."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}-{path.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.temporary.open("wb")
        self.hashing = HashingFile(self._file)

    def write(self, data: bytes) -> None:
        """Write all of `data`."""
        self.hashing.write(data)

    @property
    def digest(self) -> Digest:
        """Size and SHA-256, final once it is closed."""
        return self.hashing.digest

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()
            if kind is not None:
                self.temporary.unlink(missing_ok=True)


class PartTable:
    """A Parquet table in a PartFile; each call of `write` is a row group."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.file = PartFile(path)
        self._schema = schema
        self._writer = pq.ParquetWriter(
            self.file.hashing, schema, compression="zstd", compression_level=_ZSTD_LEVEL, store_schema=True
        )

    def write(self, data: Sequence[Any] | pa.RecordBatch) -> None:
        """Write a row group: the columns in the schema's order, or a record batch."""
        if not isinstance(data, pa.RecordBatch):
            arrays = [pa.array(column, field.type) for column, field in zip(data, self._schema, strict=True)]
            data = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        if data.num_rows:
            self._writer.write_batch(data, row_group_size=data.num_rows)

    def __enter__(self) -> PartTable:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self._writer.close()
        self.file.__exit__(kind, *rest)


def publish(folder: Path, temporary: Mapping[str, str]) -> None:
    """Give finished files their names (output -> temporary name, below `folder`), durably."""
    for output, name in temporary.items():
        os.replace(folder / name, folder / output)
    for parent in sorted({(folder / output).parent for output in temporary}):
        sync_folder(parent)
