"""Configurations of other families under config.json's own names, and as a ModelConfig where they are LLaMA's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from zhen.checkpoint.names import scheme_of
from zhen.errors import ManyErrors, ZhenError
from zhen.model.architecture import Difference, differences, family_differences
from zhen.model.config import ModelConfig, from_config_json

_ALSO = {
    "num_hidden_layers": ("n_layer", "num_layers", "n_layers"),
    "hidden_size": ("n_embd", "d_model", "dim"),
    "num_attention_heads": ("n_head", "n_heads"),
    "num_key_value_heads": ("num_kv_heads", "n_head_kv", "n_kv_heads", "num_query_groups"),
    "head_dim": ("kv_channels",),
    "intermediate_size": ("ffn_hidden_size", "n_inner", "hidden_dim"),
    "vocab_size": ("padded_vocab_size",),
    "max_position_embeddings": ("model_max_length", "seq_length", "n_positions", "max_seq_len", "block_size"),
    "rms_norm_eps": ("layer_norm_epsilon", "layer_norm_eps", "norm_eps", "norm_epsilon"),
    "rope_theta": ("rotary_emb_base", "rotary_base"),
}
"""config.json's key of LLaMA -> what others call it: Qwen, Falcon, GPT-2, GPT-NeoX, Megatron-LM, Meta's params.json."""


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` under LLaMA's keys, its other keys as they are; what a family computes from others is computed.

    - Qwen (qwen.py): each of gate and up has half of intermediate_size.
    - Meta's params.json (llama/model.py): the feed-forward width comes from dim, multiple_of and ffn_dim_multiplier;
      a vocabulary of -1 is the tokenizer's, 32,000 in Llama 1 and 2; use_scaled_rope is Llama 3.1's.
    - Falcon: multi_query means one key/value head.
    """
    found = dict(config)
    for key, others in _ALSO.items():
        given = [config[name] for name in others if config.get(name) is not None]
        if given and config.get(key) is None:
            found[key] = given[0]
    if config.get("multi_query") is True and found.get("num_key_value_heads") is None:
        found["num_key_value_heads"] = 1
    width = found.get("intermediate_size")
    if config.get("model_type") == "qwen" and type(width) is int:
        found["intermediate_size"] = width // 2
    return _metas(found) if type(config.get("dim")) is int else found


def _metas(config: dict[str, Any]) -> dict[str, Any]:
    """The keys that Meta's code computes; numbers that are none are left for the checks to name."""
    if config.get("vocab_size") == -1:
        config["vocab_size"] = 32_000
    if config.get("model_type") is None and "norm_eps" in config:
        config["model_type"] = "llama"
    multiple, factor = config.get("multiple_of"), config.get("ffn_dim_multiplier")
    if config.get("intermediate_size") is None and isinstance(multiple, int) and multiple > 0:
        width = int(8 * config["dim"] / 3)
        if isinstance(factor, int | float) and 0 < factor < 1000:
            width = int(factor * width)
        config["intermediate_size"] = multiple * -(-width // multiple)
    scaled = config.get("use_scaled_rope") is True
    if config.get("max_position_embeddings") is None:
        length = 131_072 if scaled else 8192 if config.get("rope_theta") == 500_000 else 4096
        # an epsilon of 1e-6 is Llama 1's, or early files' of Llama 2: of two lengths the one that was surely trained
        config["max_position_embeddings"] = 2048 if config.get("rms_norm_eps") == 1e-6 else length
    if scaled and config.get("rope_scaling") is None:
        config["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": config.get("rope_scaling_factor", 8.0),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
    return config


def all_differences(
    config: Mapping[str, Any], by_names: Sequence[Difference] = (), *, tensors: bool
) -> list[Difference]:
    """What departs from the LLaMA decoder by the config's keys, by the tensors' names, and by the family's code.

    What only the family's name says is left out under a topic that the others show.
    """
    found = [*differences(config), *by_names]
    topics = {difference.topic for difference in found}
    by_family = family_differences(config, tensors=tensors)
    return found + [difference for difference in by_family if difference.topic not in topics]


def config_of(config: Mapping[str, Any], scheme: str, file: str | PathLike[str] | None = None) -> ModelConfig:
    """The ModelConfig of a parsed configuration of whatever family, its tensors named by `scheme`.

    Raises ZhenError, listing every difference, where config or family say that it isn't the LLaMA decoder, and where
    numbers are missing or impossible. An unknown family with nothing that departs is taken for a copy of LLaMA.
    """
    scheme_of(scheme)
    wrong = all_differences(config, tensors=True)
    errors = [ZhenError(item.found, expected=item.expected, file=file, place=item.place) for item in wrong]
    if scheme == "gguf" and config.get("model_type") not in ("llama", None):
        # other architectures have their rows of q and k in other orders, and keys of their own
        kind = repr(config["model_type"])
        errors.append(
            ZhenError(kind, expected="'llama', the order of whose rows is known", file=file, place="architecture")
        )
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(errors)
    return as_llama(plain(config), file)


def as_llama(config: Mapping[str, Any], file: str | PathLike[str] | None = None) -> ModelConfig:
    """A config under LLaMA's keys, whatever family it names. Raises ZhenError as `from_config_json` does."""
    model = from_config_json({**config, "model_type": "llama", "architectures": []}, file)
    if model.num_hidden_layers > _MOST_LAYERS:
        found, expected = f"{model.num_hidden_layers:,}", f"at most {_MOST_LAYERS:,}"
        raise ZhenError(found, expected=expected, file=file, place="num_hidden_layers")
    return model


_MOST_LAYERS = 10_000
"""Layers whose tensors are listed; a config that claims more would fill the memory."""
