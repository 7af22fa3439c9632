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
    ("attention", "use_logn_attn", (False,), "scores that don't grow with the length"),
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
    ("position", "use_dynamic_ntk", (False,), "a rotary base that stays"),
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


_LAYERNORM: tuple[Topic, str, str] = ("normalisation", "uses LayerNorm", "RMSNorm")
_UNGATED: tuple[Topic, str, str] = ("activation", "has no gate in its feed-forward part", "gate and up")
_ALIBI: tuple[Topic, str, str] = ("position", "adds ALiBi", "rotary positions")
_LEARNED: tuple[Topic, str, str] = ("position", "learns its positions", "rotary positions")
_BESIDE: tuple[Topic, str, str] = ("attention", "attends beside the feed-forward part", "attention before it")
_NEIGHBOURS: tuple[Topic, str, str] = ("position", "rotates neighbours", "halves of a head rotated")
_NORMED: tuple[Topic, str, str] = ("attention", "normalises queries and keys", "no such norm")
_AFTER: tuple[Topic, str, str] = ("normalisation", "has norms behind the parts", "norms before them only")
_PLUS_ONE: tuple[Topic, str, str] = ("normalisation", "adds one to its norms and scales embeddings", "norms as stored")

_FAMILIES: dict[str, tuple[tuple[Topic, str, str], ...]] = {
    "bloom": (_ALIBI, _LAYERNORM, _UNGATED),
    "chatglm": (("position", "rotates half of each head", "whole heads rotated"),),
    "cohere": (_NEIGHBOURS, _LAYERNORM, _BESIDE),
    "cohere2": (_NEIGHBOURS, _LAYERNORM, _BESIDE),
    "ernie4_5": (_NEIGHBOURS,),
    "falcon": (_BESIDE, _LAYERNORM, _UNGATED),
    "gemma": (_PLUS_ONE,),
    "gemma2": (_PLUS_ONE, _AFTER),
    "gemma3_text": (_PLUS_ONE, _AFTER, _NORMED),
    "gpt2": (_LEARNED, _LAYERNORM, _UNGATED),
    "gpt_bigcode": (_LEARNED, _LAYERNORM, _UNGATED),
    "gpt_neox": (_BESIDE, _LAYERNORM, _UNGATED),
    "gptj": (_NEIGHBOURS, _BESIDE, _LAYERNORM, _UNGATED),
    "helium": (_NEIGHBOURS,),
    "mpt": (_ALIBI, _LAYERNORM, _UNGATED),
    "olmo": (("normalisation", "uses LayerNorm without weights", "RMSNorm"),),
    "olmo2": (_NORMED, _AFTER),
    "opt": (_LEARNED, _LAYERNORM, _UNGATED),
    "phi": (_BESIDE, _LAYERNORM, _UNGATED),
    "qwen3": (_NORMED,),
    "stablelm": (_LAYERNORM,),
    "starcoder2": (_LAYERNORM, _UNGATED),
}
"""model_type -> departures that its code makes, whatever its config says (transformers' models, bigscience/bloom …)."""

_BIASED = {"qwen": "q, k and v", "qwen2": "q, k and v", "internlm": "q, k, v and o"}
"""model_type -> what its code puts biases on unasked; the tensors show it where there are any."""


def family_differences(config: Mapping[str, Any], *, tensors: bool) -> list[Difference]:
    """Departures that a family's code makes and its config doesn't say, as far as they are known.

    `tensors`: whether their names are at hand, which show biases better than a family's name does.
    """
    family = config.get("model_type")
    if not isinstance(family, str):
        return []
    found = list(_FAMILIES.get(family, ()))
    if family == "baichuan" and config.get("hidden_size") == 5120:
        found.append(("position", "of 13B adds ALiBi", "rotary positions"))
    if family == "baichuan" and config.get("vocab_size") == 125_696:
        found.append(("normalisation", "of version 2 normalises the rows of its head", "the head as it is"))
    if family in _BIASED and not tensors:
        found.append(("attention", f"has biases on {_BIASED[family]}", "no biases"))
    return [Difference(topic, "model_type", f"{family!r} {says}", expected) for topic, says, expected in found]


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
