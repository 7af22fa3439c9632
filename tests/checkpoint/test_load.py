"""Loading and saving, both ways with transformers; wrong checkpoints; shards; a writer that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from zhen.checkpoint import load
from zhen.checkpoint.load import end_ids, load_model, save_model, tensor_bytes, tensor_from
from zhen.checkpoint.names import rename
from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.writer import write_sharded
from zhen.errors import ZhenError
from zhen.formats.files import sha256_file
from zhen.model.config import ModelConfig, RopeScaling, to_config_json
from zhen.model.transformer import Transformer, initialise

CONFIG = ModelConfig(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=60,
    max_position_embeddings=64,
    initializer_range=0.3,
    rope_theta=5e6,
)
TEXT = torch.randint(60, (2, 20), generator=torch.Generator().manual_seed(0))


def model(**changes: Any) -> Transformer:
    made = Transformer(msgspec.structs.replace(CONFIG, **changes))
    initialise(made, 1)
    return made


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= 1e-5 * theirs.abs().max())


YARN = RopeScaling(rope_type="yarn", factor=2.0, original_max_position_embeddings=32)


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True}, {"rope_scaling": YARN}, {"head_dim": 6}])
@torch.no_grad()
def test_transformers_loads_what_we_save(changes: dict[str, Any], tmp_path: Path) -> None:
    ours = model(**changes)
    digests = save_model(ours, tmp_path, "float32", None, 64)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=False)
    assert isinstance(theirs, LlamaForCausalLM)
    assert close(ours(TEXT), theirs(TEXT).logits)
    assert close(ours(TEXT), load_model(tmp_path)(TEXT))
    assert digests == {name: sha256_file(tmp_path / name) for name in os.listdir(tmp_path)}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shard", ["5GB", "10KB"])
@torch.no_grad()
def test_we_load_what_transformers_saves(tied: bool, shard: str, tmp_path: Path) -> None:
    config = LlamaConfig(**to_config_json(CONFIG, "float32") | {"tie_word_embeddings": tied})
    theirs = LlamaForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path, max_shard_size=shard)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard == "10KB")
    assert close(load_model(tmp_path)(TEXT), theirs(TEXT).logits)
    assert open_checkpoint(tmp_path).notes == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtypes_are_kept_and_can_be_changed(dtype: str, tmp_path: Path) -> None:
    save_model(model(), tmp_path, dtype, None, 64)
    kind = getattr(torch, dtype)
    assert {p.dtype for p in load_model(tmp_path).parameters()} == {kind}
    assert {p.dtype for p in load_model(tmp_path, "float32").parameters()} == {torch.float32}
    theirs = load_file(tmp_path / "model.safetensors")
    for name, tensor in load_model(tmp_path).state_dict().items():
        assert torch.equal(tensor, theirs[name])
        assert torch.equal(tensor, model().state_dict()[name].to(kind))


@torch.no_grad()
def test_matrices_of_several_formats_come_in_one_that_holds_them_all(tmp_path: Path) -> None:
    save_model(model(), tmp_path, "bfloat16", None, 64)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = tensors["lm_head.weight"].float()
    tensors["model.norm.weight"] = tensors["model.norm.weight"].float()
    save_file(tensors, tmp_path / "model.safetensors")
    mixed = load_model(tmp_path)
    assert {p.dtype for p in mixed.parameters() if p.ndim > 1} == {torch.float32}
    assert close(mixed(TEXT), load_model(tmp_path, "float32")(TEXT))


@pytest.mark.parametrize(
    ("generation", "expected"), [(7, {7}), ([2, 7], {2, 7}), ([], set()), (None, {2}), ("gone", {2})]
)
def test_ends_are_those_of_the_generation_config_else_of_the_config(
    generation: Any, expected: set[int], tmp_path: Path
) -> None:
    save_model(model(), tmp_path, "bfloat16", None, 64)
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps({"eos_token_id": generation}))
    if generation == "gone":
        file.unlink()
    assert end_ids(tmp_path) == expected


@pytest.mark.parametrize("value", ["</s>", True, [2, -1], [2.0]])
def test_an_end_that_is_no_token_is_refused(value: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": value}))
    with pytest.raises(ZhenError, match=r"eos_token_id: .* expected a token id"):
        end_ids(tmp_path)


def test_shards_hold_the_same_and_are_at_most_as_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "SHARD_BYTES", 9000)
    digests = save_model(model(), tmp_path, "float32", None, 64)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) > 3
    assert set(digests) == {p.name for p in tmp_path.iterdir()}
    joined = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert joined.keys() == model().state_dict().keys()
    assert all(sum(t.nbytes for t in load_file(f).values()) <= 9000 or len(load_file(f)) == 1 for f in files)
    assert all(torch.equal(t, joined[n]) for n, t in load_model(tmp_path).state_dict().items())
    assert LlamaForCausalLM.from_pretrained(tmp_path).lm_head.weight.shape == (60, 32)


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    one, other = (save_model(model(), tmp_path / name, "bfloat16", None, 64) for name in "ab")
    assert one == other


@torch.no_grad()
def test_yis_first_names_load_as_the_same_model(tmp_path: Path) -> None:
    save_model(model(), tmp_path, "float32", None, 64)
    tensors = load_file(tmp_path / "model.safetensors")
    names = rename(tensors, "llama", "yi")
    renamed = {names[name]: tensor for name, tensor in tensors.items()}
    renamed["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(renamed, tmp_path / "model.safetensors")
    change(tmp_path, model_type="Yi", architectures=["YiForCausalLM"], auto_map={"AutoConfig": "configuration_yi.X"})
    assert torch.equal(load_model(tmp_path)(TEXT), model()(TEXT))


def test_only_the_trained_length_is_claimed(tmp_path: Path) -> None:
    source = tmp_path / "tokenizer"
    source.mkdir()
    (source / "tokenizer.json").write_text("{}")
    (source / "tokenizer_config.json").write_text('{"model_max_length": 1e30, "名": "字"}')
    save_model(model(), tmp_path / "out", "float32", source, 32)
    assert load_model(tmp_path / "out").config.max_position_embeddings == 32
    settings = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert settings == {"model_max_length": 32, "名": "字"}
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"


def test_post_norm_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZhenError, match="post"):
        save_model(model(norm_place="post"), tmp_path / "out", "float32", None, 64)
    assert not (tmp_path / "out").exists()


def change(folder: Path, **keys: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


def drop(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["model.layers.0.mlp.up_proj.weight"], tensors["model.layers.1.mlp.up_proj.weight"]


def add(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.2.mlp.up_proj.weight"] = torch.zeros(48, 32)


def bias(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(32)


def reshape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.norm.weight"] = torch.ones(16)


def cast(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.norm.weight"] = torch.ones(32, dtype=torch.int8)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop, "2 tensors missing, the first model.layers.0.mlp.up_proj.weight"),
        (add, "1 tensors too many, the first model.layers.2"),
        (bias, "q_proj.bias"),
        (reshape, r"tensor 'model.norm.weight': shape \[16\]; expected \[32\]"),
        (cast, "I8"),
    ],
)
def test_tensors_that_do_not_fit_the_config_are_named(spoil: Any, message: str, tmp_path: Path) -> None:
    save_model(model(), tmp_path, "float32", None, 64)
    tensors = load_file(tmp_path / "model.safetensors")
    spoil(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ZhenError, match=message):
        load_model(tmp_path)


def test_a_tied_head_may_be_stored_if_it_is_the_embedding(tmp_path: Path) -> None:
    save_model(model(tie_word_embeddings=True), tmp_path, "float32", None, 64)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    load_model(tmp_path)
    tensors["lm_head.weight"][0, 0] += 1
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ZhenError, match="differs from the embedding"):
        load_model(tmp_path)


def test_a_folder_without_config_or_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ZhenError, match="not found"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ZhenError, match=r"no \.safetensors files"):
        load_model(tmp_path)
    save_model(model(), tmp_path, "float32", None, 64)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ZhenError, match=r"config.json: missing"):
        load_model(tmp_path)
    with pytest.raises(ZhenError, match='dtype "bf16"'):
        save_model(model(), tmp_path, "bf16", None, 64)


KINDS = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(KINDS), st.lists(st.integers(0, 4), max_size=3))
def test_tensors_survive_the_way_through_bytes(tmp_path: Path, kind: torch.dtype, shape: list[int]) -> None:
    tensor = (torch.randn(shape) * 3).to(kind)
    save_file({"w": tensor}, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    data = checkpoint.read("w")
    assert bytes(data) == bytes(tensor_bytes(tensor))
    back = tensor_from(checkpoint.tensors["w"], data)
    assert back.dtype == kind
    assert torch.equal(back, tensor)
    assert data.readonly


def test_transposed_tensors_are_written_row_by_row() -> None:
    tensor = torch.arange(6.0).view(2, 3).T
    assert bytes(tensor_bytes(tensor)) == tensor.contiguous().numpy().tobytes()


def test_a_killed_writer_leaves_no_file_that_looks_whole(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from zhen.checkpoint.writer import write_sharded
def die():
    os.kill(os.getpid(), signal.SIGKILL)
data = [("a", "U8", [4], b"1234"), ("b", "U8", [4], b"5678"), ("c", "U8", [4], die)]
write_sharded(Path({str(tmp_path)!r}), data, 4)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    with pytest.raises(ZhenError, match=r"2 \.safetensors files and no"):
        open_checkpoint(tmp_path)
    data = [("a", "U8", [4], b"1234"), ("b", "U8", [4], b"5678"), ("c", "U8", [4], b"9abc")]
    write_sharded(tmp_path, data, 4)
    assert bytes(open_checkpoint(tmp_path).read("c")) == b"9abc"


def test_a_released_tokenizer_stays_readable(tmp_path: Path) -> None:
    """The files of a tokenizer that transformers made go through unchanged in meaning."""
    from tokenizers import Tokenizer, models

    source = tmp_path / "tokenizer"
    source.mkdir()
    Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>")).save(str(source / "tokenizer.json"))
    (source / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    save_model(model(), tmp_path / "out", "float32", source, 64)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").model_max_length == 64
