"""Watches a run: updates that are no numbers are skipped or end it; spikes and a rate that stays low are said."""

from __future__ import annotations

import faulthandler
import statistics
from collections import deque
from math import isfinite

from zhen.errors import ZhenError
from zhen.train.settings import Health

_WINDOW = 8
"""Steps over which a rate is taken."""

LONG_SECONDS = 20.0
"""How long the rate must stay below half of its best before it is said."""


SPIKE_WINDOW = 128
SPIKE_LEAST = 32
"""Updates that a loss is compared with: at most, at least."""

SPIKE_HEIGHT = 6.0
"""Standard deviations above the median from which on it is a spike (OLMo's rule of 6 deviations over 128 steps)."""

SPIKE_FLOOR = 0.005
"""A deviation counts as at least this share of the median, so that a smooth curve has no spikes."""


class Diverged(ZhenError):
    """Training came to a loss or a gradient that is no number."""


class Skips:
    """What is done about updates whose loss or gradient is no finite number."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._row = 0

    def due(self, step: int, loss: float, gradient_norm: float) -> bool:
        """Whether update `step` is to be left out. Raises Diverged where that ends the run."""
        found = [f"the {w} is {v}" for w, v in (("loss", loss), ("gradient norm", gradient_norm)) if not isfinite(v)]
        self._row = self._row + 1 if found else 0
        if not found:
            return False
        if self._health.non_finite == "skip" and self._row < self._health.skips_in_a_row:
            return True
        raise Diverged(
            f"{found[0]}{f', {self._row} updates in a row' if self._row > 1 else ''}",
            expected="a finite number; the weights were not updated",
            place=f"step {step:,}",
            hint="lower pretrain.learning_rate or pretrain.gradient_clip, or lengthen pretrain.warmup_steps",
        )


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
    """Tells which losses stand out from the ones before: by median and median deviation, which spikes don't move."""

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=SPIKE_WINDOW)

    def height(self, loss: float) -> float | None:
        """Take in a loss. Returns how many deviations it lies above the median, where that is a spike."""
        before = sorted(self._losses)
        self._losses.append(loss)
        if len(before) < SPIKE_LEAST:
            return None
        middle = statistics.median(before)
        deviation = 1.4826 * statistics.median(abs(each - middle) for each in before)  # of a normal distribution
        height = (loss - middle) / max(deviation, SPIKE_FLOOR * abs(middle), 1e-12)
        return height if height > SPIKE_HEIGHT else None


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
