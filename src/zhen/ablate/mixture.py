"""The search for a mixture: a law fitted to small runs, and its best mixture with an interval to be confirmed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from zhen.ablate.points import spread
from zhen.ablate.results import ALL, CONFIDENCE, PointResult
from zhen.errors import ZhenError

Array = NDArray[np.float64]

_STARTS = 8
_CANDIDATES = 2_000
REDRAWN = 200
"""Bootstrap samples behind every interval."""


class MixtureFit(msgspec.Struct, frozen=True, kw_only=True):
    """The mixture that the law takes for the best, and what it promises of it."""

    shares: dict[str, float]
    predicted: float
    """Bits per byte, the mean over the languages."""
    low: float
    high: float
    """Between them a further run at `shares` should come out, with 95 % confidence."""
    error: float
    """Root of the mean squared difference between law and proxies, each left out in turn, in bits per byte."""
    found: list[float] = []
    """What the confirming runs came to."""

    @property
    def confirmed(self) -> bool | None:
        """Whether their mean is within the interval; None before them."""
        return self.low <= float(np.mean(self.found)) <= self.high if self.found else None


class MixingLaw:
    """Loss of one language = c + k · exp(Σ t_i · share_i) (Ye et al. 2024, "Data Mixing Laws", equation 6).

    Of the shares all but the last are used, as they add up to 1.
    """

    def __init__(self, shares: Array, losses: Array) -> None:
        """Fit by least squares; shares [n, sources], losses [n] in bits per byte."""
        x = shares[:, :-1]
        low, high = float(losses.min()), float(losses.max())
        scale = max(high - low, 1e-6)

        def residual(at: Array) -> Array:
            return np.asarray(at[0] + np.exp(np.clip(at[1] + x @ at[2:], -30, 30)) - losses) / scale

        best = None
        generator = np.random.default_rng(0)
        for start in range(_STARTS):
            slopes = generator.normal(0, 3 if start else 0.1, x.shape[1])
            found = least_squares(residual, np.r_[low - scale / 2, np.log(scale), slopes], method="trf", max_nfev=400)
            best = found if best is None or found.cost < best.cost else best
        assert best is not None
        self._at = best.x

    def __call__(self, shares: Array) -> Array:
        """shares [n, sources] -> bits per byte [n]."""
        return np.asarray(self._at[0] + np.exp(np.clip(self._at[1] + shares[:, :-1] @ self._at[2:], -30, 30)))


def fit_mixture(points: Sequence[PointResult], least: float) -> MixtureFit:
    """Fit the law to each language, and find the mixture whose mean over the languages is lowest.

    The interval is from bootstrap over residuals: the fit's own uncertainty at that mixture and the scatter of a
    single run together. Raises ZhenError where there are fewer runs than the law has numbers.
    """
    runs = [point for point in points if point.mean(ALL) is not None]
    names = list(runs[0].shares) if runs else []
    if len(runs) < len(names) + 2:
        raise ZhenError(
            f"{len(runs)} runs with a result", expected=f"at least {len(names) + 2}", place="ablate.mixture.proxies"
        )
    shares = np.array([[point.shares[name] for name in names] for point in runs])
    languages = [name for name in runs[0].outcomes[0].bits_per_byte if name != ALL]
    losses = np.array([[point.outcomes[0].bits_per_byte[name] for name in languages] for point in runs])
    candidates = np.array(spread(len(names), _CANDIDATES, least))
    laws = [MixingLaw(shares, losses[:, column]) for column in range(len(languages))]
    expected = np.mean([law(candidates) for law in laws], axis=0)
    best = candidates[[int(expected.argmin())]]
    # residuals of a fit are smaller than the scatter of what it did not see, by the numbers that it spent
    freedom = len(runs) / (len(runs) - len(names) - 1)
    residuals = np.stack([losses[:, i] - law(shares) for i, law in enumerate(laws)], axis=1) * np.sqrt(freedom)
    fitted = losses - residuals
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(REDRAWN):
        again = fitted + residuals[generator.integers(len(runs), size=len(runs))]
        value = np.mean([MixingLaw(shares, again[:, i])(best)[0] for i in range(len(languages))])
        drawn.append(float(value + residuals[generator.integers(len(runs))].mean()))
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return MixtureFit(
        shares={name: float(share) for name, share in zip(names, best[0], strict=True)},
        predicted=float(expected.min()),
        low=float(low),
        high=float(high),
        error=_left_out(shares, losses),
    )


def _left_out(shares: Array, losses: Array) -> float:
    """Each run predicted from the others: root mean square of the mean over languages."""
    squares = []
    for row in range(len(shares)):
        others = np.arange(len(shares)) != row
        laws = [MixingLaw(shares[others], losses[others, column]) for column in range(losses.shape[1])]
        squares.append((np.mean([law(shares[[row]])[0] for law in laws]) - losses[row].mean()) ** 2)
    return float(np.sqrt(np.mean(squares)))
