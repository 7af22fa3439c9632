"""Config: presets against published numbers, config.json both ways, refusals."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, LlamaConfig

from zhen.errors import ZhenError
from zhen.model.architecture import differences
from zhen.model.config import PRESETS, ModelConfig, RopeScaling, check, from_config_json, preset, to_config_json

YARN = RopeScaling(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)
LLAMA3 = RopeScaling(
    rope_type="llama3", factor=8.0, original_max_position_embeddings=64, low_freq_factor=1.0, high_freq_factor=4.0
)
SCALINGS = [
    None,
    RopeScaling(rope_type="linear", factor=2.0),
    RopeScaling(rope_type="dynamic", factor=3.0),
    YARN,
    LLAMA3,
]

# arXiv 2403.04652 table 1, 2307.09288, 2302.13971: hidden, layers, heads, kv heads, ffn, positions
PUBLISHED = {
    "yi-6b": (4096, 32, 32, 4, 11008, 4096),
    "yi-34b": (7168, 60, 56, 8, 20480, 4096),
    "yi-9b": (4096, 48, 32, 4, 11008, 4096),
    "llama-2-7b": (4096, 32, 32, 32, 11008, 4096),
    "llama-2-13b": (5120, 40, 40, 40, 13824, 4096),
    "llama-2-70b": (8192, 80, 64, 8, 28672, 4096),
    "llama-65b": (8192, 80, 64, 64, 22016, 2048),
}


def small(**changes: Any) -> ModelConfig:
    return msgspec.structs.replace(PRESETS["micro"], **{"vocab_size": 96, "max_position_embeddings": 256, **changes})


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_have_the_published_shapes(name: str) -> None:
    c = PRESETS[name]
    shape = (c.hidden_size, c.num_hidden_layers, c.num_attention_heads, c.num_key_value_heads)
    assert (*shape, c.intermediate_size, c.max_position_embeddings) == PUBLISHED[name]


def test_every_preset_is_possible() -> None:
    for config in PRESETS.values():
        check(msgspec.structs.replace(config, vocab_size=config.vocab_size or 300))


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s.rope_type if s else "none")
def test_config_json_says_the_same_to_transformers(scaling: RopeScaling | None, tmp_path: Any) -> None:
    config = small(rope_scaling=scaling, rope_theta=5e6, pad_token_id=None)
    data = to_config_json(config, "bfloat16")
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(data))
    theirs = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(theirs, LlamaConfig)
    assert theirs.dtype == torch.bfloat16
    for name in ("hidden_size", "num_key_value_heads", "head_dim", "rms_norm_eps", "vocab_size", "pad_token_id"):
        assert getattr(theirs, name) == getattr(config, name)
    expected = {"rope_theta": 5e6, "rope_type": "default"} | (msgspec.to_builtins(scaling) if scaling else {})
    assert {k: v for k, v in theirs.rope_parameters.items() if k != "type"} == expected
    assert from_config_json(theirs.to_dict()) == config


@pytest.mark.parametrize("spelling", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s.rope_type if s else "none")
def test_either_spelling_alone_is_enough(spelling: str, scaling: RopeScaling | None) -> None:
    config = small(rope_scaling=scaling, rope_theta=5e5)
    data = to_config_json(config, "float32")
    for key in {"rope_parameters": ("rope_scaling", "rope_theta"), "rope_scaling": ("rope_parameters",)}[spelling]:
        del data[key]
    assert from_config_json(data) == config


def test_contradicting_spellings_are_refused() -> None:
    data = to_config_json(small(), "float32") | {"rope_theta": 123.0}
    with pytest.raises(ZhenError, match="two rotary settings"):
        from_config_json(data)


def test_missing_keys_mean_what_transformers_takes_them_for() -> None:
    data = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    data["num_attention_heads"] = 4
    assert from_config_json(data) == from_config_json(LlamaConfig(**data).to_dict())


def test_first_release_of_yi_is_accepted() -> None:
    data = to_config_json(small(), "bfloat16") | {"model_type": "Yi", "architectures": ["YiForCausalLM"]}
    assert from_config_json(data) == small()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "qwen2"),
        ("architectures", ["GPT2LMHeadModel"]),
        ("hidden_act", "gelu"),
        ("attention_bias", True),
        ("mlp_bias", True),
        ("sliding_window", 4096),
        ("num_local_experts", 8),
        ("rope_scaling", {"rope_type": "longrope", "factor": 2.0}),
        ("rope_scaling", "linear"),
        ("partial_rotary_factor", 0.5),
        ("hidden_size", "4096"),
        ("hidden_size", -1),
        ("num_key_value_heads", 3),
        ("rms_norm_eps", float("nan")),
        ("num_hidden_layers", True),
    ],
)
def test_what_is_not_llama_is_refused_by_key(key: str, value: Any) -> None:
    data = to_config_json(small(), "float32") | {key: value}
    with pytest.raises(ZhenError) as caught:
        from_config_json(data, "config.json")
    assert key in caught.value.text()
    assert "config.json" in caught.value.text()


def test_sliding_window_switched_off_is_no_difference() -> None:
    data = to_config_json(small(), "float32")
    assert differences(data | {"sliding_window": 4096, "use_sliding_window": False}) == []


def test_every_departure_is_named_at_once() -> None:
    data = to_config_json(small(), "float32") | {"hidden_act": "gelu", "attention_bias": True}
    with pytest.raises(ZhenError, match=r"(?s)attention_bias.*hidden_act"):
        from_config_json(data)


def test_post_norm_is_refused_at_export() -> None:
    with pytest.raises(ZhenError, match="post"):
        to_config_json(small(norm_place="post"), "float32")


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ZhenError) as caught:
        preset("yi-34")
    assert caught.value.hint == 'did you mean "yi-34b"?'


keys = st.sampled_from(sorted(to_config_json(small(), "float32")))
values = st.one_of(st.none(), st.booleans(), st.integers(-5, 10**30), st.floats(), st.text(max_size=4), st.just([]))


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(keys, values, max_size=3))
def test_no_config_json_ends_in_a_traceback(changes: dict[str, Any]) -> None:
    with contextlib.suppress(ZhenError):
        from_config_json(to_config_json(small(), "float32") | changes)
