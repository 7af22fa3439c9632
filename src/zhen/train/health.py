"""Watches a run: judges its updates by loss and gradient; tells a rate that stays low; ends what stands still."""

from __future__ import annotations

import faulthandler
import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from heapq import nlargest
from math import isfinite, log
from typing import Any, NamedTuple

from zhen.errors import ZhenError
from zhen.train.settings import Health

_WINDOW = 8
"""Steps over which a rate is taken."""

LONG_SECONDS = 20.0
"""How long the rate must stay below half of its best before it is said."""


SPIKE_WINDOW = 128
SPIKE_LEAST = 32
"""Updates that a loss or a gradient norm is compared with: at most, at least."""

TAIL_WINDOW = 1024
"""Updates whose heights above the median tell how far up values reach that are no spikes."""

TAIL_RANK = 9
"""By the so many-th highest of them: eight spikes don't move it, as many as are left out in a row."""

SPIKE_FLOOR = 0.005
"""A deviation counts as at least this share of the median, so that a smooth curve has no spikes."""

GRADIENT_FLOOR = 0.02
"""The same for the logarithm of the gradient norm."""


class Diverged(ZhenError):
    """Training came to a loss or a gradient that is no number."""


class Rewind(Exception):
    """Training is to go back to before an update; never leaves the stage."""

    def __init__(self, update: int) -> None:
        """`update`: the number, from 1, of the first one that stood out."""
        super().__init__(f"back to before update {update}")
        self.update = update


class Spike(NamedTuple):
    """A value that stands out from those before."""

    what: str
    """`loss` or `gradient norm`."""
    value: float
    deviations: float
    """How many it lies above the median."""


class Verdict(NamedTuple):
    """What is to become of an update."""

    skip: bool = False
    spike: Spike | None = None


class Guard:
    """Judges every update before it is made, by nothing but its loss and gradient norm and those before.

    These are the same on all processes, so all judge alike. Its state goes into training checkpoints, so that a run
    that goes on from one judges as if it had never stopped.
    """

    def __init__(self, health: Health) -> None:
        self._health = health
        self._watched = {"loss": SpikeWatch(health.spike_deviations)}
        self._watched["gradient norm"] = SpikeWatch(health.spike_deviations, logarithm=True)
        self._not_finite = 0
        """Updates in a row."""
        self._spikes = 0
        """The same, but for those without a finite number in between."""
        self._since = 0
        """The first of them."""
        self.rewinds = 0
        """Made so far in the run."""

    def judge(self, update: int, loss: float, gradient_norm: float) -> Verdict:
        """What is to become of an update. Raises Diverged where it ends the run, Rewind where that goes back."""
        values = {"loss": loss, "gradient norm": gradient_norm}
        if found := [f"the {what} is {value}" for what, value in values.items() if not isfinite(value)]:
            self._not_finite += 1
            return self._not_a_number(update, found[0])
        self._not_finite = 0
        heights = {what: self._watched[what].height(value) for what, value in values.items()}
        spike = next((Spike(what, values[what], height) for what, height in heights.items() if height), None)
        if spike is None:
            self._spikes = 0
            return Verdict()
        self._since = self._since if self._spikes else update
        self._spikes += 1
        health = self._health
        if health.spike == "rewind" and self._spikes >= health.rewind_after and self.rewinds < health.rewinds:
            raise Rewind(self._since)
        return Verdict(health.spike == "skip" and self._spikes <= health.skips_in_a_row, spike)

    def _not_a_number(self, update: int, found: str) -> Verdict:
        if self._health.non_finite == "skip" and self._not_finite < self._health.skips_in_a_row:
            return Verdict(skip=True)
        raise Diverged(
            f"{found}{f', {self._not_finite} updates in a row' if self._not_finite > 1 else ''}",
            expected="a finite number; the weights were not updated",
            place=f"step {update:,}",
            hint="lower learning_rate or gradient_clip, or lengthen warmup_steps",
        )

    def state(self) -> dict[str, Any]:
        """All that its judgements depend on (JSON)."""
        return {
            "watched": {what: watch.state() for what, watch in self._watched.items()},
            "not_finite": self._not_finite,
            "spikes": self._spikes,
            "since": self._since,
            "rewinds": self.rewinds,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave, but for the rewinds: how many were made is not undone by one."""
        for what, watch in self._watched.items():
            watch.load(state["watched"][what])
        self._not_finite, self._spikes, self._since = state["not_finite"], state["spikes"], state["since"]


class Watchdog:
    """Ends this process when an update takes too long, and writes where each of its threads stood to standard error.

    It is a thread of the interpreter's own that needs none of Python's locks, so that it works where all others wait
    for a collective that never ends. For runs of several processes, which torchrun begins anew.
    """

    def __init__(self, seconds: float | None) -> None:
        """`seconds` for an update and what is due after it; None: never."""
        self._seconds = seconds

    def beat(self) -> None:
        """An update begins."""
        if self._seconds is not None:
            faulthandler.dump_traceback_later(self._seconds, exit=True)

    def end(self) -> None:
        """No more updates."""
        if self._seconds is not None:
            faulthandler.cancel_dump_traceback_later()


class SpikeWatch:
    """Tells which values stand out from the ones before, by a median and a deviation that spikes don't move.

    The deviation is the median one, or what the upper tail tells, where that is more: batches of very different pages
    have losses far above the median now and then, and the next one as far up is no spike.
    """

    def __init__(self, limit: float, logarithm: bool = False) -> None:
        """`limit`: deviations above the median; `logarithm`: they are taken of the values' logarithms."""
        self._limit = limit
        self._logarithm = logarithm
        self._before: deque[float] = deque(maxlen=SPIKE_WINDOW)
        self._above: deque[float] = deque(maxlen=TAIL_WINDOW)
        """Heights above the median of their time."""

    def state(self) -> dict[str, list[float]]:
        """What the next value is compared with (JSON)."""
        return {"before": list(self._before), "above": list(self._above)}

    def load(self, state: Mapping[str, Iterable[float]]) -> None:
        """Take over what `state` gave."""
        self._before.clear()
        self._before.extend(state["before"])
        self._above.clear()
        self._above.extend(state["above"])

    def height(self, value: float) -> float | None:
        """Take in a value. Returns how many deviations it lies above the median, where that is a spike."""
        scaled = log(max(value, 1e-30)) if self._logarithm else value
        before = sorted(self._before)
        self._before.append(scaled)
        if len(before) < SPIKE_LEAST:
            return None
        middle = statistics.median(before)
        deviation = 1.4826 * statistics.median(abs(each - middle) for each in before)  # of a normal distribution
        floor = GRADIENT_FLOOR if self._logarithm else SPIKE_FLOOR * abs(middle)
        height = (scaled - middle) / max(deviation, self._tail(), floor, 1e-12)
        self._above.append(scaled - middle)
        return height if height > self._limit else None

    def _tail(self) -> float:
        """The deviation of a normal distribution with as much above the median; 0 while too few values are known."""
        if (count := len(self._above)) < 4 * TAIL_RANK:
            return 0.0
        return nlargest(TAIL_RANK, self._above)[-1] / statistics.NormalDist().inv_cdf(1 - TAIL_RANK / count)


class RateWatch:
    """Tells when the rate stays under half of the best that this process has seen."""

    def __init__(self) -> None:
        self._recent: deque[tuple[int, float]] = deque(maxlen=_WINDOW)
        self._best = 0.0
        self._slow_seconds = 0.0
        self._said = False

    def slow(self, tokens: int, seconds: float) -> tuple[float, float] | None:
        """Take in a step. Returns (rate, best rate) in tokens/s once, when a slow stretch has become long."""
        self._recent.append((tokens, seconds))
        if len(self._recent) < _WINDOW:
            return None
        rate = sum(count for count, _ in self._recent) / sum(spent for _, spent in self._recent)
        self._best = max(self._best, rate)
        if rate >= self._best / 2:
            self._slow_seconds, self._said = 0.0, False
            return None
        self._slow_seconds += seconds
        if self._said or self._slow_seconds < LONG_SECONDS:
            return None
        self._said = True
        return rate, self._best
