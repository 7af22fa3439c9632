"""What `zhen convert` can write: for each target the config.json by which its code is told, and what that can't say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from zhen.errors import ZhenError, did_you_mean
from zhen.model.config import ModelConfig, to_config_json


class Target(NamedTuple):
    """One format and naming that a checkpoint can be converted to."""

    says: str
    architecture: str = "LlamaForCausalLM"
    model_type: str = "llama"
    own_class: bool = True
    """Whether transformers itself has the architecture's code."""


TARGETS = {
    "llama": Target("safetensors under LLaMA's names"),
    "yi": Target("safetensors under the names of Yi's first release", "YiForCausalLM", "Yi", own_class=False),
    "meta": Target("Meta's folder: params.json and consolidated.NN.pth"),
    "gguf": Target("a GGUF file for llama.cpp"),
    "phi3": Target("safetensors as Phi-3's: q, k and v in one matrix, gate and up in one", "Phi3ForCausalLM", "phi3"),
    "internlm2": Target("safetensors as InternLM2's", "InternLM2ForCausalLM", "internlm2", own_class=False),
    "baichuan": Target("safetensors as Baichuan-7B's", "BaiChuanForCausalLM", "baichuan", own_class=False),
}
"""Value of `--to` -> what is written; each is also a naming scheme."""

_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_BAICHUAN_2_VOCAB = 125_696
_BAICHUAN_13B_HIDDEN = 5120


def target_of(name: str) -> Target:
    """The target called `name`. Raises ZhenError with the nearest name."""
    if name not in TARGETS:
        expected = "one of " + ", ".join(TARGETS)
        raise ZhenError(f'"{name}"', expected=expected, place="--to", hint=did_you_mean(name, TARGETS))
    return TARGETS[name]


def config_json(config: ModelConfig, target: str, dtype: str, original: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json for `target`, weights mostly in `dtype` ("BF16").

    `original` is the source's: of several `eos_token_id` all are kept. Raises ZhenError for what the target's code
    can't be told.
    """
    made = to_config_json(config, _DTYPES[dtype])
    if isinstance(ends := original.get("eos_token_id"), list) and ends and ends[0] == config.eos_token_id:
        made["eos_token_id"] = ends
    chosen = target_of(target)
    made |= {"architectures": [chosen.architecture], "model_type": chosen.model_type}
    if target == "phi3":
        return _phi3(made, config)
    if target == "internlm2":
        return _internlm2(made, config)
    if target == "baichuan":
        return _baichuan(made, config)
    return made


def _phi3(made: dict[str, Any], config: ModelConfig) -> dict[str, Any]:
    if config.rope_scaling is not None:
        raise _cannot("rope_scaling", config.rope_scaling.rope_type, "none: Phi-3 knows longrope alone")
    positions = {"original_max_position_embeddings": config.max_position_embeddings, "partial_rotary_factor": 1.0}
    no_dropout = {"embd_pdrop": 0.0, "resid_pdrop": 0.0, "sliding_window": None}
    for key in ("mlp_bias", "attention_bias"):
        del made[key]
    return made | positions | no_dropout


def _internlm2(made: dict[str, Any], config: ModelConfig) -> dict[str, Any]:
    scaling = config.rope_scaling
    if scaling is not None and scaling.rope_type not in ("linear", "dynamic"):
        raise _cannot("rope_scaling", scaling.rope_type, "linear or dynamic, which InternLM2 knows")
    _whole_heads(config, "InternLM2")
    for key in ("mlp_bias", "attention_bias", "head_dim", "rope_parameters"):
        del made[key]
    made["rope_scaling"] = {"type": scaling.rope_type, "factor": scaling.factor} if scaling else None
    return made | {"bias": False}


def _baichuan(made: dict[str, Any], config: ModelConfig) -> dict[str, Any]:
    if config.num_key_value_heads != config.num_attention_heads:
        raise _cannot("num_key_value_heads", config.num_key_value_heads, f"{config.num_attention_heads}, the heads")
    if config.rope_theta != 10_000 or config.rope_scaling is not None:
        raise _cannot("rope_theta", config.rope_theta, "10000 without scaling, which Baichuan's code has fixed")
    if config.hidden_size == _BAICHUAN_13B_HIDDEN or config.vocab_size == _BAICHUAN_2_VOCAB:
        raise _cannot("hidden_size", config.hidden_size, "another: by it Baichuan 13B and 2 are told, which differ")
    if config.tie_word_embeddings:
        raise _cannot("tie_word_embeddings", True, "false", "--untie")
    _whole_heads(config, "Baichuan")
    removed = ("mlp_bias", "attention_bias", "head_dim", "rope_parameters", "rope_scaling", "rope_theta")
    return {key: value for key, value in made.items() if key not in (*removed, "num_key_value_heads")}


def _whole_heads(config: ModelConfig, family: str) -> None:
    if config.head_dim * config.num_attention_heads != config.hidden_size:
        expected = f"hidden_size / num_attention_heads: {family}'s code has no key for it"
        raise _cannot("head_dim", config.head_dim, expected)


def _cannot(place: str, found: Any, expected: str, hint: str | None = None) -> ZhenError:
    return ZhenError(f"{found}", expected=expected, place=place, hint=hint)
