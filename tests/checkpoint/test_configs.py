"""Configurations of other families, as their own files have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zhen.checkpoint.configs import config_of, plain
from zhen.errors import ManyErrors, ZhenError
from zhen.model.config import PRESETS, ModelConfig

# params.json of Meta's releases, and the width that transformers' config.json has for the same model
METAS = [
    ({"dim": 4096, "multiple_of": 256, "n_heads": 32, "n_layers": 32, "norm_eps": 1e-5, "vocab_size": -1}, 11008, 4096),
    ({"dim": 4096, "multiple_of": 256, "n_heads": 32, "n_layers": 32, "norm_eps": 1e-6, "vocab_size": -1}, 11008, 2048),
    (
        {"dim": 8192, "multiple_of": 4096, "ffn_dim_multiplier": 1.3, "n_heads": 64, "n_kv_heads": 8, "n_layers": 80,
         "norm_eps": 1e-5, "vocab_size": -1},
        28672,
        4096,
    ),
    (
        {"dim": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 128256, "multiple_of": 1024,
         "ffn_dim_multiplier": 1.3, "norm_eps": 1e-5, "rope_theta": 500000.0, "use_scaled_rope": True},
        14336,
        131072,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("params", "width", "length"), METAS)
def test_metas_params_are_read_as_its_code_does(params: dict[str, Any], width: int, length: int) -> None:
    made = config_of(params, "meta")
    assert (made.intermediate_size, made.max_position_embeddings) == (width, length)
    assert (made.hidden_size, made.num_key_value_heads) == (params["dim"], params.get("n_kv_heads", params["n_heads"]))
    assert (made.rope_scaling is not None) == ("use_scaled_rope" in params)


def test_llama_2_70b_is_the_preset() -> None:
    assert config_of(METAS[2][0], "meta") == PRESETS["llama-2-70b"]


BAICHUAN_7B = {
    "architectures": ["BaiChuanForCausalLM"], "model_type": "baichuan", "hidden_act": "silu", "hidden_size": 4096,
    "intermediate_size": 11008, "max_position_embeddings": 4096, "num_attention_heads": 32, "num_hidden_layers": 32,
    "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "vocab_size": 64000, "pad_token_id": 0,
}  # fmt: skip
INTERNLM2_7B = {
    "architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2", "bias": False, "hidden_act": "silu",
    "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1000000,
    "rope_scaling": {"type": "dynamic", "factor": 2.0}, "vocab_size": 92544,
}  # fmt: skip


def test_families_whose_architecture_is_llamas_are_read() -> None:
    baichuan = config_of(BAICHUAN_7B, "baichuan")
    assert (baichuan.num_key_value_heads, baichuan.rope_theta, baichuan.vocab_size) == (32, 10_000.0, 64000)
    internlm = config_of(INTERNLM2_7B, "internlm2")
    assert (internlm.num_key_value_heads, internlm.rope_theta) == (8, 1e6)
    assert internlm.rope_scaling is not None
    assert internlm.rope_scaling.rope_type == "dynamic"
    invented = config_of(BAICHUAN_7B | {"model_type": "invented"}, "llama")
    assert invented == baichuan


@pytest.mark.parametrize(
    ("config", "messages"),
    [
        (BAICHUAN_7B | {"hidden_size": 5120, "vocab_size": 125696}, ["ALiBi", "normalises the rows of its head"]),
        (BAICHUAN_7B | {"model_type": "falcon", "hidden_act": "gelu"}, ["beside", "LayerNorm", "'gelu'"]),
        (INTERNLM2_7B | {"bias": True}, ["True"]),
        (BAICHUAN_7B | {"model_type": "qwen", "use_dynamic_ntk": True, "use_logn_attn": True}, ["True", "True"]),
    ],
)
def test_what_departs_is_refused_with_all_of_it(config: dict[str, Any], messages: list[str]) -> None:
    with pytest.raises(ZhenError) as raised:
        config_of(config, "llama")
    errors = raised.value.errors if isinstance(raised.value, ManyErrors) else [raised.value]
    assert len(errors) == len(messages)
    for text in messages:
        assert any(text in error.text() for error in errors)


def test_gguf_of_another_architecture_is_refused() -> None:
    assert config_of(INTERNLM2_7B | {"model_type": "llama"}, "gguf").hidden_size == 4096
    with pytest.raises(ZhenError, match="architecture: 'internlm2'"):
        config_of(INTERNLM2_7B, "gguf")


def test_qwens_gate_and_up_have_half_of_its_width_each(shared_data: Path) -> None:
    config = json.loads((shared_data / "models" / "qwen-72b" / "config.json").read_text())
    made = config_of(config, "qwen")
    # the published index has 144,575,840,256 bytes in two each; q, k and v have biases
    count = sum_of(made) + made.num_hidden_layers * 3 * made.hidden_size
    assert 2 * count == 144_575_840_256
    assert (made.rope_theta, made.rms_norm_eps) == (1e6, 1e-6)


def sum_of(config: ModelConfig) -> int:
    from zhen.model.size import parameters

    return parameters(config)


def test_what_is_no_number_is_left_to_the_checks() -> None:
    for value in ("x", -3, True, None, 10**30):
        with pytest.raises(ZhenError):
            config_of({"dim": value, "multiple_of": value, "ffn_dim_multiplier": value}, "meta")
    assert plain({"n_layer": 3}) == {"n_layer": 3, "num_hidden_layers": 3}
