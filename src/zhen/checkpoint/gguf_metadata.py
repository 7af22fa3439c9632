"""GGUF's metadata: a LLaMA's configuration and tokenizer as llama.cpp's keys say them, both ways."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from zhen.errors import ZhenError
from zhen.model.config import ModelConfig, RopeScaling

ROPE_FACTORS = "rope_freqs.weight"
"""The tensor by which llama.cpp knows Llama 3.1's scaling: what each rotary frequency is divided by."""

Metadata = dict[str, Any]
"""Key -> bool, int (written as uint32), float (float32), str, bytes (uint8 array), or a list of int, float or str."""


def of_config(config: ModelConfig, name: str) -> Metadata:
    """The keys that say `config`; every one that a reader would otherwise fill by a default is there.

    Raises ZhenError for rotary scaling that llama.cpp has no keys for.
    """
    found: Metadata = {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": name,
        "general.quantization_version": 2,
        "llama.vocab_size": config.vocab_size,
        "llama.context_length": config.max_position_embeddings,
        "llama.embedding_length": config.hidden_size,
        "llama.block_count": config.num_hidden_layers,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.attention.key_length": config.head_dim,
        "llama.attention.value_length": config.head_dim,
        "llama.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "llama.rope.dimension_count": config.head_dim,
        "llama.rope.freq_base": float(config.rope_theta),
    }
    scaling = config.rope_scaling
    if scaling is None or scaling.rope_type == "llama3":
        return found  # llama3 lies in a tensor of its own
    unsaid = ("attention_factor", "mscale", "mscale_all_dim", "truncate", "beta_fast", "beta_slow")
    defaults = {"beta_fast": (None, 32.0), "beta_slow": (None, 1.0), "truncate": (None, True)}
    own = [field for field in unsaid if getattr(scaling, field) not in defaults.get(field, (None,))]
    if scaling.rope_type == "dynamic" or own:
        place = f"rope_scaling.{own[0]}" if own else "rope_scaling.rope_type"
        value = getattr(scaling, own[0]) if own else scaling.rope_type
        raise ZhenError(repr(value), expected="scaling that llama.cpp knows from a GGUF file", place=place)
    found |= {"llama.rope.scaling.type": scaling.rope_type, "llama.rope.scaling.factor": float(scaling.factor)}
    if scaling.original_max_position_embeddings:
        found["llama.rope.scaling.original_context_length"] = scaling.original_max_position_embeddings
    return found


def rope_factors(config: ModelConfig, scaling: RopeScaling) -> Any:
    """float32[head_dim / 2]: what Llama 3.1's scaling divides each rotary frequency by (its `apply_scaling`)."""
    low, high = scaling.low_freq_factor or 1.0, scaling.high_freq_factor or 4.0
    trained = scaling.original_max_position_embeddings or config.max_position_embeddings
    waves = 2 * math.pi * config.rope_theta ** (np.arange(0, config.head_dim, 2) / config.head_dim)
    smooth = (trained / waves - low) / (high - low)
    between = 1 / ((1 - smooth) / scaling.factor + smooth)
    return np.where(waves < trained / high, 1.0, np.where(waves > trained / low, scaling.factor, between)).astype("<f4")


def to_config(metadata: Mapping[str, Any], names: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """A config.json's table of what the metadata says, under LLaMA's keys; `names` are the tensors' shapes.

    `model_type` is the architecture. Rotary factors (ROPE_FACTORS) are added by `with_factors`.
    """
    family = metadata.get("general.architecture")

    def said(key: str) -> Any:
        return plain(metadata.get(f"{family}.{key}"))

    embedding = names.get("token_embd.weight", (None,))
    width = said("attention.key_length") or said("rope.dimension_count")
    heads = said("attention.head_count")
    config = {
        "architectures": ["LlamaForCausalLM"] if family == "llama" else None,
        "model_type": family,
        "hidden_act": "silu" if family == "llama" else None,
        "hidden_size": said("embedding_length"),
        "intermediate_size": _one(said("feed_forward_length")),
        "num_hidden_layers": said("block_count"),
        "num_attention_heads": _one(heads),
        "num_key_value_heads": _one(said("attention.head_count_kv")),
        "head_dim": width,
        "max_position_embeddings": said("context_length"),
        "rms_norm_eps": said("attention.layer_norm_rms_epsilon"),
        "layer_norm_epsilon": said("attention.layer_norm_epsilon"),
        "rope_theta": said("rope.freq_base") or (10_000.0 if family == "llama" else None),
        "rope_scaling": _scaling(said),
        "num_local_experts": said("expert_count") or None,
        "sliding_window": said("attention.sliding_window"),
        "tie_word_embeddings": "output.weight" not in names,
        "vocab_size": embedding[0],
    }
    rotated = said("rope.dimension_count")
    if width and rotated and rotated != width:
        config["partial_rotary_factor"] = rotated / width
    # a key that LLaMA's config.json must not leave to a default: none is null
    ids = {f"{role}_token_id": plain(metadata.get(key)) for role, key in IDS.items() if role != "unk"}
    return {key: value for key, value in config.items() if value is not None} | ids


IDS = {
    "bos": "tokenizer.ggml.bos_token_id",
    "eos": "tokenizer.ggml.eos_token_id",
    "unk": "tokenizer.ggml.unknown_token_id",
    "pad": "tokenizer.ggml.padding_token_id",
}


def _one(value: Any) -> Any:
    """The value of a list that says the same for every layer."""
    return value[0] if isinstance(value, list) and value and len(set(value)) == 1 else value


def _scaling(said: Any) -> dict[str, Any] | None:
    kind, linear = said("rope.scaling.type"), said("rope.scale_linear")
    if kind in (None, "none"):
        return {"rope_type": "linear", "factor": linear} if linear and linear != 1 else None
    table = {
        "rope_type": kind,
        "factor": said("rope.scaling.factor") or linear or 1.0,
        "original_max_position_embeddings": said("rope.scaling.original_context_length"),
        "beta_fast": said("rope.scaling.yarn_beta_fast"),
        "beta_slow": said("rope.scaling.yarn_beta_slow"),
    }
    return {key: value for key, value in table.items() if value is not None}


def with_factors(config: dict[str, Any], factors: Any) -> dict[str, Any]:
    """`config` with Llama 3.1's scaling, as the factors in ROPE_FACTORS (float32[head_dim / 2]) say it.

    Raises ZhenError where they are none that Llama 3.1 to 3.3 have.
    """
    base = ModelConfig(
        hidden_size=config["hidden_size"],
        intermediate_size=1,
        num_hidden_layers=1,
        num_attention_heads=config["num_attention_heads"],
        head_dim=config["head_dim"],
        max_position_embeddings=config["max_position_embeddings"],
        rope_theta=config["rope_theta"],
    )
    for trained in (8192, *(1 << power for power in range(4, 20))):
        table = {
            "rope_type": "llama3",
            "factor": plain(float(factors.max())),
            "original_max_position_embeddings": trained,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
        }
        if np.allclose(rope_factors(base, RopeScaling(**table)), factors, rtol=1e-5):
            return config | {"rope_scaling": table}
    found = f"factors from {factors.min():g} to {factors.max():g}"
    raise ZhenError(found, expected="Llama 3.1's, with its 1 and 4", place=f"tensor {ROPE_FACTORS!r}")


def plain(value: Any) -> Any:
    """A metadata value as JSON has it; a float32 as the shortest decimal that means it (1e-05)."""
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value] if value.dtype.kind == "f" else value.tolist()
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(str(np.float32(value)))
    return value.item() if isinstance(value, np.generic) else value


def fingerprint(metadata: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of what the metadata says of model and tokenizer: the same as written and as read back."""
    said = {
        key: plain(value)
        for key, value in metadata.items()
        if key.startswith(("llama.", "tokenizer.")) and not isinstance(value, bytes)
    }
    text = json.dumps(said, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()
