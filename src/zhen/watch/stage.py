"""One stage that trains, as its files tell it: curves, events, samples, and how it stands."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zhen.formats.metrics import EVENTS, METRICS, SAMPLES
from zhen.formats.record import RECORD
from zhen.watch.table import Table, number
from zhen.watch.tail import Tail

TABLES = ("train", "held_out", "groups", "machine")

QUIET_SECONDS = 60.0
"""How long the files may stay as they are before a stage is called silent, at least; else QUIET_TIMES the longest that
they ever did."""

QUIET_TIMES = 4.0

_RECENT = 100
"""Updates over which loss, rate and time left are taken."""

_ENDINGS = {"finished", "stopped", "failed"}
_GIVEN = ("steps", "tokens_per_step", "flops_per_token", "peak_flops")


class StageFiles:
    """Follows a stage's folder. `refresh` reads what is new; `since` gives a page what it lacks."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._metrics = Tail(folder / METRICS)
        self._happened = Tail(folder / EVENTS)
        self._generation = 0
        self._events_generation = 0
        self._tables = {name: Table() for name in TABLES}
        self._tables["train"] = Table(spread=("loss", "gradient_norm"))
        self.events: list[dict[str, Any]] = []
        self._samples: list[dict[str, Any]] = []
        self._samples_bytes = b""
        self._samples_version = 0
        self._finished = False
        self._grown_at = 0.0
        self._forget()

    def _forget(self) -> None:
        """Back to before the first row of the metrics."""
        self._given: dict[str, float] = {}
        self._attempts = 0
        self._clock: float | None = None
        self._elapsed = 0.0
        self._longest = 0.0
        self._recent: deque[tuple[int, float, dict[str, Any]]] = deque(maxlen=_RECENT)
        self._last: dict[str, dict[str, Any]] = {}
        for table in self._tables.values():
            table.clear()

    def refresh(self, now: float) -> None:
        """Read what is new; `now`: seconds of a clock that never goes back."""
        rows = self._metrics.read()
        if self._metrics.generation != self._generation:
            self._generation = self._metrics.generation
            self._forget()
        for row in rows:
            self._take(row)
        happened = self._happened.read()
        if self._happened.generation != self._events_generation:
            self._events_generation = self._happened.generation
            self.events = []
        self.events += happened
        self._read_samples()
        if not self._finished and (record := _json(self.folder / RECORD)):
            self._finished = True
            if not self.events:  # the folder of a version that wrote none
                self.events = [{"step": None, **each, **each.get("data", {})} for each in record.get("events", [])]
        if rows or happened or not self._grown_at:
            self._grown_at = now

    def state(self, now: float) -> str:
        """`finished`, `stopped`, `failed`, `silent` (nothing was written for long), or `running`."""
        if self._finished:
            return "finished"
        for event in reversed(self.events):
            if event.get("kind") in _ENDINGS:
                return str(event["kind"])
            if event.get("kind") == "started":
                break
        quiet = max(QUIET_SECONDS, QUIET_TIMES * self._longest)
        return "silent" if now - self._grown_at > quiet else "running"

    def since(self, known: Mapping[str, Any], now: float) -> dict[str, Any]:
        """What a page lacks that has `known`: by table (generation, rows), of the events, the samples' version."""
        found: dict[str, Any] = {
            "stage": self.name,
            "folder": self.folder.name,
            "state": self.state(now),
            "given": self._given,
            "facts": self._facts(now),
            "tables": {name: table.since(*_pair(known.get(name))) for name, table in self._tables.items()},
        }
        generation, count = _pair(known.get("events"))
        start = count if generation == self._events_generation and count <= len(self.events) else 0
        found["events"] = {"generation": self._events_generation, "from": start, "rows": self.events[start:]}
        if known.get("samples") != self._samples_version:
            found["samples"] = {"version": self._samples_version, "rows": self._samples}
        return found

    def _take(self, row: dict[str, Any]) -> None:
        """A row of the metrics."""
        kind, step = row.get("kind"), row.get("step")
        if not isinstance(step, int):
            return
        self._pass_time(row)
        place = {"step": step, "elapsed": self._elapsed}
        self._last[str(kind)] = row
        if kind == "start":
            self._attempts += 1
            self._given |= {name: value for name in _GIVEN if (value := number(row.get(name))) is not None}
        elif kind == "train":
            self._given.setdefault("tokens_per_step", (number(row.get("tokens")) or 0) / max(step, 1))
            names = ("loss", "learning_rate", "gradient_norm", "tokens_per_second", "mfu")
            self._tables["train"].add({**place, **{name: row.get(name) for name in names}})
            self._recent.append((step, self._elapsed, row))
        elif kind == "held-out":
            self._tables["held_out"].add({**place, **_table(row.get("bits_per_byte"))})
        elif kind == "groups":
            parts = ((what, values) for what, values in row.items() if isinstance(values, dict))
            flat = {f"{what}.{group}": value for what, values in parts for group, value in values.items()}
            self._tables["groups"].add({**place, **flat})
        elif kind == "machine":
            self._tables["machine"].add({**place, **{name: row[name] for name in row if name not in _FRAME}})

    def _pass_time(self, row: Mapping[str, Any]) -> None:
        """How long has been trained, over all attempts and without the time between them.

        Taken from the differences of the writer's own clock; where it was set back, or where rows bear no time, from
        what the updates took.
        """
        clock, spent = number(row.get("time")), number(row.get("seconds")) or 0.0
        if clock is not None:
            if row.get("kind") == "start":
                spent = 0.0
            elif self._clock is not None and clock >= self._clock:
                spent = clock - self._clock
            self._clock = clock
        self._elapsed += spent
        self._longest = max(self._longest, spent)

    def _facts(self, now: float) -> dict[str, Any]:
        """What stands above the curves."""
        facts: dict[str, Any] = {"attempts": self._attempts, "elapsed": self._elapsed, "quiet": now - self._grown_at}
        if self._recent:
            (first, begun, _), (step, ended, newest) = self._recent[0], self._recent[-1]
            losses = [value for _, _, row in self._recent if (value := number(row.get("loss"))) is not None][-20:]
            facts |= {"step": step, "tokens": newest.get("tokens"), "mfu": newest.get("mfu")}
            facts |= {"loss": sum(losses) / len(losses) if losses else None, "rate": newest.get("tokens_per_second")}
            if step > first and "steps" in self._given:
                facts["left"] = (self._given["steps"] - step) * (ended - begun) / (step - first)
        if "held-out" in self._last:
            facts["bits"] = _table(self._last["held-out"].get("bits_per_byte"))
        if "machine" in self._last:
            facts["machine"] = {name: v for name, v in self._last["machine"].items() if name not in _FRAME}
        troubles = [tail.error for tail in (self._metrics, self._happened) if tail.error]
        return facts | {"unreadable": self._metrics.unreadable + self._happened.unreadable, "errors": troubles}

    def _read_samples(self) -> None:
        try:
            data = (self.folder / SAMPLES).read_bytes()
        except OSError:
            return
        if data != self._samples_bytes:
            tail = Tail(self.folder / SAMPLES)
            self._samples_bytes, self._samples = data, tail.read()
            self._samples_version += 1


_FRAME = frozenset({"step", "kind", "time"})


def _pair(value: object) -> tuple[int, int]:
    """A (generation, count) that a page sent; one that fits nothing where it is no such thing."""
    match value:
        case [int(generation), int(count)]:
            return generation, count
    return -1, 0


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _json(path: Path) -> dict[str, Any] | None:
    """A small JSON file, or None while it is not there or not whole."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
