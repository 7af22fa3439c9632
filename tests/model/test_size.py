"""Sizes: against published counts, against the meta device, against torch's own counting of operations."""

from __future__ import annotations

import msgspec
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from zhen.model import size
from zhen.model.config import PRESETS, to_config_json
from zhen.model.transformer import Transformer


# billions of parameters, tensors: arXiv 2403.04652 and llama.cpp's load logs; Llama's from their papers
@pytest.mark.parametrize(
    ("name", "billions", "tensors"),
    [
        ("yi-6b", 6.061, 291),
        ("yi-34b", 34.389, 543),
        ("yi-9b", 8.829, 435),
        ("llama-7b", 6.738, 291),
        ("llama-13b", 13.016, 363),
        ("llama-33b", 32.529, 543),
        ("llama-65b", 65.286, 723),
        ("llama-2-70b", 68.977, 723),
    ],
)
def test_presets_have_the_published_counts(name: str, billions: float, tensors: int) -> None:
    with torch.device("meta"):
        model = Transformer(PRESETS[name])
    assert round(sum(p.numel() for p in model.parameters()) / 1e9, 3) == billions
    assert len(model.state_dict()) == tensors


@pytest.mark.parametrize("name", PRESETS)
def test_sizes_agree_with_the_model_and_with_transformers(name: str) -> None:
    config = PRESETS[name]
    config = msgspec.structs.replace(config, vocab_size=config.vocab_size or 777)
    with torch.device("meta"):
        ours = Transformer(config).state_dict()
        theirs = LlamaForCausalLM(LlamaConfig(**to_config_json(config, "bfloat16")))
    assert {key: tuple(value.shape) for key, value in ours.items()} == size.shapes(config)
    assert size.parameters(config) == sum(p.numel() for p in theirs.parameters())
    assert size.tensors(config) == len(list(theirs.parameters()))


@pytest.mark.parametrize("name", ["micro", "yi-6b"])
def test_operations_are_those_torch_counts(name: str) -> None:
    config, length = msgspec.structs.replace(PRESETS[name], vocab_size=1000, num_hidden_layers=2), 64
    with torch.device("meta"):
        model = Transformer(config)
        tokens = torch.zeros(1, length, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(tokens).sum().backward()
    # torch counts attention's whole square, and its backward as 2.5 forwards: flash attention computes scores again
    attention = size.flops_per_token(config, length, causal=False) - size.flops_per_token(config, 0)
    norms = (2 * config.num_hidden_layers + 1) * config.hidden_size
    expected = size.flops_per_token(config, 0) - 6 * norms + attention * 3.5 / 3
    assert counter.get_total_flops() in (length * expected, length * (expected - attention / 6))


def test_cache_grows_by_the_published_bytes() -> None:
    kib = {name: size.kv_bytes_per_token(PRESETS[name]) / 1024 for name in ("yi-6b", "yi-9b", "yi-34b")}
    assert kib == {"yi-6b": 64, "yi-9b": 96, "yi-34b": 240}


def test_memory_is_told_by_part() -> None:
    config = PRESETS["yi-34b"]
    parts = size.training_memory(config, 1, 4096)
    assert parts["weights"] + parts["gradients"] + parts["optimizer"] == 16 * size.parameters(config)
    assert 50 < parts["activations"] / 2**30 < 65
    assert size.serving_memory(config, 200_000)["cache"] / 2**30 == pytest.approx(45.8, abs=0.1)
    assert size.checkpoint_bytes(config, "bfloat16") == 2 * size.parameters(config)
