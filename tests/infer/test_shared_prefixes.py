"""Scores of continuations whose contexts begin alike: what is shared is computed once, and changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
import torch

from zhen.infer import scoring
from zhen.infer.engine import Engine
from zhen.model.config import PRESETS
from zhen.model.transformer import Transformer, initialise

Pair = tuple[list[int], list[int]]


class Numbers:
    """A tokenizer of which only the end of text is needed."""

    vocab_size, end_of_text = 400, 2

    def decode(self, ids: Sequence[int]) -> str:
        return ""


@pytest.fixture(scope="module")
def engine() -> Engine:
    config = msgspec.structs.replace(
        PRESETS["micro"], vocab_size=400, initializer_range=0.2, max_position_embeddings=2048
    )
    model = Transformer(config)
    initialise(model, 1)
    return Engine(model, Numbers(), batch=3)  # type: ignore[arg-type]


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
            pairs += [(prompt, some(1)) for _ in range(4)] + [(prompt, some(int(random.integers(2, 6))))]
    pairs += [(some(5), some(3)) for _ in range(5)]
    return [pairs[at] for at in random.permutation(len(pairs))]


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_each_alone(engine: Engine, seed: int) -> None:
    pairs = questions(seed)
    for (context, continuation), score in zip(pairs, engine.score(pairs), strict=True):
        whole = [*context, *continuation]
        with torch.no_grad():
            logs = torch.log_softmax(engine.model(torch.tensor([whole]))[0, len(context) - 1 : -1].double(), -1)
        own = logs[range(len(continuation)), continuation]
        np.testing.assert_allclose(score.logprobs, own.numpy(), atol=2e-5)
        assert score.greedy.tolist() == (logs.argmax(1) == torch.tensor(continuation)).tolist()


def test_most_tokens_are_not_computed_twice(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    fed = []
    hidden = engine.model.hidden
    monkeypatch.setattr(
        engine.model, "hidden", lambda tokens, cache=None: fed.append(tokens.numel()) or hidden(tokens, cache)
    )
    pairs = questions(0)
    engine.score(pairs)
    assert sum(fed) < 0.15 * sum(len(context) + len(continuation) for context, continuation in pairs)


def test_nothing_is_shared_that_is_not_worth_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = questions(1)
    with_sharing = engine.score(pairs)
    monkeypatch.setattr(scoring, "WORTH", 1 << 40)
    for one, other in zip(with_sharing, engine.score(pairs), strict=True):
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=2e-5)


def test_progress_counts_every_pair(engine: Engine) -> None:
    pairs, said = questions(2), [0]
    engine.score(pairs, said.append)
    assert said == sorted(set(said))
    assert said[-1] == len(pairs)
