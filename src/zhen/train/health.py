"""Watches a run: numbers that are not finite stop it, a rate that stays low is said."""

from __future__ import annotations

import math
from collections import deque

from zhen.errors import ZhenError

_WINDOW = 8
"""Steps over which a rate is taken."""

LONG_SECONDS = 20.0
"""How long the rate must stay below half of its best before it is said."""


class Diverged(ZhenError):
    """Training came to a loss or a gradient that is no number."""


def require_finite(step: int, loss: float, gradient_norm: float) -> None:
    """Raise Diverged when the loss or the gradient of update `step` is infinite or not a number."""
    for what, value in (("loss", loss), ("gradient norm", gradient_norm)):
        if not math.isfinite(value):
            raise Diverged(
                f"the {what} is {value}",
                expected="a finite number; the weights were not updated",
                place=f"step {step:,}",
                hint="lower pretrain.learning_rate or pretrain.gradient_clip, or lengthen pretrain.warmup_steps",
            )


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
