"""Columns that are thinned as they grow: nothing is lost that is seen, and a reader gets what it lacks."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhen.watch import table
from zhen.watch.table import Table


class Reader:
    """A page: keeps what it was given."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = {}
        self.known = (-1, 0)

    def ask(self, source: Table) -> dict[str, list[Any]]:
        found = source.since(*self.known)
        if found["from"] == 0:
            self.columns = {}
        for name, values in found["columns"].items():
            self.columns.setdefault(name, [None] * found["from"]).extend(values)
        self.known = found["generation"], found["count"]
        tail = found["tail"]
        return {name: [*values, *([tail[name]] if tail else [])] for name, values in self.columns.items()}


def test_a_short_run_is_given_as_it_is() -> None:
    made, reader = Table(), Reader()
    for step in range(100):
        made.add({"step": step, "elapsed": step / 2, "loss": 1 / (step + 1)})
        if step % 7 == 0:
            reader.ask(made)
    columns = reader.ask(made)
    assert columns["step"] == list(range(100))
    assert columns["loss"] == pytest.approx([1 / (step + 1) for step in range(100)], rel=1e-6)


def test_a_long_run_keeps_its_mean_and_its_spikes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "LIMIT", 64)
    made = Table(spread=("loss",))
    values = [9.0 if step == 1234 else math.sin(step) for step in range(4096)]
    for step, value in enumerate(values):
        made.add({"step": step, "elapsed": float(step), "loss": value})
    columns = Reader().ask(made)
    assert len(columns["step"]) <= 64
    assert columns["step"][-1] == 4095
    assert max(columns["loss.high"]) == 9.0
    assert min(columns["loss.low"]) == pytest.approx(min(values), abs=1e-6)
    assert math.fsum(columns["loss"]) / len(columns["loss"]) == pytest.approx(math.fsum(values) / 4096, rel=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    asked=st.sets(st.integers(0, 300)),
    missing=st.sets(st.integers(0, 300)),
    late=st.integers(0, 300),
)
def test_asking_in_pieces_gives_what_asking_once_gives(asked: set[int], missing: set[int], late: int) -> None:
    before, table.LIMIT = table.LIMIT, 32
    try:
        made, often = Table(spread=("loss",)), Reader()
        for step in range(301):
            row: dict[str, float | None] = {"step": step, "elapsed": step * 2.0}
            row["loss"] = None if step in missing else float(step)
            if step >= late:
                row["zh"] = 1.0
            made.add(row)
            if step in asked:
                often.ask(made)
        assert often.ask(made) == Reader().ask(made)
    finally:
        table.LIMIT = before


def test_what_is_no_number_is_missing() -> None:
    made = Table()
    for value in (math.nan, math.inf, "3", True, None, 2.0):
        made.add({"step": 1, "loss": value})
    assert Reader().ask(made)["loss"] == [None] * 5 + [2.0]
