"""Columns of numbers over the steps of a run, thinned as they grow, so that a page can draw them however long it is."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Value = float | None

PLACES = ("step", "elapsed")
"""Where a row stands: of these a thinned row has the last, of all others the mean."""

LIMIT = 1600
"""Rows beyond which each two become one. Even."""

_DIGITS = 7


class Table:
    """Rows of numbers by name. A row stands for `stride` readings; a column of `spread` also has their least and most,
    as `name.low` and `name.high`, so that a spike is seen however far a run is thinned."""

    def __init__(self, spread: Sequence[str] = ()) -> None:
        self._spread = tuple(spread)
        self._columns: dict[str, list[Value]] = {}
        self._count = 0
        self._open: list[dict[str, Value]] = []
        self.stride = 1
        self.generation = 0
        """Raised when rows that were given out were replaced."""

    def clear(self) -> None:
        """Forget all rows."""
        self._columns, self._count, self._open, self.stride = {}, 0, [], 1
        self.generation += 1

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a reading; what is no finite number counts as missing."""
        reading = {name: number(value) for name, value in row.items()}
        for name in self._spread:
            reading[f"{name}.low"] = reading[f"{name}.high"] = reading.get(name)
        self._open.append(reading)
        if len(self._open) == self.stride:
            self._append(self._merged(self._open))
            self._open = []
        if self._count == LIMIT:
            self._halve()

    def since(self, generation: int, count: int) -> dict[str, Any]:
        """For a reader who has `count` rows of `generation`: what it lacks, as `from` and `columns`.

        `tail` holds the row that is not full yet, if any.
        """
        start = count if generation == self.generation and 0 <= count <= self._count else 0
        columns = {name: [_short(value) for value in column[start:]] for name, column in self._columns.items()}
        tail = {name: _short(value) for name, value in self._merged(self._open).items()} if self._open else {}
        return {"generation": self.generation, "from": start, "count": self._count, "columns": columns, "tail": tail}

    def _append(self, row: Mapping[str, Value]) -> None:
        for name in row:
            if name not in self._columns:
                self._columns[name] = [None] * self._count
        for name, column in self._columns.items():
            column.append(row.get(name))
        self._count += 1

    def _halve(self) -> None:
        self._columns = {
            name: [_merge(name)(column[at : at + 2]) for at in range(0, self._count, 2)]
            for name, column in self._columns.items()
        }
        self._count //= 2
        self.stride *= 2
        self.generation += 1

    def _merged(self, rows: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: _merge(name)([row.get(name) for row in rows]) for name in names}


def _merge(name: str) -> Callable[[Sequence[Value]], Value]:
    """How the values of a column become one."""
    if name in PLACES:
        return lambda values: values[-1]
    pick: Callable[[list[float]], float] = _mean
    if name.endswith(".low"):
        pick = min
    elif name.endswith(".high"):
        pick = max

    def merge(values: Sequence[Value]) -> Value:
        known = [value for value in values if value is not None]
        return pick(known) if known else None

    return merge


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def number(value: object) -> Value:
    """A finite number as it is, anything else as None."""
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > sys.float_info.max:
        return None
    return value if value == value else None  # a NaN equals nothing


def _short(value: Value) -> Value:
    """With as many digits as can be seen."""
    return value if value is None or isinstance(value, int) else float(f"{value:.{_DIGITS}g}")
