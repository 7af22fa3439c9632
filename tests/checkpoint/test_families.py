"""Families whose names or settings look like LLaMA's: called LLaMA only where its forward pass gives the same."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import torch
import transformers

from zhen.checkpoint.inspect import inspect_checkpoint
from zhen.checkpoint.load import load_model
from zhen.errors import ZhenError

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 70,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SAME: dict[str, dict[str, object]] = {"Llama": {}, "Mistral": {"sliding_window": None}}
OTHERS = [
    "Cohere",
    "Olmo",
    "Granite",
    "Helium",
    "Ernie4_5",
    "Gemma",
    "Qwen2",
    "SmolLM3",
    "Ministral3",
    "HunYuanDenseV1",
]
TEXT = torch.arange(3, 20)[None]


def saved(family: str, folder: Path, **changes: object) -> torch.Tensor:
    """A small model of the family, moved off its start so that every tensor matters; returns its logits."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SIZES | changes)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        model.save_pretrained(folder)
        return model(TEXT).logits


def as_llama(folder: Path) -> torch.Tensor:
    """The logits of the same files read as LLaMA's."""
    file = folder / "config.json"
    named = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    file.write_text(json.dumps(json.loads(file.read_text()) | named))
    with torch.no_grad():
        return load_model(folder)(TEXT)


@pytest.mark.parametrize("family", SAME)
def test_what_computes_the_same_is_llama(family: str, tmp_path: Path) -> None:
    theirs = saved(family, tmp_path, **SAME[family])
    assert inspect_checkpoint(tmp_path).family == "llama"
    torch.testing.assert_close(as_llama(tmp_path), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", OTHERS)
def test_what_computes_something_else_is_not(family: str, tmp_path: Path) -> None:
    theirs = saved(family, tmp_path)
    found = inspect_checkpoint(tmp_path)
    assert found.family == json.loads((tmp_path / "config.json").read_text())["model_type"]
    assert found.differences
    with contextlib.suppress(ZhenError):  # where it can't even be read as LLaMA's
        assert not torch.allclose(as_llama(tmp_path), theirs, rtol=1e-2, atol=1e-2)
