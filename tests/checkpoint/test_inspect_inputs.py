"""Every kind of thing that can be inspected: other formats, a hub's cache; tokenizers, licences, memory to serve."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
import torch
from safetensors.torch import save_file

from zhen.checkpoint.inspect import inspect_checkpoint
from zhen.checkpoint.load import load_model, save_model
from zhen.errors import ZhenError
from zhen.model.config import PRESETS, ModelConfig, to_config_json
from zhen.model.transformer import Transformer, initialise

CONFIG = ModelConfig(
    hidden_size=32, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=64, max_position_embeddings=4096,
)  # fmt: skip


def saved(folder: Path) -> Transformer:
    model = Transformer(CONFIG)
    initialise(model, 0)
    save_model(model, folder, "bfloat16", None, 4096)
    return model


def test_metas_folder_is_described(tmp_path: Path) -> None:
    sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "multiple_of": 32, "norm_eps": 1e-5}
    (tmp_path / "params.json").write_text(json.dumps(sizes | {"vocab_size": -1}))
    alone = inspect_checkpoint(tmp_path / "params.json")
    assert (alone.family, alone.max_positions) == ("llama", 4096)
    assert any("states no length" in note for note in alone.notes)
    layer = {"attention.wq": (32, 32), "attention.wk": (16, 32), "attention.wv": (16, 32), "attention.wo": (32, 32),
             "feed_forward.w1": (96, 32), "feed_forward.w3": (96, 32), "feed_forward.w2": (32, 96),
             "attention_norm": (32,), "ffn_norm": (32,)}  # fmt: skip
    names = {f"layers.{n}.{name}.weight": shape for n in range(2) for name, shape in layer.items()}
    names |= {"tok_embeddings.weight": (64, 32), "norm.weight": (32,), "output.weight": (64, 32)}
    made = {name: torch.zeros(shape, dtype=torch.float16) for name, shape in names.items()}
    torch.save(made | {"rope.freqs": torch.zeros(4)}, tmp_path / "consolidated.00.pth")
    s = inspect_checkpoint(tmp_path)
    assert (s.family, s.naming, s.format, s.differences) == ("llama", "meta", "consolidated", [])
    assert (s.layers, s.heads, s.kv_heads, s.intermediate_size, s.vocab_size) == (2, 4, 2, 96, 64)
    assert s.parameters == sum(tensor.numel() for tensor in made.values())
    assert s.embedding_parameters == 64 * 32


def test_a_gguf_file_is_described(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    for key, value in {
        "context_length": 512, "embedding_length": 32, "block_count": 1, "feed_forward_length": 64, "head_count": 4,
        "head_count_kv": 2,
    }.items():  # fmt: skip
        getattr(writer, f"add_{key}")(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>", "a"])
    writer.add_bos_token_id(1)
    writer.add_license("apache-2.0")
    blocks = gguf.quants.quantize(torch.zeros(32, 32).numpy(), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("blk.0.attn_output.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("token_embd.weight", torch.zeros(4, 32, dtype=torch.float16).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    s = inspect_checkpoint(tmp_path / "m.gguf")
    assert (s.naming, s.format, s.dtypes) == ("gguf", "gguf", {"Q8_0": 1, "F16": 1})
    assert (s.layers, s.kv_heads, s.max_positions, s.license) == (1, 2, 512, "apache-2.0")
    assert s.bytes == 1024 // 32 * 34 + 4 * 32 * 2
    assert s.tokenizer is not None
    assert (s.tokenizer.kind, s.tokenizer.size) == ("SentencePiece BPE", 4)
    assert s.tokenizer.special["bos"].text == "<s>"


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"])
def test_a_models_id_is_its_snapshot_in_the_cache(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    below = {"HF_HUB_CACHE": "", "HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub"}[variable]
    model = tmp_path / below / "models--01-ai--Yi-6B"
    saved(model / "snapshots" / "new")
    saved(model / "snapshots" / "old")
    os.utime(model / "snapshots" / "old", (1, 1))
    (model / "snapshots" / "new" / "LICENSE").write_text("")
    assert inspect_checkpoint("01-ai/Yi-6B").license == "see LICENSE"
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("old")
    assert inspect_checkpoint("01-ai/Yi-6B").license is None
    with pytest.raises(ZhenError, match="not found") as raised:
        inspect_checkpoint("01-ai/Yi-9B")
    assert raised.value.hint == "for a model of a hub, fetch it first: hf download 01-ai/Yi-9B"


def sentencepiece_of(folder: Path, kind: str) -> int:
    text = folder / "text"
    text.write_text("the cat sat on the mat and the dog sat on the log\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "tokenizer"), vocab_size=40, model_type=kind, minloglevel=2,
        hard_vocab_limit=False,
    )  # fmt: skip
    return int(sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model")).vocab_size())


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_sentencepiece_model_is_counted(kind: str, tmp_path: Path) -> None:
    saved(tmp_path)
    size = sentencepiece_of(tmp_path, kind)
    added = {"1": {"content": "<s>"}, str(size + 1): {"content": "<|im_end|>"}}
    settings = {"bos_token": "<s>", "eos_token": {"content": "<|im_end|>"}, "added_tokens_decoder": added}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    made = inspect_checkpoint(tmp_path).tokenizer
    assert made is not None
    assert made.kind.lower() == f"sentencepiece {kind}"
    assert made.size == size + 2
    assert (made.special["bos"].id, made.special["eos"].id, made.special["eos"].text) == (1, size + 1, "<|im_end|>")


@pytest.mark.parametrize(
    ("model", "kind"), [("BPE", "byte-level BPE"), ("Unigram", "Unigram"), ("WordPiece", "WordPiece")]
)
def test_a_tokenizer_json_is_counted(model: str, kind: str, tmp_path: Path) -> None:
    saved(tmp_path)
    vocabulary: Any = [("a", -1.0), ("b", -2.0)] if model == "Unigram" else {"a": 0, "b": 1}
    made = tokenizers.Tokenizer(
        getattr(tokenizers.models, model)(vocabulary, **({"merges": []} if model == "BPE" else {}))
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    made.add_special_tokens(["</s>"])
    made.save(str(tmp_path / "tokenizer.json"))
    found = inspect_checkpoint(tmp_path).tokenizer
    assert found is not None
    assert (found.kind, found.size, found.file) == (kind, made.get_vocab_size(), "tokenizer.json")


@pytest.mark.parametrize(
    "data", [b"", b"\x0a", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x0a\x7fa", b"x y"]
)
def test_a_broken_tokenizer_is_a_note(data: bytes, tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(data)
    (tmp_path / "tokenizer.json").write_bytes(data)
    s = inspect_checkpoint(tmp_path)
    assert s.tokenizer is None or s.tokenizer.size == 0
    assert s.notes or not data


def test_the_licence_is_what_the_card_states(tmp_path: Path) -> None:
    saved(tmp_path)
    assert inspect_checkpoint(tmp_path).license is None
    (tmp_path / "README.md").write_text("---\nlanguage: zh\nlicense: apache-2.0\n---\nlicense: mit\n")
    assert inspect_checkpoint(tmp_path).license == "apache-2.0 (README.md)"


def test_memory_to_serve_is_that_of_the_model_cards(tmp_path: Path) -> None:
    config = PRESETS["yi-34b"]
    (tmp_path / "config.json").write_text(json.dumps(to_config_json(config, "bfloat16")))
    serving = inspect_checkpoint(tmp_path).serving_bytes
    assert serving is not None
    # 01-ai/Yi's README: 34B-Chat at batch 1 takes 65, 35 and 19 GB in 16, 8 and 4 bits; cards count in GiB
    for bits, card in (("16", 65), ("8", 35), ("4", 19)):
        assert serving["4096"][bits] / 2**30 == pytest.approx(card, rel=0.06)
    cache = serving["200000"]["4"] - serving["4096"]["4"]
    assert cache == (200_000 - 4096) * 2 * 60 * 8 * 128 * 2


def test_parameters_are_those_of_the_weights(tmp_path: Path) -> None:
    model = saved(tmp_path)
    s = inspect_checkpoint(tmp_path)
    assert s.parameters == sum(p.numel() for p in model.parameters())
    assert s.layer_parameters == sum(p.numel() for p in model.model.layers[0].parameters())
    assert s.embedding_parameters == 64 * 32
    save_file({"model.norm.weight": torch.zeros(32)}, tmp_path / "model.safetensors")
    assert inspect_checkpoint(tmp_path).embedding_parameters is None


@pytest.mark.parametrize("layers", [10**9, 10**25])
def test_a_config_that_claims_no_end_of_layers_is_noted(layers: int, tmp_path: Path) -> None:
    saved(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"num_hidden_layers": layers, "bos_token_id": 10**25}))
    assert any("config.json: " in note for note in inspect_checkpoint(tmp_path).notes)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"bos_token_id": 1}))
    with pytest.raises(ZhenError):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert inspect_checkpoint(tmp_path).parameters is None
