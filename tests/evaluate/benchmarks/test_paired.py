"""Differences between two models on the same items: beside scipy, and with items that share a passage."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from scipy import stats

from zhen.evaluate.harness.paired import paired_rows
from zhen.evaluate.items import Item

ITEM = Item(
    task="t", part="", id=0, cluster="", doc_hash="", prompt_hash="", target_hash="", shots=[], prompts=[], choices=[],
    logprobs=[], greedy=[], output="", extracted={}, target="", scores={}, chance=None, context_tokens=0,
    truncated=False,
)  # fmt: skip


def items(scores: list[float], clusters: list[int] | None = None) -> list[Item]:
    places = clusters or list(range(len(scores)))
    return [
        msgspec.structs.replace(ITEM, id=at, doc_hash=str(at), cluster=str(place), scores={"acc": score})
        for at, (score, place) in enumerate(zip(scores, places, strict=True))
    ]


def paired(first: list[Item], second: list[Item]) -> dict[str, float]:
    (row,) = paired_rows({"a": first, "b": second}, {"t": "acc"})
    return row


def test_the_test_is_scipys_on_independent_items() -> None:
    random = np.random.default_rng(3)
    first = (random.random(500) < 0.5).astype(float)
    second = np.where(random.random(500) < 0.2, 1.0, first)
    row = paired(items(first.tolist()), items(second.tolist()))
    theirs = stats.ttest_rel(second, first)
    assert row["n"] == 500
    assert row["difference"] == pytest.approx(second.mean() - first.mean(), abs=1e-6)
    assert row["stderr"] == pytest.approx(stats.sem(second - first), abs=1e-6)
    assert row["z"] == pytest.approx(theirs.statistic, rel=1e-5)
    assert row["p"] == pytest.approx(2 * stats.norm.sf(theirs.statistic), abs=1e-6)


def test_pairing_tells_apart_what_two_errors_would_not() -> None:
    first = [float(at % 2) for at in range(1000)]
    second = [1.0 if at % 50 == 0 else score for at, score in enumerate(first)]
    row = paired(items(first), items(second))
    apart = math.hypot(stats.sem(first), stats.sem(second))
    assert row["difference"] == pytest.approx(0.02)
    assert row["difference"] / apart < 1
    assert row["p"] < 0.001


def test_copies_of_items_prove_nothing_more() -> None:
    random = np.random.default_rng(4)
    first, second = (random.integers(0, 2, 200).astype(float).tolist() for _ in range(2))
    once = paired(items(first), items(second))
    places = [at // 5 for at in range(1000)]
    copied = [[score for score in scores for _ in range(5)] for scores in (first, second)]
    grouped = paired(*(items(scores, places) for scores in copied))
    alone = paired(*(items(scores) for scores in copied))
    assert grouped["stderr"] == pytest.approx(once["stderr"], rel=0.01)
    assert alone["stderr"] == pytest.approx(once["stderr"] / math.sqrt(5), rel=0.01)


def test_only_items_of_both_count() -> None:
    first = items([1.0, 0.0, 1.0])
    second = [*items([1.0, 1.0]), msgspec.structs.replace(ITEM, id=2, doc_hash="other", scores={"acc": 0.0})]
    assert paired(first, second)["n"] == 2


def test_equal_models_have_no_p() -> None:
    same = items([1.0, 0.0, 1.0])
    row = paired(same, same)
    assert (row["difference"], row["z"], row["p"]) == (0.0, None, None)
