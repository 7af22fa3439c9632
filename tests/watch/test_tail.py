"""Following a file that another process writes, cuts back, replaces, or that is not there."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from zhen.watch.tail import Tail


def line(step: int, mark: str = "") -> bytes:
    return json.dumps({"step": step, "mark": mark}).encode() + b"\n"


def steps(rows: list[dict[str, int]]) -> list[int]:
    return [row["step"] for row in rows]


def test_rows_come_once_and_a_half_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert tail.read() == []
    path.write_bytes(line(1) + line(2)[:7])
    assert steps(tail.read()) == [1]
    assert tail.read() == []
    path.write_bytes(line(1) + line(2) + line(3))
    assert steps(tail.read()) == [2, 3]
    assert (tail.generation, tail.unreadable, tail.error) == (0, 0, "")


def test_a_file_cut_back_and_grown_again_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    path.write_bytes(b"".join(line(step, "first") for step in range(10)))
    tail.read()
    # longer than before, when it is looked at next
    path.write_bytes(b"".join(line(step, "first" if step < 5 else "again") for step in range(20)))
    assert steps(tail.read()) == list(range(20))
    assert tail.generation == 1
    path.write_bytes(line(0, "first"))
    assert steps(tail.read()) == [0]
    assert tail.generation == 2


def test_times_and_sizes_that_lie_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    path.write_bytes(line(1))
    os.utime(path, (0, 0))
    tail.read()
    path.write_bytes(line(1) + line(2))
    os.utime(path, (0, 0))
    assert steps(tail.read()) == [2]


def test_lines_that_are_no_rows_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(line(1) + b"\x00\x00\x00\n" + b"[1]\n" + b"\xff\xfe\n" + line(2))
    tail = Tail(path)
    assert steps(tail.read()) == [1, 2]
    assert tail.unreadable == 3


def test_what_can_not_be_read_is_said_and_forgotten_when_it_can(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.mkdir()
    tail = Tail(path)
    assert tail.read() == []
    assert tail.error
    path.rmdir()
    path.write_bytes(line(1))
    assert steps(tail.read()) == [1]
    assert tail.error == ""


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 400), max_size=8))
def test_in_whatever_pieces_it_is_written_every_row_comes_once(tmp_path_factory: object, cuts: list[int]) -> None:
    path = tmp_path_factory.mktemp("tail") / "metrics.jsonl"  # type: ignore[attr-defined]
    whole = b"".join(line(step, "真" * (step % 5)) for step in range(12))
    tail, found = Tail(path), []
    for end in [*sorted(cuts), len(whole)]:
        path.write_bytes(whole[:end])
        found += steps(tail.read())
    assert found == list(range(12))
