"""Parquet: row group by row group; a damaged one is lost alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from zhen.data.read import Item, Lost, page_from
from zhen.data.settings import Columns


def read(file: IO[bytes], size: int, columns: Columns) -> Iterator[Item]:
    """The pages of a Parquet file; `at` is the row's number."""
    try:
        table = pq.ParquetFile(file)
        names = table.schema_arrow.names
    except (pa.ArrowException, OSError, ValueError) as error:
        yield Lost(0, size, f"no Parquet file, or damaged: {_first_line(error)}")
        return
    wanted = [columns.text, columns.html] if columns.text or columns.html else ["text", "html"]
    used = [name for name in (*wanted, columns.url, columns.license) if name in names]
    if not any(name in names for name in wanted):
        missing = " or ".join(repr(name) for name in wanted if name)
        yield Lost(0, size, f"no column {missing}; there are {', '.join(names[:12])}")
        return
    row = 0
    for group in range(table.num_row_groups):
        meta = table.metadata.row_group(group)
        done = 0
        try:
            for batch in table.iter_batches(256, row_groups=[group], columns=used):
                for values in batch.to_pylist():
                    page = page_from(values, columns, row + done)
                    yield Lost(row + done, 0, f"row {row + done}: {page}") if isinstance(page, str) else page
                    done += 1
        except (pa.ArrowException, OSError, ValueError) as error:
            lost = meta.num_rows - done
            yield Lost(
                meta.column(0).file_offset,
                meta.total_byte_size * lost // max(meta.num_rows, 1),
                f"row group {group} is damaged, {lost:,} rows lost: {_first_line(error)}",
            )
        row += meta.num_rows


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
