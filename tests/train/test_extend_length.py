"""The short form of what `recipes/extend-tiny.toml` shows: what stands far above is of use after the extension only.

Strings of digits are copied: from up to 64 digits above in training at 256 tokens, from 300 above after the extension.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import transformers

from zhen.formats.shard import write_shard
from zhen.model.config import ModelConfig
from zhen.sampleweb.strings import string_text
from zhen.tokenizer.load import Tokenizer, load_tokenizer

OLD, NEW = 256, 1_024
FAR = 300
"""Digits between one and its copy; more than the old length."""

MODEL = ModelConfig(
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    head_dim=32,
    max_position_embeddings=OLD,
    tie_word_embeddings=True,
)
TRAINING = {
    "optimizer": "muon",
    "dtype": "float32",
    "learning_rate": 2e-3,
    "decay_share": 0.2,
    "warmup_steps": 5,
    "checkpoint_every": 1_000,
    "evaluate_every": 1_000,
    "micro_batch": None,
    "keep_steps": (),
}


def _far_text(number: int) -> str:
    """As `string_text`, from further above."""
    rng = random.Random(f"far {number}")
    part = "".join(rng.choices("0123456789", k=rng.randint(20, FAR + 50)))
    return (part * (2 * NEW // len(part) + 1))[: 2 * NEW]


@pytest.fixture(scope="module")
def strings(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of strings that repeat within 64 digits, and of others that repeat from further above."""
    folder = tmp_path_factory.mktemp("strings")
    (folder / "tokenizer").symlink_to(inputs / "tokenizer")
    (folder / "shards").mkdir()
    (folder / "shards" / "held-out").symlink_to(inputs / "shards" / "held-out")
    tokenizer = load_tokenizer(inputs / "tokenizer")

    def shard(source: str, text: Callable[[int], str], count: int) -> None:
        texts = [text(number) for number in range(count)]
        documents = [([*tokenizer.encode(each), tokenizer.end_of_text], len(each)) for each in texts]
        common = {"tokenizer": tokenizer.sha256, "vocab_size": tokenizer.vocab_size}
        write_shard(folder / "shards" / source, 0, documents, source=source, lang=None, **common)

    shard("near", lambda number: string_text(number, seed=1), 1_900)
    shard("far", _far_text, 500)
    return folder


def _copied(checkpoint: Path, tokenizer: Tokenizer, distance: int) -> float:
    """The share of digits that transformers' model says again, of strings whose copy stands `distance` digits above."""
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    rng = random.Random(distance)
    once = ["".join(rng.choices("0123456789", k=distance)) for _ in range(20)]
    tokens = torch.tensor([tokenizer.encode(text + text) for text in once])
    assert tokens.shape[1] == 2 * distance
    with torch.no_grad():
        said = model(tokens).logits.argmax(-1)
    begun = distance + 10  # the first digits of the copy only tell which copy it is
    return float((said[:, begun:-1] == tokens[:, begun + 1 :]).float().mean())


def test_a_copy_beyond_the_old_length_is_found_after_the_extension_only(
    small_run: ModuleType, strings: Path, tmp_path: Path
) -> None:
    extend_run = importlib.import_module("extend_run")
    tokenizer = load_tokenizer(strings / "tokenizer")
    before = small_run.context_for(
        strings,
        strings / "pretrain",
        model=MODEL,
        tokens=900 * 2_048,
        tokens_per_step=2_048,
        sequence_length=OLD,
        mixture={"near": 1.0},
        **TRAINING,
    )
    small_run.run(before)
    after = extend_run.context_for(
        strings,
        tmp_path / "extend",
        tokens=200 * 4_096,
        tokens_per_step=4_096,
        sequence_length=NEW,
        rope_theta=80_000.0,
        mixture={"far": 1.0},
        **TRAINING,
    )
    extend_run.run(after)
    old, new = before.folder / "checkpoint", after.folder / "checkpoint"
    assert _copied(old, tokenizer, 40) >= 0.9
    assert _copied(old, tokenizer, FAR) <= 0.2  # guessing: 10 %
    assert _copied(new, tokenizer, FAR) >= 0.95
