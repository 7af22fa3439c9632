"""Parquet: texts and pages by column; damaged row groups and wrong columns are told."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zhen.data.read import Lost, Page
from zhen.data.read_any import read_file
from zhen.data.settings import Columns


def read(path: Path, columns: Columns | None = None) -> tuple[list[Page], list[Lost]]:
    items = list(read_file(path, "parquet", None, columns or Columns(), None))
    return [item for item in items if isinstance(item, Page)], [item for item in items if isinstance(item, Lost)]


def table(path: Path, **columns: list) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=10, compression="zstd")
    return path


def test_rows_become_pages_and_nulls_are_lost(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", text=["a", None, "c"], url=["u", "v", None], license=["MIT", "MIT", None])
    pages, lost = read(path)
    assert [(page.text, page.url, page.license) for page in pages] == [("a", "u", "MIT"), ("c", "", "")]
    assert [each.reason for each in lost] == ["row 1: text is null"]


def test_named_columns_are_taken(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", body=["a"], where=["u"], page=[b"<p>x</p>"])
    assert read(path, Columns(text="body", url="where"))[0] == [Page(None, "a", url="u")]
    assert read(path, Columns(html="page"))[0] == [Page(b"<p>x</p>", "")]


def test_a_missing_or_wrong_column_is_told(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", body=["a"], text=[5])
    assert "int" in read(path)[1][0].reason
    assert "no column 'content'; there are body, text" in read(path, Columns(text="content"))[1][0].reason


def test_a_file_cut_short_is_lost_whole(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", text=["a" * 100] * 50)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    pages, (lost,) = read(path)
    assert pages == []
    assert lost.bytes == len(data) // 2


def test_a_damaged_row_group_is_lost_alone(tmp_path: Path) -> None:
    texts = [f"text number {n}, which is long enough to be packed" for n in range(40)]
    path = table(tmp_path / "a.parquet", text=texts)
    start = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    begin = start.data_page_offset if start.dictionary_page_offset is None else start.dictionary_page_offset
    data[begin : begin + start.total_compressed_size] = bytes(start.total_compressed_size)
    path.write_bytes(bytes(data))
    pages, lost = read(path)
    assert [page.text for page in pages] == texts[:10] + texts[20:]
    assert "10 rows lost" in lost[0].reason


def test_real_pages_are_read(shared_data: Path) -> None:
    for path in sorted((shared_data / "web").glob("*.parquet")):
        pages, lost = read(path)
        assert (len(pages), lost) == (pq.ParquetFile(path).metadata.num_rows, [])
