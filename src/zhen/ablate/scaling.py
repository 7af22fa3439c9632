"""A scaling law fitted to the points of an ablation, and the prediction of the largest, which the fit has not seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, nnls

from zhen.ablate.results import ALL, CONFIDENCE, PointResult
from zhen.errors import ZhenError

Array = NDArray[np.float64]

_EXPONENTS = np.linspace(0.05, 1.2, 24)
_HUBER = 1e-3
"""On the logarithm of the loss (Hoffmann et al. 2022, appendix D.3)."""
REDRAWN = 200


class Law(msgspec.Struct, frozen=True, kw_only=True):
    """Loss = e + a / N^alpha + b / D^beta (Hoffmann et al. 2022, equation 2); N parameters, D tokens."""

    e: float
    a: float
    b: float
    alpha: float
    beta: float

    def __call__(self, parameters: Array, tokens: Array) -> Array:
        """Bits per byte [n]."""
        return np.asarray(self.e + self.a / parameters**self.alpha + self.b / tokens**self.beta)


class ScalingFit(msgspec.Struct, frozen=True, kw_only=True):
    """The law, and how well it told of the run that it had not seen."""

    law: Law
    error: float
    """Root mean square of the relative residuals."""
    held_out: str
    """The point of most FLOPs."""
    larger: float
    """Its FLOPs as a multiple of the largest that was fitted."""
    predicted: float
    low: float
    high: float
    """The 95 % interval by bootstrap over runs, scatter of a single run included."""
    found: float | None

    @property
    def inside(self) -> bool | None:
        """Whether what was found is within the interval; None where that run has no result."""
        return self.low <= self.found <= self.high if self.found is not None else None


def fit_law(parameters: Array, tokens: Array, losses: Array) -> Law:
    """Fit by variable projection: a search over the two exponents alone, e, a, b ≥ 0 solved for at each by least
    squares, reweighted to Huber's loss on the logarithm. float64[n] each. No local minima of five unknowns.
    """

    def solved(exponents: Array) -> tuple[float, Array]:
        alpha, beta = exponents
        # columns of one size: the solver's tolerance is absolute
        columns = np.stack(
            [np.ones_like(losses), (parameters / parameters[0]) ** -alpha, (tokens / tokens[0]) ** -beta], axis=1
        )
        weights = 1 / losses
        for _ in range(4):
            found, _ = nnls(columns * weights[:, None], losses * weights)
            residual = np.log(np.maximum(columns @ found, 1e-12) / losses)
            weights = np.sqrt(np.minimum(1.0, _HUBER / np.maximum(np.abs(residual), 1e-12))) / losses
        size = np.abs(residual)
        cost = np.where(size <= _HUBER, size**2 / 2, _HUBER * (size - _HUBER / 2)).sum()
        return float(cost), found

    start = min(((x, y) for x in _EXPONENTS for y in _EXPONENTS), key=lambda at: solved(np.array(at))[0])
    bounds = [(0.01, 2.0)] * 2
    fine = minimize(
        lambda at: 1e6 * solved(at)[0],
        start,
        method="Nelder-Mead",
        bounds=bounds,
        options={"xatol": 1e-5, "fatol": 1e-9},
    )
    alpha, beta = fine.x
    e, a, b = solved(fine.x)[1]
    return Law(
        e=float(e),
        a=float(a * parameters[0] ** alpha),
        b=float(b * tokens[0] ** beta),
        alpha=float(alpha),
        beta=float(beta),
    )


def require_runs(sizes: Iterable[float], lengths: Iterable[float]) -> None:
    """Raises ZhenError unless runs of these parameters and tokens, the largest left out, are enough for a law."""
    sizes, lengths = list(sizes), list(lengths)
    if len(sizes) < 6 or min(len(set(sizes)), len(set(lengths))) < 2:
        raise ZhenError(
            f"{len(sizes)} runs of {len(set(sizes))} sizes and {len(set(lengths))} lengths",
            expected="six or more, of two sizes and two lengths at least, beside the largest",
            place="ablate.scaling",
        )


def fit_scaling(points: Sequence[PointResult]) -> ScalingFit:
    """Fit all points but the one of most FLOPs, and predict that. N is what a point's model has in all.

    Raises ZhenError for fewer than six other runs or for one size or one length alone.
    """
    largest = max(points, key=lambda point: point.flops)
    rows = [
        (point.parameters, point.tokens, outcome.bits_per_byte[ALL])
        for point in points
        if point is not largest
        for outcome in point.outcomes
        if outcome.bits_per_byte
    ]
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    sizes, lengths, losses = table.T
    require_runs(sizes, lengths)
    law = fit_law(sizes, lengths, losses)
    at = np.array([float(largest.parameters)]), np.array([float(largest.tokens)])
    left = np.log(losses / law(sizes, lengths))
    residuals = left * np.sqrt(len(rows) / max(1, len(rows) - 5))  # of what a fit did not see they are larger
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(REDRAWN):
        chosen = generator.integers(len(rows), size=len(rows))
        again = law(sizes, lengths) * np.exp(residuals[chosen])
        drawn.append(float(fit_law(sizes, lengths, again)(*at)[0] * np.exp(residuals[generator.integers(len(rows))])))
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return ScalingFit(
        law=law,
        error=float(np.sqrt(np.mean(left**2))),
        held_out=largest.name,
        larger=largest.flops / max(point.flops for point in points if point is not largest),
        predicted=float(law(*at)[0]),
        low=float(low),
        high=float(high),
        found=largest.mean(ALL),
    )
