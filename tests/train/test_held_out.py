"""Held-out documents: every token is scored once, in bits per byte by language, whatever the batches."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
import torch

from zhen.formats.shard import write_shard
from zhen.model.config import PRESETS
from zhen.model.transformer import Transformer, initialise
from zhen.train.heldout import Document, HeldOut, choose_documents, open_held_out

END = 2


def fresh() -> Transformer:
    model = Transformer(msgspec.structs.replace(PRESETS["micro"], vocab_size=50, initializer_range=0.2))
    initialise(model, 1)
    return model


def held_out(documents: dict[str, list[Document]], context_length: int = 16) -> HeldOut:
    return HeldOut(documents, context_length=context_length, end_of_text=END, device=torch.device("cpu"))


@torch.no_grad()
def test_bits_per_byte_equals_one_document_after_the_other() -> None:
    model = fresh()
    documents = {
        "en": [Document(list(range(3, 3 + n)), 5 * n) for n in (3, 16, 1)],
        "zh": [Document([7, 8, 9, 10, 7, 8], 11)],
    }
    found = held_out(documents).measure(model, torch.float32)
    for lang, chosen in documents.items():
        nats = 0.0
        for document in chosen:
            logprobs = model(torch.tensor([[END, *document.ids]]))[0].log_softmax(-1)
            nats -= sum(float(logprobs[at, token]) for at, token in enumerate(document.ids))
        size = sum(document.text_bytes for document in chosen)
        assert found[lang] == pytest.approx(nats / math.log(2) / size, rel=1e-5)


def test_long_documents_are_scored_in_windows_each_token_once() -> None:
    """A model without weights gives every token 1/50, so the sum counts the tokens."""
    model = fresh()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    documents = {"en": [Document([5] * n, 10) for n in (1, 15, 16, 17, 33, 70)]}
    found = held_out(documents).measure(model, torch.float32)
    assert found["en"] == pytest.approx((1 + 15 + 16 + 17 + 33 + 70) * math.log2(50) / 60, rel=1e-6)


def planted(folder: Path, place: str, lang: str, sizes: list[int]) -> None:
    documents = [([10 + n, 20, END], size) for n, size in enumerate(sizes)]
    write_shard(folder / place, 0, documents, source=place, lang=lang, tokenizer="t", vocab_size=50)


def test_documents_fill_the_bytes_equally_from_each_source(tmp_path: Path) -> None:
    planted(tmp_path, "web.en", "en", [40, 80, 40, 40])
    planted(tmp_path, "books.en", "en", [90, 30])
    planted(tmp_path, "web.zh", "zh", [500])
    shards = open_held_out(tmp_path, "t")
    assert list(shards) == ["en", "zh"]
    chosen = choose_documents(shards["en"], 200)
    assert [document.text_bytes for document in chosen] == [90, 40, 40]
    assert chosen[0].ids == [10, 20]


def test_where_none_fits_the_first_is_taken(tmp_path: Path) -> None:
    planted(tmp_path, "web.zh", "zh", [0, 500, 600])
    assert [d.text_bytes for d in choose_documents(open_held_out(tmp_path, "t")["zh"], 100)] == [500]


def test_without_held_out_documents_there_are_no_languages(tmp_path: Path) -> None:
    assert open_held_out(tmp_path / "none", "t") == {}
