"""Inspection: real published configs and indexes, saved models, bare files."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from zhen.checkpoint.inspect import Summary, inspect_checkpoint
from zhen.checkpoint.names import SKIPPED, rename
from zhen.checkpoint.reader import open_checkpoint
from zhen.errors import ZhenError
from zhen.model.config import PRESETS, to_config_json

KEYS = [
    *("family", "naming", "differences", "layers", "hidden_size", "heads", "kv_heads", "head_size"),
    *("intermediate_size", "vocab_size", "max_positions", "rope_theta", "rope_scaling", "tied_embeddings"),
    *("parameters", "tensors", "bytes", "dtypes", "remote_code", "kv_bytes_per_token"),
]


def save(folder: Path, **changes: object) -> LlamaForCausalLM:
    config = msgspec.structs.replace(PRESETS["micro"], vocab_size=70, num_attention_heads=4, num_key_value_heads=2)
    model = LlamaForCausalLM(LlamaConfig(**to_config_json(config, "bfloat16") | changes)).bfloat16()
    model.save_pretrained(folder)
    return model


def test_the_keys_are_the_contract() -> None:
    assert list(Summary.__struct_fields__)[: len(KEYS)] == KEYS


def test_a_saved_model_is_described(tmp_path: Path) -> None:
    theirs = save(tmp_path)
    s = inspect_checkpoint(tmp_path)
    assert (s.family, s.naming, s.differences, s.remote_code, s.notes) == ("llama", "llama", [], [], [])
    assert s.parameters == sum(p.numel() for p in theirs.parameters())
    assert s.bytes == 2 * s.parameters
    assert s.dtypes == {"BF16": s.tensors}
    assert (s.layers, s.heads, s.kv_heads, s.head_size, s.vocab_size) == (2, 4, 2, 16, 70)
    assert s.tied_embeddings is True
    assert s.kv_bytes_per_token == 2 * 2 * 2 * 16 * 2
    assert inspect_checkpoint(tmp_path / "model.safetensors") == s


# what the models' own cards and code say
REAL = {
    "llama-2-7b-chat": ("llama", "llama", set()),
    "internlm-20b": ("llama", "llama", set()),
    "open-llama-zh-en-3b": ("llama", "llama", set()),
    "yi-1.5-6b-slerp": ("llama", "llama", set()),
    "baichuan2-13b-chat": ("baichuan", "baichuan", {"normalisation", "position"}),
    "falcon-180b-chat": ("falcon", "falcon", {"attention", "activation", "normalisation"}),
    "qwen-72b": ("qwen", "qwen", {"attention"}),
    "wizardlm-2-8x22b": ("mixtral", "mixtral", {"activation"}),
}


@pytest.mark.parametrize("name", REAL)
def test_published_models_are_told_apart(name: str, shared_data: Path) -> None:
    s = inspect_checkpoint(shared_data / "models" / name)
    assert (s.family, s.naming, {d.partition(":")[0] for d in s.differences}) == REAL[name]
    assert any("weights are missing" in note for note in s.notes)
    assert bool(s.remote_code) == (name in ("baichuan2-13b-chat", "qwen-72b"))
    assert bool(s.unmapped) == (name in ("falcon-180b-chat", "qwen-72b", "wizardlm-2-8x22b"))


@pytest.mark.parametrize(
    ("name", "lost", "constants"),
    [
        ("falcon-180b-chat", 80 * 3 + 1, 0),  # two LayerNorm biases and an ungated matrix a layer, the last norm's bias
        ("qwen-72b", 80, 0),  # a bias a layer
        ("wizardlm-2-8x22b", 56 * (8 * 3 + 1), 0),  # eight experts of three matrices and their gate a layer
        ("open-llama-zh-en-3b", 0, 26),
        ("baichuan2-13b-chat", 0, 0),
    ],
)
def test_every_tensor_of_an_index_has_a_place_or_is_listed(
    name: str, lost: int, constants: int, shared_data: Path
) -> None:
    folder = shared_data / "models" / name
    index = json.loads(next(folder.glob("*.index.json")).read_text())["weight_map"]
    s = inspect_checkpoint(folder)
    assert len(s.unmapped) == lost
    assert set(s.unmapped) <= set(index)
    assert s.tensors == len(index)
    assert len([name for name in index if SKIPPED.fullmatch(name)]) == constants


def test_the_page_of_published_models_is_what_the_script_prints(shared_data: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, root / "benchmarks" / "models.py", shared_data / "models"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == (root / "docs" / "results" / "models.md").read_text()


@pytest.mark.parametrize(("name", "width"), [("llama-2-7b-chat", 2), ("internlm-20b", 2), ("yi-1.5-6b-slerp", 2)])
def test_parameters_by_config_agree_with_the_bytes_of_the_published_index(
    name: str, width: int, shared_data: Path
) -> None:
    s = inspect_checkpoint(shared_data / "models" / name)
    assert s.parameters is not None
    assert s.parameters * width == s.bytes


def test_old_rotary_constants_are_counted_apart(shared_data: Path) -> None:
    s = inspect_checkpoint(shared_data / "models" / "open-llama-zh-en-3b")
    assert s.tensors == 26 * 10 + 3
    assert s.parameters is not None
    assert s.bytes == 4 * (s.parameters + 26 * s.hidden_size // s.heads // 2)
    assert any("26 computed constants are stored (self_attn.rotary_emb.inv_freq)" in note for note in s.notes)


def test_a_copy_of_llama_under_other_names_is_llama(tmp_path: Path) -> None:
    save(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    names = rename(tensors, "llama", "yi")
    save_file({names[name]: tensor for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    edit(tmp_path, model_type="Invented", architectures=["InventedForCausalLM"], auto_map={"AutoModel": "other--x.Y"})
    s = inspect_checkpoint(tmp_path)
    assert (s.family, s.naming, s.differences) == ("llama", "yi", [])
    assert s.remote_code == ["config.json auto_map AutoModel: other--x.Y"]
    assert s.notes == []


def test_experts_are_a_difference(tmp_path: Path) -> None:
    config = MixtralConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        vocab_size=20, num_local_experts=2,
    )  # fmt: skip
    MixtralForCausalLM(config).save_pretrained(tmp_path)
    s = inspect_checkpoint(tmp_path)
    assert s.family == "mixtral"
    assert any(d.startswith("activation: ") for d in s.differences)


def test_biases_are_a_difference(tmp_path: Path) -> None:
    save(tmp_path, attention_bias=True)
    s = inspect_checkpoint(tmp_path)
    assert s.family != "llama"
    assert [d.partition(":")[0] for d in s.differences] == ["attention", "attention"]


def test_shapes_that_differ_from_the_config_are_noted(tmp_path: Path) -> None:
    save(tmp_path)
    edit(tmp_path, vocab_size=80, intermediate_size=97)
    notes = inspect_checkpoint(tmp_path).notes
    assert "model.embed_tokens.weight has shape [70, 32], config.json says [80, 32]" in notes
    assert notes[-1] == "4 more shapes differ"
    edit(tmp_path, vocab_size=70, intermediate_size=96, num_hidden_layers=3)
    assert inspect_checkpoint(tmp_path).notes == ["9 tensors missing, the first model.layers.2.input_layernorm.weight"]


def test_a_bare_file_tells_what_its_headers_tell(tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "config.json").unlink()
    s = inspect_checkpoint(tmp_path)
    assert (s.naming, s.layers, s.hidden_size, s.vocab_size, s.intermediate_size) == ("llama", 2, 32, 70, 96)
    assert s.heads is None
    assert any("no config.json" in note for note in s.notes)


def test_pickled_weights_are_never_run(tmp_path: Path) -> None:
    theirs = save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    s = inspect_checkpoint(tmp_path)
    assert (s.family, s.naming, s.format, s.files, s.dtypes) == ("llama", "llama", "torch", 1, {"BF16": s.tensors})
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    with pytest.raises(ZhenError, match=r"pytorch_model\.bin"):
        inspect_checkpoint(tmp_path)


@pytest.mark.parametrize("path", ["", "config.json"])
def test_a_config_alone_tells_what_it_tells(path: str, tmp_path: Path) -> None:
    theirs = save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    s = inspect_checkpoint(tmp_path / path)
    assert (s.family, s.naming, s.tensors, s.bytes, s.dtypes, s.format) == ("llama", "unknown", 0, None, {}, "config")
    assert s.parameters == sum(p.numel() for p in theirs.parameters())
    assert len(s.notes) == 1
    edit(tmp_path, model_type="mistral", tie_word_embeddings=None)
    s = inspect_checkpoint(tmp_path / path)
    assert (s.family, s.tied_embeddings) == ("mistral", None)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "model.safetensors"])
def test_a_git_lfs_pointer_is_named_with_what_to_do(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(ZhenError, match=f"{name}: a Git LFS pointer") as caught:
        inspect_checkpoint(tmp_path)
    assert "git lfs pull" in (caught.value.hint or "")


def test_a_json_file_that_is_no_config_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_text('{"epoch": 1}')
    with pytest.raises(ZhenError, match=r"trainer_state\.json: a JSON file without"):
        inspect_checkpoint(tmp_path / "trainer_state.json")


def test_weights_that_are_git_lfs_pointers_are_said_to_be(tmp_path: Path) -> None:
    save(tmp_path)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 34567\n"
    (tmp_path / "model.safetensors").write_text(pointer)
    s = inspect_checkpoint(tmp_path)
    assert (s.family, s.format, s.bytes) == ("llama", "config", 34567)
    assert "Git LFS pointers (fetch the file: git lfs pull)" in s.notes[0]
    (tmp_path / "model.safetensors").rename(tmp_path / "a.safetensors")
    index = {"weight_map": {"lm_head.weight": "a.safetensors", "model.norm.weight": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    s = inspect_checkpoint(tmp_path)
    assert (s.tensors, s.files, s.format) == (2, 2, "index")
    assert "Git LFS pointers" in s.notes[0]


@pytest.mark.parametrize("read", [inspect_checkpoint, open_checkpoint])
def test_what_the_system_refuses_is_no_traceback(read: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(ZhenError, match="can't be read: File name too long"):
        read(tmp_path / ("a" * 300))


def test_code_beside_the_weights_is_listed_and_never_run(tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "modeling_yi.py").write_text("raise SystemExit(1)")
    assert inspect_checkpoint(tmp_path).remote_code == ["modeling_yi.py"]


def test_a_missing_shard_among_others_is_an_error(tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "a.safetensors")
    names = dict.fromkeys(load_file(tmp_path / "a.safetensors"), "a.safetensors") | {"x": "b.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    with pytest.raises(ZhenError, match=r"b\.safetensors: missing"):
        inspect_checkpoint(tmp_path)


def test_an_index_stands_for_its_folder(shared_data: Path) -> None:
    folder = shared_data / "models" / "qwen-72b"
    assert inspect_checkpoint(folder / "model.safetensors.index.json") == inspect_checkpoint(folder)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["rope_type", "factor", "x"]), inner),
    max_leaves=3,
)  # fmt: skip
rotary_keys = ("rope_scaling", "rope_parameters", "rope_theta", "head_dim", "max_position_embeddings")
named_keys = ("model_type", "architectures", "auto_map", "hidden_act", "dtype", "tie_word_embeddings")
config_keys = st.sampled_from([*rotary_keys, *named_keys, "vocab_size", "num_hidden_layers", "sliding_window"])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(config_keys, json_values, max_size=4))
def test_no_config_ends_in_a_traceback(tmp_path: Path, changes: dict[str, object]) -> None:
    config = msgspec.structs.replace(PRESETS["micro"], vocab_size=70)
    save_file({"model.norm.weight": torch.zeros(32)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(to_config_json(config, "float32") | changes))
    with contextlib.suppress(ZhenError):
        msgspec.json.encode(inspect_checkpoint(tmp_path))


def edit(folder: Path, **keys: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


def test_zero_weights_do_not_matter(tmp_path: Path) -> None:
    save_file({"model.norm.weight": torch.zeros(0)}, tmp_path / "model.safetensors")
    assert inspect_checkpoint(tmp_path).parameters == 0
