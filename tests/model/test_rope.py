"""Rotary frequencies against transformers' own functions, bit for bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from zhen.model.config import ModelConfig, RopeScaling, to_config_json
from zhen.model.rope import attention_factor, inverse_frequencies, rotate

CPU = torch.device("cpu")


def config(head_dim: int, theta: float, scaling: RopeScaling | None) -> ModelConfig:
    return ModelConfig(
        hidden_size=head_dim,
        intermediate_size=1,
        num_hidden_layers=1,
        num_attention_heads=1,
        head_dim=head_dim,
        vocab_size=8,
        max_position_embeddings=4096,
        rope_theta=theta,
        rope_scaling=scaling,
    )


factors = st.floats(1, 64, allow_nan=False)
scalings = st.one_of(
    st.builds(RopeScaling, rope_type=st.just("linear"), factor=factors),
    st.builds(RopeScaling, rope_type=st.just("dynamic"), factor=factors),
    st.builds(
        RopeScaling,
        rope_type=st.just("yarn"),
        factor=factors,
        original_max_position_embeddings=st.integers(64, 4096),
        beta_fast=st.none() | st.floats(16, 64),
        beta_slow=st.none() | st.floats(0.5, 4),
        attention_factor=st.none() | st.floats(0.5, 2),
        truncate=st.none() | st.booleans(),
    ),
    st.builds(
        RopeScaling,
        rope_type=st.just("llama3"),
        factor=factors,
        original_max_position_embeddings=st.integers(64, 4096),
        low_freq_factor=st.floats(0.5, 2),
        high_freq_factor=st.floats(3, 8),
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([4, 32, 100, 128]), st.sampled_from([1e4, 5e6, 1e7]), scalings, st.integers(1, 40_000))
def test_frequencies_are_those_of_transformers(dim: int, theta: float, scaling: RopeScaling, length: int) -> None:
    ours = config(dim, theta, scaling)
    theirs = LlamaConfig(**to_config_json(ours, "float32"))
    expected, factor = ROPE_INIT_FUNCTIONS[scaling.rope_type](theirs, CPU, seq_len=torch.tensor(length))
    # float32 throughout; the dynamic base alone is rounded once more on its way through Python
    torch.testing.assert_close(inverse_frequencies(ours, length, CPU), expected, rtol=3e-6, atol=0)
    assert attention_factor(scaling) == factor


@pytest.mark.parametrize("length", [1, 4096, 100_000])
def test_without_scaling_the_length_changes_nothing(length: int) -> None:
    expected = 1.0 / (5e6 ** (torch.arange(0, 128, 2).float() / 128))
    assert torch.equal(inverse_frequencies(config(128, 5e6, None), length, CPU), expected)


def test_rotation_keeps_lengths_and_depends_on_distance_only() -> None:
    generator = torch.Generator().manual_seed(1)
    q, k = torch.randn(2, 1, 1, 1, 16, generator=generator)
    angles = torch.arange(40.0)[:, None, None] * inverse_frequencies(config(16, 1e4, None), 40, CPU)

    def at(x: torch.Tensor, position: int) -> torch.Tensor:
        return rotate(x, angles[position].cos(), angles[position].sin())

    assert torch.allclose(at(q, 30).norm(), q.norm(), atol=1e-5)
    assert torch.allclose((at(q, 30) * at(k, 20)).sum(), (at(q, 11) * at(k, 1)).sum(), atol=1e-5)
