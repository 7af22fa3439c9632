"""A small checkpoint as Yi's first release was, one of transformers' making, tokenizers; what a file system must do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import conversions
import gguf_models
import numpy as np
import pytest

from zhen.checkpoint.disk import can_insert
from zhen.checkpoint.renaming import BLOCK
from zhen.checkpoint.writer import write_sharded
from zhen.model.config import ModelConfig, to_config_json
from zhen.model.size import shapes

YI = {"input_layernorm": "ln1", "post_attention_layernorm": "ln2"}


@pytest.fixture(scope="session")
def write_yi() -> Callable[..., Path]:
    """A checkpoint as Yi's first release was: its names, its configuration, code of its own.

    `write_yi(folder, layers=2, shard_bytes=…, dtype="BF16", kv_heads=2, tied=False)` returns the folder.
    """

    def write(
        folder: Path,
        *,
        layers: int = 2,
        shard_bytes: int = 8000,
        dtype: str = "BF16",
        kv_heads: int = 2,
        tied: bool = False,
    ) -> Path:
        config = ModelConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=kv_heads,
            head_dim=4,
            vocab_size=40,
            max_position_embeddings=64,
            tie_word_embeddings=tied,
        )
        random = np.random.default_rng(layers)
        width = {"F32": 4, "F16": 2, "BF16": 2}[dtype]
        tensors = []
        for name, shape in shapes(config).items():
            for old, new in YI.items():
                name = name.replace(old, new)
            tensors.append((name, dtype, shape, random.bytes(width * int(np.prod(shape)))))
        folder.mkdir(parents=True)
        write_sharded(folder, tensors, shard_bytes)
        stored = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[dtype]
        made = to_config_json(config, stored) | {"architectures": ["YiForCausalLM"], "model_type": "Yi"}
        made["auto_map"] = {"AutoConfig": "configuration_yi.YiConfig", "AutoModel": "modeling_yi.YiModel"}
        (folder / "config.json").write_text(json.dumps(made))
        tokenizer = {
            "tokenizer_class": "YiTokenizer",
            "auto_map": {"AutoTokenizer": ["tokenization_yi.YiTokenizer", None]},
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
        for module in ("configuration_yi", "modeling_yi", "tokenization_yi"):
            (folder / f"{module}.py").write_text(f"# {module}\n")
        (folder / "tokenizer.model").write_bytes(b"pieces")
        (folder / "LICENSE").write_text("as you like\n")
        (folder / "README.md").write_text("---\nlicense: other\n---\nA model.\n")
        return folder

    return write


@pytest.fixture
def inserts(tmp_path: Path) -> None:
    """Skip where the file system of the tests' folder can't do it."""
    if not can_insert(tmp_path, BLOCK):
        pytest.skip("the file system of the tests' folder has no insert-range")


@pytest.fixture(scope="session")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaMA that transformers made and saved."""
    return conversions.save_theirs(
        tmp_path_factory.mktemp("theirs") / "model", conversions.CONFIG, initializer_range=0.2
    )


@pytest.fixture(scope="session")
def learned() -> bytes:
    """A tokenizer that sentencepiece learnt."""
    return gguf_models.learn(remove_extra_whitespaces=False)


@pytest.fixture
def save_llama(tmp_path: Path, learned: bytes) -> Callable[..., Path]:
    """`save_llama(config={}, settings={}, tokenizer=True)`: a LLaMA that transformers made, its tokenizer beside it."""

    def save(
        config: dict[str, Any] | None = None, settings: dict[str, Any] | None = None, tokenizer: bool = True
    ) -> Path:
        folder = conversions.save_theirs(tmp_path / "source", gguf_models.CONFIG, **(config or {}))
        if tokenizer:
            (folder / "tokenizer.model").write_bytes(learned)
            made = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": False, **gguf_models.ROLES}
            (folder / "tokenizer_config.json").write_text(json.dumps(made | (settings or {})))
        return folder

    return save
