"""Our GGUF files in llama.cpp, where it is there: the same tokens as transformers'."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sentencepiece
import torch
from conversions import convert
from gguf_models import CONFIG, SCALED, TEXTS, byte_level
from tokenizers import Tokenizer as Tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from zhen.checkpoint.writer import write_sharded
from zhen.model.config import to_config_json
from zhen.model.size import shapes


@pytest.fixture
def llama_cpp() -> Any:
    return pytest.importorskip("llama_cpp", reason="llama-cpp-python isn't installed; it is built from source")


def greedy(folder: Path, ids: list[int], count: int) -> list[int]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found = model.generate(torch.tensor([ids]), max_new_tokens=count, do_sample=False, eos_token_id=None)
    return list(found[0, len(ids) :].tolist())


def continued(llama_cpp: Any, file: Path, text: str, count: int) -> tuple[list[int], list[int]]:
    """llama.cpp's tokens of `text`, as the file says they are made, and the `count` that it finds likeliest next."""
    model = llama_cpp.Llama(str(file), n_ctx=64, n_threads=1, verbose=False)
    ids = model.tokenize(text.encode(), add_bos=True, special=False)
    return ids, list(itertools.islice(model.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0), count))


@pytest.mark.parametrize(("dtype", "stored"), [(None, None), ("f16", None), ("bf16", "f32")])
def test_llama_cpp_continues_with_the_same_tokens(
    dtype: str | None,
    stored: str | None,
    llama_cpp: Any,
    save_llama: Callable[..., Path],
    learned: bytes,
    tmp_path: Path,
) -> None:
    """bf16 weights are stored as f32: beside bf16 ones llama.cpp rounds activations, and random logits lie close."""
    source = save_llama()
    if dtype:
        convert(source, tmp_path / "cast", "llama", dtype=dtype)
        source = tmp_path / "cast"
    convert(source, tmp_path / "m.gguf", "gguf", dtype=stored)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=learned)
    for text in TEXTS:
        ids, found = continued(llama_cpp, tmp_path / "m.gguf", text, 12)
        assert ids == theirs.encode(text)
        assert found == greedy(source, ids, 12)


@pytest.mark.parametrize("kind", SCALED)
def test_llama_cpp_scales_positions_as_transformers_does(
    kind: str, llama_cpp: Any, save_llama: Callable[..., Path], tmp_path: Path
) -> None:
    scaling = SCALED[kind]
    source = save_llama(config={"rope_scaling": dict(scaling), "rope_parameters": {**scaling, "rope_theta": 5e6}})
    convert(source, tmp_path / "m.gguf", "gguf")
    for text in TEXTS:
        ids, found = continued(llama_cpp, tmp_path / "m.gguf", text, 12)
        assert found == greedy(source, ids, 12)


def test_a_trained_model_continues_with_the_same_tokens_in_llama_cpp(llama_cpp: Any, tmp_path: Path) -> None:
    """A release in bf16 that `zhen run` made: its folder is named by ZHEN_RELEASE."""
    if "ZHEN_RELEASE" not in os.environ:
        pytest.skip("ZHEN_RELEASE names no release")
    source = Path(os.environ["ZHEN_RELEASE"])
    convert(source, tmp_path / "m.gguf", "gguf")
    theirs = AutoTokenizer.from_pretrained(source)
    for text in TEXTS:
        ids, found = continued(llama_cpp, tmp_path / "m.gguf", text, 24)
        assert ids == theirs.encode(text)
        assert found == greedy(source, ids, 24)


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "smaug-bpe", "qwen2"])
def test_llama_cpp_cuts_text_as_byte_level_tokenizers_do(
    pre: str, llama_cpp: Any, save_llama: Callable[..., Path], tmp_path: Path
) -> None:
    source = save_llama(tokenizer=False)
    theirs = byte_level(pre, source)
    convert(source, tmp_path / "m.gguf", "gguf")
    model = llama_cpp.Llama(str(tmp_path / "m.gguf"), vocab_only=True, verbose=False)
    for text in [*TEXTS, "don't  stop   at 12345 ; ok\n\n  yes\t 你好，世界 100%"]:
        assert model.tokenize(text.encode(), add_bos=True, special=True) == theirs.encode(text).ids


@pytest.mark.parametrize("name", ["llama", "yi-1.5", "falcon"])
def test_llama_cpp_cuts_text_as_published_tokenizers_do(
    name: str, llama_cpp: Any, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "tokenizers" / name
    theirs = Tokenizers.from_file(str(folder / "tokenizer.json"))
    rows = theirs.get_vocab_size()
    config = msgspec.structs.replace(CONFIG, vocab_size=rows, hidden_size=8, head_dim=2, intermediate_size=8)
    tensors = [(key, "F16", shape, bytes(2 * math.prod(shape))) for key, shape in shapes(config).items()]
    shutil.copytree(folder, tmp_path / "source")
    write_sharded(tmp_path / "source", tensors, 10**9)
    (tmp_path / "source" / "config.json").write_text(json.dumps(to_config_json(config, "float16")))
    convert(tmp_path / "source", tmp_path / "m.gguf", "gguf")
    model = llama_cpp.Llama(str(tmp_path / "m.gguf"), vocab_only=True, verbose=False)
    for text in [*TEXTS, "don't  stop   at 12345 ; ok\n\n  yes\t 你好，世界 100%"]:
        assert model.tokenize(text.encode(), add_bos=True, special=True) == theirs.encode(text).ids
