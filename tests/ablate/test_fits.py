"""Comparisons and fits beside scipy's own, and on laws that are known."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from zhen.ablate.mixture import fit_mixture
from zhen.ablate.page import write_pages
from zhen.ablate.points import spread
from zhen.ablate.results import ALL, Outcome, PointResult, compare, with_mean
from zhen.ablate.run import Ablation
from zhen.ablate.scaling import fit_law, fit_scaling
from zhen.ablate.words import verdict
from zhen.errors import ZhenError

Losses = list[dict[str, float]]


def point(name: str, losses: Losses, **more: float | dict[str, float]) -> PointResult:
    """A point whose runs, seeds 1, 2, …, came to these bits per byte by language."""
    outcomes = [Outcome(seed=seed, bits_per_byte=with_mean(found)) for seed, found in enumerate(losses, 1)]
    given = {"parameters": 1, "tokens": 1, "flops": 1.0, "shares": {}} | more
    return PointResult(name=name, set={}, kv_bytes_per_token=1, outcomes=outcomes, **given)  # type: ignore[arg-type]


SEEDS = st.lists(st.tuples(st.floats(0.5, 4), st.floats(-0.1, 0.1)), min_size=2, max_size=6)


@given(SEEDS)
def test_a_difference_is_scipys_paired_one(pairs: list[tuple[float, float]]) -> None:
    first = point("first", [{"en": base} for base, _ in pairs])
    other = point("other", [{"en": base + more} for base, more in pairs])
    differences = [
        b.bits_per_byte["en"] - a.bits_per_byte["en"] for a, b in zip(first.outcomes, other.outcomes, strict=True)
    ]
    found = compare([first, other], "en")[0]
    assert found.difference == pytest.approx(statistics.fmean(differences))
    if statistics.stdev(differences) < 1e-9:
        return
    theirs = stats.ttest_1samp(differences, 0)
    low, high = theirs.confidence_interval(0.95)
    assert found.half_width == pytest.approx((high - low) / 2)
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.verdict == "not told apart") == (low <= 0 <= high)


def test_the_verdict_says_with_which_seeds_a_point_diverged() -> None:
    losses: Losses = [{"en": 2.0}, {"en": 2.1}, {"en": 1.9}]
    points = [point("first", losses), point("part", losses), point("whole", [{}] * 3)]
    gone = msgspec.structs.replace(points[1].outcomes[1], bits_per_byte={}, diverged="step 3: the loss is nan")
    lost = [msgspec.structs.replace(each, diverged="step 1: the loss is nan") for each in points[2].outcomes]
    points[1] = msgspec.structs.replace(
        points[1], outcomes=[points[1].outcomes[0], gone, points[1].outcomes[2]], set={"a" * 90: 1}
    )
    points[2] = msgspec.structs.replace(points[2], outcomes=lost)
    told = verdict(points, compare(points, ALL))
    assert "diverged: whole." in told
    assert "Diverged with some seeds, and compared by the others: part with seed 2 of 3." in told
    assert "部分种子发散，仅按其余种子比较：part（3 个种子中的 2）。" in told.zh
    assert "some seeds" not in verdict(points[::2], compare(points[::2], ALL))


def test_named_points_are_drawn_beside_the_first_with_their_intervals(tmp_path: Path) -> None:
    first = point("first", [{"en": 2.0}, {"en": 2.1}, {"en": 1.9}])
    points = [first, point("<better>", [{"en": 1.90}, {"en": 1.99}, {"en": 1.81}])]
    found = Ablation(name="a", command=[], seeds=[1, 2, 3], points=points, comparisons=compare(points, ALL))
    write_pages(found, tmp_path)
    page = (tmp_path / "ablation.html").read_text(encoding="utf-8")
    assert "bits a byte more than first" in page
    assert "每字节比特数，与 first 之差" in page
    assert "&lt;better&gt;</text>" in page  # the name in the drawing
    assert "| -0.1 | ± 0.025 |" in (tmp_path / "ablation.md").read_text(encoding="utf-8")


def test_more_comparisons_ask_for_wider_intervals() -> None:
    first = point("first", [{"en": 2.0}, {"en": 2.1}, {"en": 1.9}])
    better = point("better", [{"en": 1.90}, {"en": 1.99}, {"en": 1.81}])
    alone = compare([first, better], "en")[0]
    among = compare([first, better, *(point(f"other {n}", [{"en": 2.0}] * 3) for n in range(9))], "en")[0]
    assert alone.half_width is not None
    assert among.half_width is not None
    assert among.half_width > 2 * alone.half_width
    assert alone.verdict == "lower"


def test_one_seed_and_divergence_are_no_verdict() -> None:
    first, other = point("first", [{"en": 2.0}]), point("other", [{"en": 1.0}])
    gone = PointResult(
        name="gone",
        set={},
        shares={},
        parameters=1,
        tokens=1,
        flops=1,
        kv_bytes_per_token=1,
        outcomes=[Outcome(seed=1, bits_per_byte={}, diverged="step 3")],
    )
    assert [each.verdict for each in compare([first, other, gone], "en")] == ["one seed", "diverged"]
    assert [each.verdict for each in compare([gone, other, gone], "en")] == ["no pair", "diverged"]


@given(st.integers(2, 6), st.integers(1, 60), st.floats(0.001, 0.15))
def test_mixtures_are_spread_over_the_simplex(sources: int, count: int, least: float) -> None:
    rows = np.array(spread(sources, count, least))
    assert rows.shape == (count, sources)
    assert np.allclose(rows.sum(axis=1), 1)
    assert rows.min() >= least - 1e-12


def test_mixtures_fill_the_simplex_evenly() -> None:
    """Each third of the triangle by its nearest corner holds a third of the points; drawn at random ± 9 would do."""
    rows = np.array(spread(3, 300, 0.01))
    counts = np.bincount(rows.argmax(axis=1), minlength=3)
    assert np.abs(counts - 100).max() <= 5


def truth(shares: NDArray[np.float64]) -> dict[str, float]:
    """Three sources: one of each language, and one that helps both a little."""
    return {
        "en": float(1.5 + 0.8 * np.exp(-3 * shares[0] - shares[2])),
        "zh": float(1.4 + np.exp(-2.5 * shares[1] - 0.5 * shares[2])),
    }


def test_the_search_finds_a_known_best_mixture() -> None:
    noise = np.random.default_rng(1)
    proxies = []
    for number, shares in enumerate(np.array(spread(3, 14, 0.05))):
        losses = {lang: value + float(noise.normal(0, 0.004)) for lang, value in truth(shares).items()}
        named = dict(zip("abc", map(float, shares), strict=True))
        proxies.append(point(str(number), [losses], shares=named))
    fit = fit_mixture(proxies, 0.05)
    best = min(statistics.fmean(truth(shares).values()) for shares in np.array(spread(3, 4000, 0.05)))
    found = statistics.fmean(truth(np.array(list(fit.shares.values()))).values())
    assert found - best < 0.004
    assert fit.low <= found <= fit.high
    assert fit.high - fit.low < 0.05


def test_too_few_proxies_are_refused() -> None:
    proxies = [point(str(n), [{"en": 1.0}], shares={"a": 0.5, "b": 0.5}) for n in range(3)]
    with pytest.raises(ZhenError, match="3 runs"):
        fit_mixture(proxies, 0.05)


def chinchilla(parameters: float, tokens: float) -> float:
    """The law that runs are made by here."""
    return 1.7 + 400 / parameters**0.34 + 410 / tokens**0.28


SIZES, LENGTHS = (1e6, 3e6, 1e7, 3e7), (1e7, 3e7, 1e8, 3e8)


def test_a_law_without_noise_is_found_again() -> None:
    table = np.array([(n, d, chinchilla(n, d)) for n in SIZES for d in LENGTHS])
    law = fit_law(*table.T)
    assert (law.e, law.alpha, law.beta) == pytest.approx((1.7, 0.34, 0.28), rel=1e-3)
    assert (law.a, law.b) == pytest.approx((400, 410), rel=2e-2)


@pytest.fixture
def runs() -> Callable[[float], list[PointResult]]:
    """Runs with relative noise of that size, the largest without any."""

    def made(noise: float) -> list[PointResult]:
        drawn = np.random.default_rng(2)
        found = [
            point(
                f"{n:g}-{d:g}",
                [{"en": chinchilla(n, d) * (1 + noise * float(drawn.normal()))}],
                parameters=n,
                tokens=d,
                flops=6 * n * d,
            )
            for n in SIZES
            for d in LENGTHS[:3]
        ]
        largest = point("largest", [{"en": chinchilla(1e8, 3e8)}], parameters=1e8, tokens=3e8, flops=1.8e17)
        return [largest, *found]

    return made


def test_the_largest_run_is_predicted_and_not_fitted(runs: Callable[[float], list[PointResult]]) -> None:
    fit = fit_scaling(runs(0.002))
    assert fit.held_out == "largest"
    assert fit.larger == pytest.approx(10)
    assert fit.found == pytest.approx(chinchilla(1e8, 3e8))
    assert fit.inside
    assert (fit.high - fit.low) / 2 / fit.predicted < 0.03
    wrong = [runs(0.002)[0], *runs(0.002)[1:]]
    wrong[0] = point("largest", [{"en": 1.2 * chinchilla(1e8, 3e8)}], parameters=1e8, tokens=3e8, flops=1.8e17)
    again = fit_scaling(wrong)
    assert again.predicted == fit.predicted
    assert again.inside is False


def test_a_law_asks_for_sizes_and_lengths() -> None:
    same = [point(str(n), [{"en": 1.0}], parameters=5, tokens=n + 1, flops=float(n)) for n in range(9)]
    with pytest.raises(ZhenError, match="8 runs of 1 sizes"):
        fit_scaling(same)


def test_the_mean_counts_each_language_once() -> None:
    assert with_mean({"en": 1.0, "zh": 2.0})[ALL] == 1.5
    assert with_mean({}) == {}
