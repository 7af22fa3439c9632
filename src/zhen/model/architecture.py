"""Which keys of a config.json leave the LLaMA architecture, and under which heading: attention, activation, …"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Topic = Literal["attention", "activation", "normalisation", "position"]

ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "llama3")
"""Rotary kinds that the decoder knows, under their names in config.json; "default" is no scaling."""


class Difference(NamedTuple):
    """One departure from the LLaMA decoder. `place` is the key of config.json, or the tensor, that shows it."""

    topic: Topic
    place: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.place} {self.found}; LLaMA has {self.expected}"


_TABLE: tuple[tuple[Topic, str, tuple[Any, ...], str], ...] = (
    ("attention", "attention_bias", (False,), "no biases"),
    ("attention", "qkv_bias", (False,), "no biases"),
    ("attention", "bias", (False,), "no biases"),
    ("attention", "use_qk_norm", (False,), "no norm on queries and keys"),
    ("attention", "qk_norm", (False,), "no norm on queries and keys"),
    ("attention", "clip_qkv", (), "no clipping"),
    ("attention", "attn_logit_softcapping", (), "no soft cap"),
    ("attention", "final_logit_softcapping", (), "no soft cap"),
    ("attention", "parallel_attn", (False,), "attention before the feed-forward part, not beside it"),
    ("attention", "use_parallel_residual", (False,), "attention before the feed-forward part, not beside it"),
    ("attention", "kv_lora_rank", (), "full keys and values"),
    ("attention", "embedding_multiplier", (1, 1.0), "plain embeddings"),
    ("attention", "residual_multiplier", (1, 1.0), "plain residuals"),
    ("attention", "attention_multiplier", (), "scores divided by the root of the head's width"),
    ("attention", "logits_scaling", (1, 1.0), "plain logits"),
    ("attention", "logit_scale", (1, 1.0), "plain logits"),
    ("attention", "scale_emb", (1, 1.0), "plain embeddings"),
    ("activation", "hidden_act", ("silu", "swish"), "silu"),
    ("activation", "hidden_activation", ("silu", "swish"), "silu"),
    ("activation", "mlp_bias", (False,), "no biases"),
    ("activation", "num_local_experts", (), "one feed-forward part a layer"),
    ("activation", "num_experts", (), "one feed-forward part a layer"),
    ("activation", "n_routed_experts", (), "one feed-forward part a layer"),
    ("position", "alibi", (False,), "rotary positions"),
    ("position", "no_rope_layers", (), "rotary positions in every layer"),
    ("position", "partial_rotary_factor", (1, 1.0), "whole heads rotated"),
    ("position", "rotary_pct", (1, 1.0), "whole heads rotated"),
)
"""(heading, key, values that are LLaMA's, what LLaMA has). A missing key or null is always LLaMA's."""


def differences(config: Mapping[str, Any]) -> list[Difference]:
    """Every key of `config` (a parsed config.json) that says this is not the LLaMA decoder; empty where it is.

    The name in `model_type` isn't judged: a copy under another name has no differences.
    """
    found = [
        Difference(topic, key, repr(config[key]), expected)
        for topic, key, allowed, expected in _TABLE
        if config.get(key) is not None and not _among(config[key], allowed)
    ]
    if config.get("sliding_window") is not None and config.get("use_sliding_window") is not False:
        window = repr(config["sliding_window"])
        found.append(Difference("attention", "sliding_window", window, "attention to all earlier positions"))
    return found + _rotary_differences(config)


def rope_type(parameters: Mapping[str, Any]) -> Any:
    """The rotary kind of a `rope_scaling` or `rope_parameters` table; older files say `type`."""
    return parameters.get("rope_type", parameters.get("type", "default"))


def _among(value: Any, allowed: tuple[Any, ...]) -> bool:
    # 1 == True in Python; in config.json they are different values
    return any(type(value) is type(item) and value == item for item in allowed)


def _rotary_differences(config: Mapping[str, Any]) -> list[Difference]:
    found = []
    for key in ("rope_parameters", "rope_scaling"):
        table = config.get(key)
        if not isinstance(table, Mapping):
            continue
        if (kind := rope_type(table)) not in ROPE_TYPES:
            found.append(Difference("position", f"{key}.rope_type", repr(kind), "one of " + ", ".join(ROPE_TYPES)))
        if table.get("partial_rotary_factor") not in (None, 1, 1.0):
            factor = repr(table["partial_rotary_factor"])
            found.append(Difference("position", f"{key}.partial_rotary_factor", factor, "whole heads rotated"))
        if (beta := table.get("llama_4_scaling_beta")) is not None:
            found.append(Difference("position", f"{key}.llama_4_scaling_beta", repr(beta), "unscaled queries"))
    return found
