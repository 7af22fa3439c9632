"""JSON lines and the packings: each defect of a collection of bad files costs what it must, and is told."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from zhen.data.read import Lost, Page, Window
from zhen.data.read_any import read_file
from zhen.data.settings import Columns
from zhen.data.sources import file_format

WHOLE = {
    "duplicate-ids",
    "duplicate-key",
    "bom",
    "crlf",
    "blank-lines",
    "no-final-newline",
    "line-separators",
    "nul-and-controls",
    "multi-member",
    "multi-frame",
    "not-zstd",
}
ONE_LOST = {
    "invalid-utf8": "UTF-8",
    "truncated-multibyte": "JSON",
    "not-json-line": "JSON",
    "array-record": "object",
    "missing-text": "no 'text'",
    "text-not-string": "int",
    "text-null": "null",
    "lone-surrogate": "surrogate",
    "deep-nesting": "deeply",
}


def read(path: Path, window: Window | None = None) -> tuple[list[Page], list[Lost]]:
    kind, packing = file_format(path.name)
    items = list(read_file(path, kind, packing, Columns(), window))
    return [item for item in items if isinstance(item, Page)], [item for item in items if isinstance(item, Lost)]


def test_every_defect_costs_what_it_must(shared_data: Path) -> None:
    folder = shared_data / "dirty" / "jsonl"
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["files"]:
        name = entry["file"].split(".")[0]
        pages, lost = read(folder / entry["file"])
        if name in WHOLE:
            assert (len(pages), lost) == (manifest["records_in_the_undamaged_file"], []), name
        elif name in ONE_LOST:
            assert len(pages) == manifest["records_in_the_undamaged_file"] - 1, name
            assert [ONE_LOST[name] in each.reason for each in lost] == [True], name


@pytest.mark.parametrize("name", ["truncated.jsonl.gz", "truncated.jsonl.zst", "corrupt.jsonl.gz", "utf16.jsonl"])
def test_damage_to_the_stream_is_told_up_to_the_end_of_the_file(shared_data: Path, name: str) -> None:
    path = shared_data / "dirty" / "jsonl" / name
    _, lost = read(path)
    assert len(lost) == 1
    assert lost[0].offset + lost[0].bytes == path.stat().st_size


def test_an_empty_file_and_a_pointer_are_lost(shared_data: Path) -> None:
    _, lost = read(shared_data / "dirty" / "jsonl" / "empty.jsonl")
    assert [each.reason for each in lost] == ["empty file"]
    pointer = next((shared_data / "dirty" / "lfs-pointers").rglob("*.model"))
    lost = list(read_file(pointer, "text", None, Columns(), None))
    assert "Git LFS pointer" in lost[0].reason


def test_a_lost_line_is_found_at_its_offset(tmp_path: Path) -> None:
    data = b'{"text": "a"}\n{"text": 5}\n{"text": "b"}\n'
    (tmp_path / "a.jsonl").write_bytes(data)
    pages, (lost,) = read(tmp_path / "a.jsonl")
    assert data[lost.offset : lost.offset + lost.bytes] == b'{"text": 5}'
    assert [page.at for page in pages] == [0, data.index(b'{"text": "b"}')]


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_reading_goes_on_behind_a_damaged_member(tmp_path: Path, packing: str) -> None:
    pack = gzip.compress if packing == "gz" else zstandard.ZstdCompressor(write_checksum=True).compress
    members = [pack(b'{"text": "%d"}\n' % number) for number in range(5)]
    middle = bytearray(members[2])
    middle[-5] ^= 0xFF
    path = tmp_path / f"a.jsonl.{packing}"
    path.write_bytes(b"".join([*members[:2], bytes(middle), *members[3:]]))
    pages, lost = read(path)
    assert [page.text for page in pages] in (["0", "1", "3", "4"], ["0", "1", "2", "3", "4"])
    assert [(each.offset, each.bytes) for each in lost] == [(len(members[0]) * 2, len(middle))]


def test_a_packed_bomb_is_lost_without_filling_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.zst"
    line = b'{"text": "' + b"a" * (80 << 20) + b'"}\n'
    path.write_bytes(zstandard.compress(line + b'{"text": "small"}\n'))
    pages, lost = read(path)
    assert [page.text for page in pages] == ["small"]
    assert [each.bytes for each in lost] == [len(line) - 1]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("ab 中\u2028", max_size=8), min_size=1, max_size=12), st.integers(1, 40))
def test_windows_divide_the_lines(tmp_path_factory: pytest.TempPathFactory, texts: list[str], size: int) -> None:
    path = tmp_path_factory.mktemp("w") / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")
    length = path.stat().st_size
    bounds = [*range(0, length, size), length]
    found = [page.text for begin, end in pairwise(bounds) for page in read(path, Window(begin, end))[0]]
    assert found == texts
