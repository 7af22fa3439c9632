"""A small finished run, up to `pretrain`: tokenizer, shards of two sources, the first and the last model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zhen.checkpoint.load import save_model
from zhen.evaluate.settings import EvaluateSettings
from zhen.formats.files import write_bytes
from zhen.formats.shard import write_shard
from zhen.formats.stage import Context
from zhen.model.config import ModelConfig
from zhen.model.transformer import Transformer, initialise
from zhen.tokenizer.export import export_files
from zhen.tokenizer.learn import learn_model
from zhen.tokenizer.load import load_tokenizer
from zhen.tokenizer.settings import TokenizerSettings

CONTEXT_LENGTH = 32
HELD_OUT = {("web", "en"): 40, ("web", "zh"): 40, ("books", "en"): 5}
WORDS = {
    "en": ["the ", "town ", "of ", "Mira ", "has ", "a ", "red ", "flag ", "and ", "sells ", "soup ", "pears "],
    "zh": ["米拉镇", "有", "红色", "的", "旗子", "卖", "汤", "面包", "和", "梨", "给", "人"],
}


class Line:
    """A live line that counts its updates and can kill at one of them."""

    class Killed(BaseException):
        """Stands for a SIGKILL."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.updates: list[tuple[float, float | None]] = []
        self._kill_at = kill_at

    def update(self, done: float, total: float | None, unit: str, facts: str = "") -> None:
        self.updates.append((done, total))
        if len(self.updates) == self._kill_at:
            raise self.Killed

    def note(self, text: str) -> None:
        raise AssertionError(text)


def made_text(random: np.random.Generator, lang: str) -> str:
    return "".join(random.choice(WORDS[lang], size=random.integers(4, 40))).strip()


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    random = np.random.default_rng(1)
    texts = {("web", "en"): 300, ("web", "zh"): 300, ("books", "en"): 100}
    training = {key: [made_text(random, key[1]) for _ in range(count)] for key, count in texts.items()}
    model = learn_model([text for some in training.values() for text in some], TokenizerSettings(vocab_size=340))
    (root / "tokenizer").mkdir()
    for name, content in export_files(model).items():
        write_bytes(root / "tokenizer" / name, content)
    tokenizer = load_tokenizer(root / "tokenizer")

    def shard(folder: Path, index: int, source: str, lang: str | None, texts: list[str]) -> None:
        documents = [([*tokenizer.encode(text), tokenizer.end_of_text], len(text.encode())) for text in texts]
        write_shard(
            folder, index, documents, source=source, lang=lang, tokenizer=tokenizer.sha256,
            vocab_size=tokenizer.vocab_size,
        )  # fmt: skip

    web = training["web", "en"] + training["web", "zh"]
    shard(root / "shards" / "web", 0, "web", None, web[:250])
    shard(root / "shards" / "web", 1, "web", None, web[250:])
    shard(root / "shards" / "books", 0, "books", None, training["books", "en"])
    for (source, lang), count in HELD_OUT.items():
        some = [made_text(random, lang) for _ in range(count)]
        shard(root / "shards" / "held-out" / f"{source}.{lang}", 0, source, lang, some)
    config = ModelConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, vocab_size=tokenizer.vocab_size, max_position_embeddings=CONTEXT_LENGTH, initializer_range=0.1,
        tie_word_embeddings=True,
    )  # fmt: skip
    for seed, name in enumerate(["checkpoint-0", "checkpoint"]):
        transformer = Transformer(config)
        initialise(transformer, seed=seed)
        save_model(transformer, root / "pretrain" / name, "float32", root / "tokenizer", CONTEXT_LENGTH)
    return root


@pytest.fixture
def context(run: Path, tmp_path: Path) -> Callable[..., Context]:
    def make(folder: str = "evaluate", line: Line | None = None, **settings: Any) -> Context:
        (tmp_path / folder).mkdir(exist_ok=True)
        return Context(
            folder=tmp_path / folder,
            sections={"evaluate": EvaluateSettings(**settings), "run.seed": 1},
            after={name: run / name for name in ("pretrain", "shards", "tokenizer")},
            line=line or Line(),
            stop_requested=lambda: False,
            workers=1,
        )

    return make
