"""Sharing what prompts begin with changes no score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")

from zhen.errors import ZhenError
from zhen.evaluate.harness import shared
from zhen.evaluate.harness.shared import Pair, score_pairs
from zhen.infer.engine import Engine, load_engine


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Engine:
    return load_engine(checkpoint, dtype="float32", batch=3)


def questions(seed: int) -> list[Pair]:
    """Two subjects with examples in common, questions with choices of one token and of several, some alone."""
    random = np.random.default_rng(seed)

    def some(count: int) -> list[int]:
        return [int(token) for token in random.integers(3, 400, count)]

    pairs = []
    for _ in range(2):
        examples = some(200)
        for _ in range(4):
            prompt = examples + some(int(random.integers(2, 20)))
            pairs += [Pair(prompt, some(1)) for _ in range(4)] + [Pair(prompt, some(int(random.integers(2, 6))))]
    pairs += [Pair(some(5), some(3)) for _ in range(5)]
    return [pairs[at] for at in random.permutation(len(pairs))]


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_the_engine(engine: Engine, seed: int) -> None:
    pairs = questions(seed)
    plain = engine.score(pairs)
    for (logprob, greedy), score in zip(score_pairs(engine, pairs), plain, strict=True):
        assert logprob == pytest.approx(score.total, abs=1e-4)
        assert greedy == bool(score.greedy.all())


def test_most_tokens_are_not_computed_twice(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    fed = []
    hidden = engine.model.hidden
    monkeypatch.setattr(
        engine.model, "hidden", lambda tokens, cache=None: fed.append(tokens.numel()) or hidden(tokens, cache)
    )
    pairs = questions(0)
    score_pairs(engine, pairs)
    assert sum(fed) < 0.15 * sum(len(pair.context) + len(pair.continuation) for pair in pairs)


def test_nothing_is_shared_that_is_not_worth_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = questions(1)
    with_sharing = score_pairs(engine, pairs)
    monkeypatch.setattr(shared, "WORTH", 1 << 40)
    for one, other in zip(with_sharing, score_pairs(engine, pairs), strict=True):
        assert one == (pytest.approx(other[0], abs=1e-4), other[1])


def test_a_long_context_loses_its_beginning(engine: Engine) -> None:
    long = [7, *range(3, 403)] * 6
    (cut,) = score_pairs(engine, [Pair(long, [5, 6])])
    (whole,) = score_pairs(engine, [Pair(long[-2047:], [5, 6])])
    assert cut == whole


def test_a_continuation_longer_than_the_context_is_refused(engine: Engine) -> None:
    with pytest.raises(ZhenError, match="a continuation of 2,049 tokens"):
        score_pairs(engine, [Pair([3], [4] * 2049)])
