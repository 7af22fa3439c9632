"""What an ablation found: figures of every run, means over seeds, and how sure the differences are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from scipy import stats

ALL = "all"
"""The mean over the languages, each counted once."""

CONFIDENCE = 0.95


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One run: a point with one seed."""

    seed: int
    bits_per_byte: dict[str, float]
    """On held-out text at the end, by language, `all` among them; empty where training diverged."""
    tokens_per_second: float | None = None
    diverged: str = ""
    """Where the loss stopped being a number."""


class PointResult(msgspec.Struct, frozen=True, kw_only=True):
    """A point with its runs."""

    name: str
    set: dict[str, Any]
    shares: dict[str, float]
    """Tokens by source, where the recipe says."""
    parameters: int
    tokens: int
    flops: float
    """Of the whole training, causal attention counted once."""
    kv_bytes_per_token: int
    """Of a cache in 16 bits."""
    outcomes: list[Outcome]

    def values(self, language: str) -> dict[int, float]:
        """Seed -> bits per byte, of the runs that came to an end."""
        return {each.seed: each.bits_per_byte[language] for each in self.outcomes if language in each.bits_per_byte}

    def mean(self, language: str) -> float | None:
        """Over the seeds."""
        values = list(self.values(language).values())
        return statistics.fmean(values) if values else None

    def spread(self, language: str) -> float | None:
        """Standard deviation over the seeds."""
        values = list(self.values(language).values())
        return statistics.stdev(values) if len(values) > 1 else None

    def rate(self) -> float | None:
        """Tokens a second, the median of the runs."""
        rates = [each.tokens_per_second for each in self.outcomes if each.tokens_per_second]
        return statistics.median(rates) if rates else None


Verdict = Literal["lower", "higher", "not told apart", "one seed", "no pair", "diverged"]
"""`no pair`: the two came to an end with no seed in common."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A point beside the first one, in bits per byte of one language."""

    point: str
    language: str
    difference: float | None
    """Mean over the seeds that both have: this point minus the first."""
    half_width: float | None
    """Of the interval that holds the difference with CONFIDENCE, for all comparisons of a language at once."""
    p: float | None
    """Of no difference, before that correction."""
    verdict: Verdict


def compare(points: Sequence[PointResult], language: str) -> list[Comparison]:
    """Every point beside the first: paired by seed, Student's t; intervals by Bonferroni for all at once.

    Runs of one seed read the same sequences in the same order, so what the seed does to both falls away.
    """
    first, others = points[0], points[1:]
    return [_comparison(first, other, language, len(others)) for other in others]


def _comparison(first: PointResult, other: PointResult, language: str, count: int) -> Comparison:
    mine, its = first.values(language), other.values(language)
    differences = [its[seed] - mine[seed] for seed in its if seed in mine]

    def told(
        verdict: Verdict, difference: float | None = None, half: float | None = None, p: float | None = None
    ) -> Comparison:
        return Comparison(
            point=other.name, language=language, difference=difference, half_width=half, p=p, verdict=verdict
        )

    if not differences:
        return told("no pair" if its else "diverged")
    mean = statistics.fmean(differences)
    if len(differences) == 1:
        return told("one seed", mean)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    free = len(differences) - 1
    half = float(stats.t.ppf(1 - (1 - CONFIDENCE) / 2 / count, free)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, free)) if error else float(mean == 0)
    verdict: Verdict = "not told apart" if abs(mean) <= half else "lower" if mean < 0 else "higher"
    return told(verdict, mean, half, p)


def languages(points: Sequence[PointResult]) -> list[str]:
    """Those that all runs measured, `all` first."""
    found = [outcome.bits_per_byte for point in points for outcome in point.outcomes if outcome.bits_per_byte]
    names = set(found[0]).intersection(*found) if found else set()
    return [ALL, *sorted(names - {ALL})] if names else []


def with_mean(bits_per_byte: Mapping[str, float]) -> dict[str, float]:
    """The languages' bits per byte and their mean."""
    return {ALL: statistics.fmean(bits_per_byte.values()), **bits_per_byte} if bits_per_byte else {}
