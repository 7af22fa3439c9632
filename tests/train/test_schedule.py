"""Learning rates at planted points, and the settings' own mistakes."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from zhen.train.schedule import learning_rate
from zhen.train.settings import PretrainSettings

PLAIN: dict[str, Any] = {
    "tokens": 1000,
    "tokens_per_step": 10,
    "sequence_length": 5,
    "learning_rate": 1.0,
    "warmup_steps": 9,
    "decay_share": 0.5,
}


def made(**changes: Any) -> PretrainSettings:
    return msgspec.convert({**PLAIN, **changes}, PretrainSettings)


def test_warm_up_is_linear() -> None:
    assert [learning_rate(made(), step) for step in (0, 4, 8, 9)] == pytest.approx([0.1, 0.5, 0.9, 1.0])


def test_wsd_is_constant_then_linear_towards_zero() -> None:
    rates = [learning_rate(made(), step) for step in (10, 49, 50, 75, 99)]
    assert rates == pytest.approx([1.0, 1.0, 1.0, 0.5, 0.02])


def test_wsd_without_decay_stays() -> None:
    assert learning_rate(made(decay_share=0.0), 99) == 1.0


def test_the_final_share_lifts_the_end() -> None:
    assert learning_rate(made(final_learning_rate_share=0.1), 75) == pytest.approx(0.1 + 0.9 * 0.5)


def test_cosine_is_torchs() -> None:
    import torch

    settings = made(schedule="cosine", warmup_steps=0, final_learning_rate_share=0.1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100, eta_min=0.1)
    for step in range(100):
        assert learning_rate(settings, step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("schedule", ["wsd", "cosine"])
def test_a_run_shorter_than_warm_up_and_decay_has_a_positive_rate(schedule: str) -> None:
    settings = made(tokens=30, warmup_steps=2, decay_share=1.0, schedule=schedule)
    assert all(
        0 < learning_rate(settings, step) <= 1 and math.isfinite(learning_rate(settings, step)) for step in (0, 1, 2)
    )


def test_tokens_are_rounded_up_to_whole_steps() -> None:
    assert made(tokens=1001).steps == 101


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tokens_per_step": 12}, "tokens_per_step"),
        ({"micro_batch": 3}, "micro_batch"),
        ({"warmup_steps": 100}, "warmup_steps"),
        ({"mixture": {"a": 0.5, "b": 0.4}}, "mixture"),
        ({"keep_steps": [101]}, "keep_steps"),
    ],
)
def test_impossible_combinations_are_named(changes: dict[str, Any], field: str) -> None:
    assert [problem[0] for problem in made(**changes).problems()] == [field]


def test_the_plain_settings_have_no_problem() -> None:
    assert list(made(mixture={"a": 0.7, "b": 0.3}, keep_steps=[0, 50, 100], micro_batch=2).problems()) == []


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"learning_rate": -1.0}, {"optimizer": "sgd"}, {"tokns": 1}])
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        made(**wrong)
