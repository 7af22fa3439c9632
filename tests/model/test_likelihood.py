"""Likelihood: every token scored once, the same numbers however the text is cut, bits per byte."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zhen.errors import ZhenError
from zhen.model import likelihood
from zhen.model.config import ModelConfig
from zhen.model.likelihood import bits_per_byte, rolling_windows, token_logprobs
from zhen.model.transformer import Transformer, initialise


@given(st.integers(0, 200), st.integers(1, 50), st.data())
def test_windows_score_every_token_but_the_context_once(count: int, context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, context))
    windows = list(rolling_windows([0] * count, context, stride))
    assert [at for w in windows for at in range(w.first, w.end)] == list(range(1, count))
    for w in windows:
        assert 0 <= w.begin < w.first < w.end <= count
        assert w.end - 1 - w.begin <= context  # tokens fed: all but the last
        # the longest context the model can take
        assert w.begin == 0 or w.end - 1 - w.begin == context


@pytest.mark.parametrize("stride", [0, 9])
def test_impossible_strides_are_refused(stride: int) -> None:
    with pytest.raises(ZhenError, match="stride"):
        list(rolling_windows([1, 2, 3], 8, stride))


def test_log_probabilities_are_the_logits_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    text = torch.randint(40, (3, 17), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(text).log_softmax(-1)[:, :-1].gather(-1, text[:, 1:, None])[..., 0]
    whole = token_logprobs(model, text)
    monkeypatch.setattr(likelihood, "_LOGITS_AT_ONCE", 300)
    assert torch.allclose(whole, expected, atol=1e-5)
    assert torch.allclose(token_logprobs(model, text), expected, atol=1e-5)


def test_a_window_of_the_whole_text_scores_as_the_plain_pass() -> None:
    model, ids = tiny(), list(range(2, 32))
    (window,) = rolling_windows(ids, 64, 16)
    assert window == (0, 1, 30)
    assert token_logprobs(model, torch.tensor([ids])).shape == (1, 29)


def test_bits_per_byte_of_a_fair_guess_among_256_bytes_is_8() -> None:
    assert bits_per_byte(100 * math.log(256), 100) == pytest.approx(8)
    with pytest.raises(ZhenError, match="0 bytes"):
        bits_per_byte(1.0, 0)


def tiny() -> Transformer:
    config = ModelConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=40,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    model = Transformer(config)
    initialise(model, 1)
    return model
