"""A small model with its tokenizer, and text of both languages, made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zhen.checkpoint.load import save_model
from zhen.model.config import ModelConfig
from zhen.model.transformer import Transformer, initialise
from zhen.tokenizer.learn import learn_model
from zhen.tokenizer.settings import TokenizerSettings

ENGLISH = "The river runs past the old mill, and the miller counts {0} sacks of flour before {1} people come to buy."
CHINESE = "河水流过老磨坊，磨坊主人数了{0}袋面粉，然后有{1}个人来买，他们都住在山那边的村子里。"


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory, write_documents: Any) -> Path:
    """A folder of documents, as a run keeps them."""
    folder = tmp_path_factory.mktemp("kept")
    rows = [
        (form.format(number, number * 7 % 31), "web", lang)
        for number in range(120)
        for form, lang in ((ENGLISH, "en"), (CHINESE, "zh"))
    ]
    write_documents(folder / "unit-00000.parquet", rows)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = [form.format(number, number + 3) for number in range(60) for form in (ENGLISH, CHINESE)]
    (folder / "tokenizer.model").write_bytes(learn_model(texts, TokenizerSettings(vocab_size=400)))
    return folder


def shape(**more: Any) -> ModelConfig:
    """Two layers whose feed-forward width 96 no group of 64 divides."""
    given: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 400,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e4,
        "tie_word_embeddings": False,
        "initializer_range": 0.1,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return ModelConfig(**given | more)


@pytest.fixture(scope="session")
def checkpoint(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    model = Transformer(shape())
    initialise(model, 1)
    save_model(model, folder, "bfloat16", tokenizer, 64)
    return folder


@pytest.fixture(scope="session")
def tied(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tied")
    model = Transformer(shape(tie_word_embeddings=True))
    initialise(model, 2)
    save_model(model, folder, "bfloat16", tokenizer, 64)
    return folder
