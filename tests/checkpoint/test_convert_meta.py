"""Meta's folders against torch.load, the formulas of Meta's own model, and parts cut by torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import conversions
import meta_llama
import msgspec
import pytest
import torch
from conversions import TEXT, convert, logits, save_theirs
from transformers import LlamaForCausalLM

from zhen.checkpoint.consolidated import open_consolidated, params_of
from zhen.checkpoint.inspect import inspect_checkpoint
from zhen.errors import ZhenError
from zhen.model.config import PRESETS, RopeScaling, from_config_json

CONFIG = msgspec.structs.replace(conversions.CONFIG, intermediate_size=192, rope_theta=10_000.0, initializer_range=0.2)


def loaded(folder: Path) -> list[dict[str, torch.Tensor]]:
    files = sorted(folder.glob("consolidated.*.pth"))
    return [torch.load(file, weights_only=True, mmap=True) for file in files]


def params(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "params.json").read_text())
    return found


@pytest.mark.parametrize("changes", [{}, {"rope_theta": 5e5}, {"num_key_value_heads": 4}, {"num_key_value_heads": 1}])
def test_metas_own_formulas_give_transformers_logits(changes: dict[str, Any], tmp_path: Path) -> None:
    source = save_theirs(tmp_path / "source", msgspec.structs.replace(CONFIG, **changes))
    convert(source, tmp_path / "meta", "meta")
    theirs = meta_llama.logits(loaded(tmp_path / "meta")[0], params(tmp_path / "meta"), TEXT)
    assert (theirs - logits(source)).abs().max() < 1e-4


@pytest.mark.parametrize(("theta", "axis"), [(10_000.0, 1), (500_000.0, 0)])
def test_parts_are_those_that_torch_cuts(theta: float, axis: int, tmp_path: Path) -> None:
    source = save_theirs(tmp_path / "source", msgspec.structs.replace(CONFIG, rope_theta=theta))
    convert(source, tmp_path / "one", "meta")
    convert(source, tmp_path / "two", "meta", model_parallel=2)
    whole, parts = loaded(tmp_path / "one")[0], loaded(tmp_path / "two")
    cut = {"tok_embeddings": axis, "output": 0, "wo": 1, "w2": 1, "wq": 0, "wk": 0, "wv": 0, "w1": 0, "w3": 0}
    for name, tensor in whole.items():
        part = name.removesuffix(".weight").rpartition(".")[2]
        expected = tensor.chunk(2, cut[part]) if part in cut else (tensor, tensor)
        assert torch.equal(parts[0][name], expected[0])
        assert torch.equal(parts[1][name], expected[1])


def saved_by_torch(folder: Path, whole: dict[str, torch.Tensor], axis: int, count: int) -> Path:
    """A folder as Meta's training leaves it: parts saved by torch, rotary frequencies in each, no config.json."""
    cut = {"tok_embeddings": axis, "output": 0, "wo": 1, "w2": 1, "wq": 0, "wk": 0, "wv": 0, "w1": 0, "w3": 0}
    folder.mkdir()
    for number in range(count):
        part = {"rope.freqs": torch.ones(8)}
        for name, tensor in whole.items():
            kind = name.removesuffix(".weight").rpartition(".")[2]
            part[name] = tensor.chunk(count, cut[kind])[number].clone() if kind in cut else tensor.clone()
        torch.save(part, folder / f"consolidated.{number:02d}.pth")
    return folder


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("count", [1, 2])
def test_parts_saved_by_torch_become_the_model(axis: int, count: int, tmp_path: Path) -> None:
    source = save_theirs(tmp_path / "source", CONFIG)
    convert(source, tmp_path / "meta", "meta")
    folder = saved_by_torch(tmp_path / "parts", loaded(tmp_path / "meta")[0], axis, count)
    stated = {"dim": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "multiple_of": 64, "norm_eps": 1e-6}
    (folder / "params.json").write_text(json.dumps(stated | {"vocab_size": -1}))
    convert(folder, tmp_path / "back", "llama")
    assert torch.equal(logits(tmp_path / "back"), logits(source))
    config = from_config_json(json.loads((tmp_path / "back" / "config.json").read_text()))
    assert (config.vocab_size, config.max_position_embeddings, config.intermediate_size) == (96, 2048, 192)
    assert inspect_checkpoint(folder).family == "llama"


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    source = save_theirs(tmp_path / "source", CONFIG)
    convert(source, tmp_path / "meta", "meta", model_parallel=2)
    other = tmp_path / "meta" / "consolidated.01.pth"
    part = torch.load(other, weights_only=True)
    torch.save(part | {"norm.weight": part["norm.weight"] + 1}, other)
    with pytest.raises(ZhenError, match="differs; expected the bytes in consolidated") as error:
        convert(tmp_path / "meta", tmp_path / "back", "llama")
    assert error.value.place == "tensor 'norm.weight'"
    torch.save({name: tensor for name, tensor in part.items() if name != "norm.weight"}, other)
    with pytest.raises(ZhenError, match="not in every part"):
        open_consolidated(tmp_path / "meta")
    other.rename(tmp_path / "meta" / "consolidated.02.pth")
    with pytest.raises(ZhenError, match="expected consolidated") as missing:
        open_consolidated(tmp_path / "meta")
    assert missing.value.hint == "a part is missing, or has another name"


def test_two_configs_that_disagree_are_refused(tmp_path: Path) -> None:
    convert(save_theirs(tmp_path / "source", CONFIG), tmp_path / "meta", "meta")
    (tmp_path / "meta" / "params.json").write_text(json.dumps(params(tmp_path / "meta") | {"n_heads": 2}))
    with pytest.raises(ZhenError, match="num_attention_heads 2; expected 4, as in config"):
        open_consolidated(tmp_path / "meta")


def test_torch_loads_what_is_written_in_every_dtype(tmp_path: Path) -> None:
    source = save_theirs(tmp_path / "source", CONFIG)
    state = LlamaForCausalLM.from_pretrained(source).state_dict()
    for dtype, kind in {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}.items():
        convert(source, tmp_path / dtype, "meta", dtype=dtype)
        found = loaded(tmp_path / dtype)[0]
        assert {tensor.dtype for tensor in found.values()} == {kind}
        theirs = state["model.layers.1.mlp.down_proj.weight"].to(kind)
        assert torch.equal(found["layers.1.feed_forward.w2.weight"], theirs)
        again = torch.load(tmp_path / dtype / "consolidated.00.pth", weights_only=True)
        assert all(torch.equal(again[name], tensor) for name, tensor in found.items())
        assert all(tensor.data_ptr() % 64 == 0 for tensor in found.values())


def width(stated: dict[str, Any]) -> int:
    """The feed-forward width as Meta's code computes it (FeedForward in llama/model.py)."""
    hidden = int(2 * 4 * stated["dim"] / 3)
    if stated.get("ffn_dim_multiplier") is not None:
        hidden = int(stated["ffn_dim_multiplier"] * hidden)
    multiple = stated["multiple_of"]
    found: int = multiple * ((hidden + multiple - 1) // multiple)
    return found


@pytest.mark.parametrize("name", [name for name in PRESETS if "llama" in name or "yi" in name])
def test_params_say_the_published_shapes(name: str) -> None:
    config = PRESETS[name]
    assert width(params_of(config)) == config.intermediate_size


def test_params_say_any_feed_forward_width() -> None:
    for wanted in range(1, 700):
        found = params_of(msgspec.structs.replace(CONFIG, intermediate_size=wanted))
        assert width(found) == wanted


def test_llama_3s_scaling_is_said_and_other_scaling_refused(tmp_path: Path) -> None:
    scaling = RopeScaling(
        rope_type="llama3",
        factor=32.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=8192,
    )
    config = msgspec.structs.replace(CONFIG, rope_scaling=scaling, max_position_embeddings=131_072, rope_theta=5e5)
    config = msgspec.structs.replace(config, rms_norm_eps=1e-5)
    source = save_theirs(tmp_path / "source", config)
    convert(source, tmp_path / "meta", "meta")
    assert params(tmp_path / "meta") | {"use_scaled_rope": True, "rope_scaling_factor": 32.0} == params(
        tmp_path / "meta"
    )
    (tmp_path / "meta" / "config.json").unlink()
    convert(tmp_path / "meta", tmp_path / "back", "llama")
    assert torch.equal(logits(tmp_path / "back"), logits(source))
    yarn = RopeScaling(rope_type="yarn", factor=2.0, original_max_position_embeddings=32)
    with pytest.raises(ZhenError, match="yarn scaling"):
        params_of(msgspec.structs.replace(CONFIG, rope_scaling=yarn))
