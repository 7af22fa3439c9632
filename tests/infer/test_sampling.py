"""The choice of a token against transformers' own processors and warpers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from zhen.infer.requests import Request
from zhen.infer.sampling import Sampler, likeliest

SETTINGS: list[dict[str, Any]] = [
    {"temperature": 1.0},
    {"temperature": 0.7, "top_k": 5},
    {"temperature": 1.5, "top_p": 0.6},
    {"temperature": 0.9, "top_k": 8, "top_p": 0.5},
    {"temperature": 1.2, "min_p": 0.1},
    {"temperature": 1.0, "repetition_penalty": 1.4, "top_p": 0.9},
]
PROMPT = [3, 7, 7, 11]
LOGITS = torch.randn(20, generator=torch.Generator().manual_seed(1)) * 2


def request(**values: Any) -> Request:
    return Request(**({"prompt": PROMPT, "max_tokens": 9} | values))


def their_probabilities(settings: dict[str, Any]) -> torch.Tensor:
    steps = LogitsProcessorList()
    if "repetition_penalty" in settings:
        steps.append(RepetitionPenaltyLogitsProcessor(settings["repetition_penalty"]))
    steps.append(TemperatureLogitsWarper(settings["temperature"]))
    for name, step in (("top_k", TopKLogitsWarper), ("top_p", TopPLogitsWarper), ("min_p", MinPLogitsWarper)):
        if name in settings:
            steps.append(step(settings[name]))
    return torch.softmax(steps(torch.tensor([PROMPT]), LOGITS[None])[0].double(), dim=0)


@pytest.mark.parametrize("settings", SETTINGS)
def test_draws_from_the_distribution_of_transformers(settings: dict[str, Any]) -> None:
    wanted = their_probabilities(settings)
    sampler, draws = Sampler(request(seed=2, **settings)), 5000
    counts = torch.zeros(20, dtype=torch.float64)
    for _ in range(draws):
        counts[sampler.choose(LOGITS)] += 1
    there = wanted > 0
    assert counts[~there].sum() == 0
    # tokens of which fewer than five are expected count as one
    rare = there & (wanted * draws < 5)
    common = there & ~rare
    found = [*counts[common].tolist(), float(counts[rare].sum())]
    expected = [*(wanted[common] * draws).tolist(), float(wanted[rare].sum() * draws)]
    if not rare.any():
        found, expected = found[:-1], expected[:-1]
    assert chisquare(found, expected, sum_check=False).pvalue > 1e-4


def test_presence_and_frequency_are_taken_from_what_was_said() -> None:
    # OpenAI's rule: logit - times · frequency - (times > 0) · presence
    sampler = Sampler(request(presence_penalty=0.5, frequency_penalty=0.25))
    logits = torch.tensor([1.0, 2.0, 1.6, 0.0])
    assert sampler.choose(logits) == 1
    sampler.took(1)  # 2.0 - 0.75 = 1.25
    assert sampler.choose(logits) == 2
    sampler.took(2)  # 1.6 - 0.75 = 0.85
    assert sampler.choose(logits) == 1
    sampler.took(1)  # 2.0 - 1.0 = 1.0, and the first of equals
    assert sampler.choose(logits) == 0


def test_bias_makes_and_forbids() -> None:
    assert Sampler(request(logit_bias={4: 100.0})).choose(LOGITS) == 4
    best = int(LOGITS.argmax())
    assert Sampler(request(logit_bias={best: -100.0})).choose(LOGITS) != best


def test_a_grammar_forbids() -> None:
    allowed = torch.zeros(20, dtype=torch.bool)
    allowed[[6, 9]] = True
    sampler = Sampler(request(temperature=2.0))
    assert {sampler.choose(LOGITS, allowed) for _ in range(60)} == {6, 9}


def test_greedy_takes_the_first_of_equals() -> None:
    assert Sampler(request()).choose(torch.tensor([0.0, 3.0, 3.0, 1.0])) == 1


NEAR_ZERO = (5e-324, 1e-300, 1e-45, 1e-9)


@pytest.mark.parametrize("least", NEAR_ZERO)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_however_cold_the_likeliest_token_is_chosen(least: float, scale: float) -> None:
    logits = torch.tensor([0.0, 9.0, -math.inf, 1.0, -9.0]) * scale
    for settings in (
        {"temperature": least},
        {"temperature": 1.0, "top_p": least},
        {"temperature": 1e6, "top_p": least},
    ):
        if scale >= 1 or "top_p" in settings:  # at 1e-9, differences of 1e-30 are none
            assert {Sampler(request(seed=seed, **settings)).choose(logits) for seed in range(9)} == {1}


@pytest.mark.parametrize("penalty", [1e-6, 1e6])
@pytest.mark.parametrize("temperature", [5e-324, 1e6])
def test_the_strongest_penalties_leave_a_choice(penalty: float, temperature: float) -> None:
    asked = request(repetition_penalty=penalty, temperature=temperature, presence_penalty=-1e6, frequency_penalty=1e6)
    assert not list(asked.problems())
    sampler = Sampler(asked)
    for _ in range(20):
        token = sampler.choose(LOGITS * 100)
        assert 0 <= token < len(LOGITS)
        sampler.took(token)


def test_of_equals_each_is_chosen_however_cold() -> None:
    sampler = Sampler(request(temperature=1e-320))
    assert {sampler.choose(torch.tensor([3.0, 1.0, 3.0])) for _ in range(60)} == {0, 2}


def test_the_likeliest_tokens_come_with_their_logprobs() -> None:
    own, top = likeliest(LOGITS, 5, 3)
    logs = torch.log_softmax(LOGITS, 0)
    assert own == pytest.approx(float(logs[5]), abs=1e-6)
    values, ids = logs.topk(3)
    assert [each.token for each in top] == ids.tolist()
    assert [each.logprob for each in top] == pytest.approx(values.tolist(), abs=1e-6)
    assert likeliest(LOGITS, 5, 0)[1] == ()
