"""Conversions: round trips bit for bit on random models, the same logits in transformers, casts, shards."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from conversions import CONFIG, DTYPES, config_in, content, convert, logits, write_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM, Phi3ForCausalLM

from zhen.checkpoint.inspect import inspect_checkpoint
from zhen.checkpoint.reader import open_checkpoint
from zhen.errors import ZhenError
from zhen.model.config import ModelConfig


@st.composite
def models(draw: st.DrawFn) -> tuple[ModelConfig, str, int, int]:
    heads = draw(st.sampled_from([1, 2, 3, 4, 6]))
    kv_heads = draw(st.sampled_from([count for count in (1, 2, 3, 4, 6) if heads % count == 0]))
    width = draw(st.sampled_from([2, 4, 6, 8]))
    config = ModelConfig(
        hidden_size=heads * width,
        intermediate_size=draw(st.integers(1, 40)),
        num_hidden_layers=draw(st.integers(1, 3)),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=draw(st.integers(3, 40)),
        max_position_embeddings=draw(st.sampled_from([32, 2048, 200_000])),
        rms_norm_eps=draw(st.sampled_from([1e-5, 1e-6, 0.00123])),
        rope_theta=draw(st.sampled_from([10_000.0, 5e6, 123_456.5])),
        tie_word_embeddings=draw(st.booleans()),
    )
    return (
        config,
        draw(st.sampled_from(list(DTYPES))),
        draw(st.sampled_from([2000, 10**9])),
        draw(st.integers(0, 9)),
    )


def divisors(config: ModelConfig) -> list[int]:
    sizes = (config.num_key_value_heads, config.intermediate_size, config.vocab_size, config.hidden_size)
    return [count for count in (1, 2, 3) if not any(size % count for size in sizes)]


@pytest.mark.parametrize("target", ["yi", "meta", "gguf", "phi3", "internlm2"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(model=models(), data=st.data())
def test_there_and_back_is_bit_for_bit(
    target: str, model: tuple[ModelConfig, str, int, int], data: st.DataObject
) -> None:
    config, dtype, shard_bytes, seed = model
    wanted: dict[str, Any] = {} if target == "gguf" else {"shard_bytes": shard_bytes}
    if target == "meta":
        wanted = {"model_parallel": data.draw(st.sampled_from(divisors(config))), "tie": False}
    with tempfile.TemporaryDirectory() as base:
        source = write_model(Path(base, "source"), config, dtype, shard_bytes, seed)
        there = Path(base, "there.gguf" if target == "gguf" else "there")
        convert(source, there, target, **wanted)
        convert(there, Path(base, "back"), "llama", shard_bytes=shard_bytes, tie=config.tie_word_embeddings)
        assert content(Path(base, "back")) == content(source)
        assert config_in(Path(base, "back")) == config


def test_baichuan_and_back(tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, num_key_value_heads=4, rope_theta=10_000.0)
    source = write_model(tmp_path / "source", config, "BF16", 10**9, 1)
    convert(source, tmp_path / "there", "baichuan")
    assert "model.layers.0.self_attn.W_pack.weight" in open_checkpoint(tmp_path / "there").tensors
    convert(tmp_path / "there", tmp_path / "back", "llama")
    assert content(tmp_path / "back") == content(source)
    assert config_in(tmp_path / "back") == config


@pytest.mark.parametrize("target", ["yi", "meta", "gguf", "phi3", "internlm2"])
def test_transformers_gives_the_same_logits_after_conversion_from_each(
    target: str, theirs: Path, tmp_path: Path
) -> None:
    there = tmp_path / ("there.gguf" if target == "gguf" else "there")
    convert(theirs, there, target)
    convert(there, tmp_path / "back", "llama")
    assert torch.equal(logits(tmp_path / "back"), logits(theirs))
    assert inspect_checkpoint(tmp_path / "back").family == "llama"


def test_transformers_own_phi3_gives_the_same_logits(theirs: Path, tmp_path: Path) -> None:
    convert(theirs, tmp_path / "phi3", "phi3")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "phi3", trust_remote_code=False)
    assert isinstance(model, Phi3ForCausalLM)
    assert (logits(tmp_path / "phi3") - logits(theirs)).abs().max() < 1e-5


def test_a_file_of_torch_save_becomes_safetensors(theirs: Path, tmp_path: Path) -> None:
    state = LlamaForCausalLM.from_pretrained(theirs).state_dict()
    (tmp_path / "torch").mkdir()
    shutil.copy(theirs / "config.json", tmp_path / "torch")
    # one transposed, as it comes when a trainer keeps its matrices the other way round
    head = state["lm_head.weight"].t().contiguous().t()
    torch.save(state | {"lm_head.weight": head}, tmp_path / "torch" / "pytorch_model.bin")
    convert(tmp_path / "torch", tmp_path / "back", "llama")
    assert content(tmp_path / "back") == content(theirs)


def test_tied_and_untied(tmp_path: Path) -> None:
    tied = msgspec.structs.replace(CONFIG, tie_word_embeddings=True)
    source = write_model(tmp_path / "source", tied, "BF16", 10**9, 1)
    convert(source, tmp_path / "two", "llama", tie=False)
    two = content(tmp_path / "two")
    assert two["lm_head.weight"] == two["model.embed_tokens.weight"]
    assert not config_in(tmp_path / "two").tie_word_embeddings
    convert(tmp_path / "two", tmp_path / "one", "llama", tie=True)
    assert content(tmp_path / "one") == content(source)
    other = write_model(tmp_path / "other", CONFIG, "BF16", 10**9, 2)
    with pytest.raises(ZhenError, match="a head of its own"):
        convert(other, tmp_path / "never", "llama", tie=True)


def test_a_padded_vocabulary_is_zeros_and_comes_off_again(theirs: Path, tmp_path: Path) -> None:
    convert(theirs, tmp_path / "padded", "llama", vocab_size=128)
    assert config_in(tmp_path / "padded").vocab_size == 128
    wide = logits(tmp_path / "padded")
    assert torch.equal(wide[..., :96], logits(theirs))
    assert not wide[..., 96:].any()
    convert(tmp_path / "padded", tmp_path / "cut", "llama", vocab_size=96)
    assert content(tmp_path / "cut") == content(theirs)
    with pytest.raises(ZhenError, match=r"at least 96: rows up to there are not zeros"):
        convert(tmp_path / "padded", tmp_path / "never", "llama", vocab_size=95)


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_casts_are_torchs(dtype: str, theirs: Path, tmp_path: Path) -> None:
    convert(theirs, tmp_path / "cast", "llama", dtype=dtype)
    kind = {"bf16": torch.bfloat16, "f16": torch.float16}[dtype]
    state = LlamaForCausalLM.from_pretrained(theirs).state_dict()
    for name, (_, _, data) in content(tmp_path / "cast").items():
        assert data == state[name].to(kind).view(torch.int16).numpy().tobytes()
    assert AutoConfig.from_pretrained(tmp_path / "cast").dtype == kind


def test_shards_hold_what_was_asked(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", CONFIG, "BF16", 10**9, 1)
    done = convert(source, tmp_path / "many", "llama", shard_bytes=20_000)
    assert max(size for name, size in done.files.items() if name.endswith(".safetensors")) < 20_000 + 5_000
    assert len(done.files) > 8
    assert content(tmp_path / "many") == content(source)
    assert open_checkpoint(tmp_path / "many").notes == []
