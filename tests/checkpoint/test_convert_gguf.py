"""GGUF against the gguf package and transformers' own GGUF loading."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import sentencepiece
import torch
from conversions import convert, logits
from gguf_models import SCALED, TEXTS, elsewhere, field
from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from zhen.checkpoint.gguf import open_gguf
from zhen.checkpoint.gguf_header import read_gguf_header
from zhen.checkpoint.gguf_metadata import rope_factors
from zhen.errors import ZhenError
from zhen.model.config import RopeScaling, from_config_json

WIDE = torch.randint(300, (2, 24), generator=torch.Generator().manual_seed(0))


def test_transformers_reads_our_gguf_with_the_same_logits(save_llama: Callable[..., Path], tmp_path: Path) -> None:
    source = save_llama()
    convert(source, tmp_path / "m.gguf", "gguf")
    assert torch.equal(logits(tmp_path, WIDE, gguf_file="m.gguf"), logits(source, WIDE))
    theirs = AutoConfig.from_pretrained(tmp_path, gguf_file="m.gguf")
    assert (theirs.rms_norm_eps, theirs.num_key_value_heads, theirs.vocab_size) == (pytest.approx(1e-6), 2, 400)


def test_the_header_is_what_the_gguf_package_reads(save_llama: Callable[..., Path], tmp_path: Path) -> None:
    convert(save_llama(), tmp_path / "m.gguf", "gguf", dtype="q8_0")
    ours, theirs = read_gguf_header(tmp_path / "m.gguf"), gguf.GGUFReader(tmp_path / "m.gguf")
    assert {key for key in theirs.fields if not key.startswith("GGUF.")} == set(ours.metadata)
    for key, value in ours.metadata.items():
        assert np.array_equal(value, theirs.fields[key].contents())
    assert [tensor.name for tensor in theirs.tensors] == list(ours.tensors)
    for tensor in theirs.tensors:
        mine = ours.tensors[tensor.name]
        assert mine.shape == tuple(tensor.shape.tolist()[::-1])
        assert (mine.type, mine.begin) == (tensor.tensor_type.name, tensor.data_offset)
        assert mine.end - mine.begin == tensor.n_bytes


@pytest.mark.parametrize("base", [10_000.0, 500_000.0, 5_000_000.0, 10_000_000.0])
def test_the_rotary_base_is_always_stated(base: float, save_llama: Callable[..., Path], tmp_path: Path) -> None:
    rotary = {"rope_theta": base, "rope_parameters": {"rope_theta": base, "rope_type": "default"}}
    source = save_llama(config=rotary)
    convert(source, tmp_path / "m.gguf", "gguf")
    assert field(tmp_path / "m.gguf", "llama.rope.freq_base") == base
    elsewhere(tmp_path / "m.gguf", tmp_path / "other.gguf")
    convert(tmp_path / "other.gguf", tmp_path / "back", "llama")
    assert from_config_json(json.loads((tmp_path / "back" / "config.json").read_text())).rope_theta == base


def test_a_folder_whose_name_is_not_utf_8_gives_a_file(save_llama: Callable[..., Path], tmp_path: Path) -> None:
    folder = save_llama().rename(tmp_path / os.fsdecode(b"m\xff"))
    convert(folder, tmp_path / "m.gguf", "gguf")
    assert read_gguf_header(tmp_path / "m.gguf").metadata["general.name"] == "m?"


def test_a_file_of_another_tool_becomes_the_same_model(save_llama: Callable[..., Path], tmp_path: Path) -> None:
    source = save_llama(settings={"chat_template": "{{ messages }}"})
    convert(source, tmp_path / "m.gguf", "gguf")
    elsewhere(tmp_path / "m.gguf", tmp_path / "other.gguf")
    done = convert(tmp_path / "other.gguf", tmp_path / "back", "llama")
    assert any("rebuilt" in note for note in done.notes)
    assert torch.equal(logits(tmp_path / "back", WIDE), logits(source, WIDE))
    ours, theirs = (
        sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        for folder in (tmp_path / "back", source)
    )
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text)
    assert AutoTokenizer.from_pretrained(tmp_path / "back").chat_template == "{{ messages }}"


def test_small_files_come_back_as_they_were_unless_the_metadata_was_edited(
    save_llama: Callable[..., Path], tmp_path: Path
) -> None:
    source = save_llama()
    convert(source, tmp_path / "m.gguf", "gguf")
    convert(tmp_path / "m.gguf", tmp_path / "back", "llama")
    for name in ("tokenizer.model", "tokenizer_config.json", "generation_config.json"):
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes()
    data = (tmp_path / "m.gguf").read_bytes()
    key = b"tokenizer.ggml.add_bos_token" + (7).to_bytes(4, "little")
    at = data.index(key) + len(key)
    (tmp_path / "edited.gguf").write_bytes(data[:at] + b"\x01" + data[at + 1 :])
    convert(tmp_path / "edited.gguf", tmp_path / "edited", "llama")
    assert json.loads((tmp_path / "edited" / "tokenizer_config.json").read_text())["add_bos_token"] is True


def test_llama_3s_scaling_is_transformers(save_llama: Callable[..., Path], tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    positions = {"max_position_embeddings": 131_072, "rope_theta": 5e5}
    source = save_llama(
        config={**positions, "rope_scaling": dict(scaling), "rope_parameters": {**scaling, "rope_theta": 5e5}}
    )
    config = AutoConfig.from_pretrained(source)
    plain = 5e5 ** -(torch.arange(0, 16, 2) / 16)
    theirs = plain / ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))[0]
    ours = from_config_json(json.loads((source / "config.json").read_text()))
    assert ours.rope_scaling is not None
    assert np.allclose(rope_factors(ours, ours.rope_scaling), theirs, rtol=1e-6)
    convert(source, tmp_path / "m.gguf", "gguf")
    convert(elsewhere(tmp_path / "m.gguf", tmp_path / "other.gguf"), tmp_path / "back", "llama")
    back = from_config_json(json.loads((tmp_path / "back" / "config.json").read_text()))
    assert (back.rope_scaling, back.rope_theta) == (RopeScaling(**scaling), 5e5)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"])
def test_quantised_tensors_are_read_as_the_gguf_package_expands_them(kind: str, tmp_path: Path) -> None:
    quantised = gguf.GGMLQuantizationType[kind]
    block, width = gguf.GGML_QUANT_SIZES[quantised]
    data = np.random.default_rng(0).integers(0, 120, (6, 1024 // block * width), dtype=np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("token_embd.weight", data, raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    opened = open_gguf(tmp_path / "m.gguf")
    assert opened.tensors["token_embd.weight"].shape == (6, 1024)
    assert opened.notes == [f"1 tensors of type {kind} are read as F32"]
    theirs = gguf.dequantize(data, quantised)
    assert bytes(opened.read("token_embd.weight")) == theirs.astype("<f4").tobytes()


def test_q8_0_is_the_packages_own(save_llama: Callable[..., Path], tmp_path: Path) -> None:
    source = save_llama()
    done = convert(source, tmp_path / "m.gguf", "gguf", dtype="q8_0")
    assert done.dtypes == {"Q8_0": 16, "F32": 5}
    state = LlamaForCausalLM.from_pretrained(source).state_dict()
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    theirs = gguf.quantize(state["model.layers.1.mlp.up_proj.weight"].numpy(), gguf.GGMLQuantizationType.Q8_0)
    assert np.array_equal(tensors["blk.1.ffn_up.weight"].data, theirs)


def test_every_part_of_a_split_file_opens_the_whole(save_llama: Callable[..., Path], tmp_path: Path) -> None:
    source = save_llama()
    convert(source, tmp_path / "m.gguf", "gguf")
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    writer = gguf.GGUFWriter(tmp_path / "part.gguf", "llama", split_max_tensors=8)
    for key, found in reader.fields.items():
        if key.startswith("llama."):
            writer.add_key_value(key, found.contents(), found.types[0])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    parts = sorted(tmp_path.glob("part-*.gguf"))
    assert len(parts) == 3
    for number, part in enumerate(parts):
        convert(part, tmp_path / f"back{number}", "llama")
        assert torch.equal(logits(tmp_path / f"back{number}", WIDE), logits(source, WIDE))
    parts[1].unlink()
    with pytest.raises(ZhenError, match="all 3 parts"):
        open_gguf(parts[0])


def test_a_gguf_becomes_a_smaller_gguf_with_the_same_tokenizer(save_llama: Callable[..., Path], tmp_path: Path) -> None:
    source = save_llama()
    (source / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    convert(source, tmp_path / "m.gguf", "gguf")
    convert(tmp_path / "m.gguf", tmp_path / "small.gguf", "gguf", dtype="q8_0")
    convert(source, tmp_path / "direct.gguf", "gguf", dtype="q8_0")
    assert (tmp_path / "small.gguf").read_bytes() == (tmp_path / "direct.gguf").read_bytes()
    assert field(tmp_path / "small.gguf", "general.license") == "apache-2.0"


def test_without_the_gguf_package_its_extra_is_named_and_the_rest_works(
    save_llama: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save_llama()
    convert(source, tmp_path / "m.gguf", "gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    convert(tmp_path / "m.gguf", tmp_path / "back", "llama")
    with pytest.raises(ZhenError, match="needs `gguf`") as error:
        convert(source, tmp_path / "other.gguf", "gguf")
    assert error.value.hint == "pip install 'zhen[gguf]'"


@pytest.mark.parametrize("kind", SCALED)
def test_scaled_positions_are_said_in_full(kind: str, save_llama: Callable[..., Path], tmp_path: Path) -> None:
    scaling = SCALED[kind]
    source = save_llama(config={"rope_scaling": dict(scaling), "rope_parameters": {**scaling, "rope_theta": 5e6}})
    convert(source, tmp_path / "m.gguf", "gguf")
    convert(elsewhere(tmp_path / "m.gguf", tmp_path / "other.gguf"), tmp_path / "back", "llama")
    back = from_config_json(json.loads((tmp_path / "back" / "config.json").read_text()))
    assert (back.rope_scaling, back.rope_theta) == (RopeScaling(**scaling), 5e6)  # type: ignore[arg-type]
