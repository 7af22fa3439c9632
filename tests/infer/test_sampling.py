"""The choice of a token against transformers' own warpers."""

from __future__ import annotations

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from zhen.infer.sampling import choose


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.7, 5, 1.0), (1.5, 0, 0.6), (0.9, 8, 0.5)]
)
def test_draws_from_the_distribution_of_transformers(temperature: float, top_k: int, top_p: float) -> None:
    logits = torch.randn(20, generator=torch.Generator().manual_seed(1)) * 2
    warped = TemperatureLogitsWarper(temperature)(None, logits[None])
    if top_k:
        warped = TopKLogitsWarper(top_k)(None, warped)
    if top_p < 1:
        warped = TopPLogitsWarper(top_p)(None, warped)
    wanted = torch.softmax(warped[0], dim=0)
    generator = torch.Generator().manual_seed(2)
    draws = 4000
    counts = torch.zeros(20)
    for _ in range(draws):
        counts[choose(logits, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator)] += 1
    assert set(counts.nonzero().flatten().tolist()) <= set(wanted.nonzero().flatten().tolist())
    # five standard errors of a share
    assert torch.all((counts / draws - wanted).abs() <= 5 * (wanted * (1 - wanted) / draws).sqrt() + 1e-9)


def test_greedy_takes_the_first_of_equals() -> None:
    logits = torch.tensor([0.0, 3.0, 3.0, 1.0])
    assert choose(logits, temperature=0, top_k=0, top_p=1, generator=torch.Generator()) == 1


def test_the_likeliest_token_is_always_left() -> None:
    logits = torch.tensor([0.0, 9.0, 1.0])
    assert choose(logits, temperature=1, top_k=0, top_p=1e-9, generator=torch.Generator()) == 1
