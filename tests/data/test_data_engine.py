"""The engine: jobs in processes, queries in order, errors and deaths; the same bytes on a Ray cluster."""

from __future__ import annotations

import importlib.util
import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data_run
import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhen.data import engine
from zhen.data.scan import scan_unit
from zhen.errors import ZhenError

KILLED = -9


def test_each_job_is_answered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(data_run.__file__).parent))
    answers = engine.map_units(data_run.double, [str(number) for number in range(7)], workers=2)
    assert sorted(map(int, answers)) == [0, 2, 4, 6, 8, 10, 12]
    assert list(engine.map_units(data_run.double, [], workers=2)) == []


def test_an_error_in_a_worker_is_told_as_it_was(tmp_path: Path) -> None:
    job = {
        "unit": {"index": 0, "parts": []},
        "sources": [],
        "folder": str(tmp_path / "a"),
        "extract": {},
        "hashed": [],
    }
    (tmp_path / "a").write_text("a file where a folder should be")
    with pytest.raises(ZhenError, match="could not be read or written"):
        list(engine.map_units(scan_unit, [msgspec.json.encode(job).decode()], workers=1))


@settings(max_examples=5, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 3)), min_size=1, max_size=50))
def test_a_query_is_sorted_by_its_keys(pairs: list[tuple[int, int]]) -> None:
    table = pa.table({"key": pa.array([key for key, _ in pairs], pa.uint64()), "value": [value for _, value in pairs]})

    def build(numbers: Any) -> Any:
        return numbers.groupby("key").agg(numbers["value"].sum().alias("sum"))

    found = engine.query(build, {"numbers": table}, ["key"])
    sums: dict[int, int] = {}
    for key, value in pairs:
        sums[key] = sums.get(key, 0) + value
    assert list(zip(found["key"].to_pylist(), found["sum"].to_pylist(), strict=True)) == sorted(sums.items())


def test_no_worker_outlives_its_parent(start: Callable, tmp_path: Path) -> None:
    assert start(linger=str(tmp_path)).returncode == KILLED
    workers = {int(path.name.split("-")[1]) for path in tmp_path.glob("*-*")}
    assert len(workers) == 2
    for worker in workers:
        try:
            handle = os.pidfd_open(worker)
        except ProcessLookupError:
            continue
        assert select.select([handle], [], [], 10)[0], "a worker still runs"
        os.close(handle)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is not installed")
def test_a_ray_cluster_makes_the_same_bytes(start: Callable, sources: tuple, whole: Path, tmp_path: Path) -> None:
    asked = {"sources": [msgspec.to_builtins(source) for source in sources], "folder": str(tmp_path)}
    done = start(**asked, cluster=True)
    assert done.returncode == 0, done.stderr
    assert data_run.results(tmp_path) == data_run.results(whole)
