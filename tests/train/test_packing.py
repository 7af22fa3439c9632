"""Batches cut from shards: nothing lost between shards, targets shifted by one, starts where documents start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from zhen.errors import ZhenError
from zhen.formats.shard import open_shards, write_shard
from zhen.train.order import Order, Quota
from zhen.train.packing import Stream, open_sources, packed_batch

END = 2


def planted(folder: Path) -> list[int]:
    """Three shards whose documents count upwards; returns all tokens in order."""
    documents = [[*range(10 * n + 10, 10 * n + 10 + n % 4 + 1), END] for n in range(30)]
    for index in range(3):
        part = [(ids, 5) for ids in documents[10 * index : 10 * index + 10]]
        write_shard(folder / "web", index, part, source="web", lang=None, tokenizer="t", vocab_size=70_000)
    return [token for ids in documents for token in ids]


def test_a_stream_reads_across_shards(tmp_path: Path) -> None:
    tokens = planted(tmp_path)
    stream = Stream(open_shards(tmp_path / "web", "t"))
    for start in range(len(tokens) - 40):
        out = np.empty(40, dtype=np.int64)
        stream.read(start, out)
        assert out.tolist() == tokens[start : start + 40]


def test_an_epoch_is_the_stream_cut_up(tmp_path: Path) -> None:
    tokens = planted(tmp_path)
    have = (len(tokens) - 1) // 7
    order = Order([[Quota("web", len(tokens), have, have, have)]], seed=5, sequence_length=7)
    batch = packed_batch(open_sources(tmp_path, "t"), order, 0, have, END)
    _, numbers = order.sequences(0, have)
    in_order = torch.argsort(torch.from_numpy(numbers))
    assert batch.tokens[in_order].flatten().tolist() == tokens[: have * 7]
    assert batch.targets[in_order].flatten().tolist() == tokens[1 : have * 7 + 1]
    assert batch.mask.all()


def test_documents_start_behind_each_end_of_text(tmp_path: Path) -> None:
    tokens = planted(tmp_path)
    have = (len(tokens) - 1) // 7
    order = Order([[Quota("web", len(tokens), have, have, have)]], seed=5, sequence_length=7)
    batch = packed_batch(open_sources(tmp_path, "t"), order, 0, have, END)
    expected = [True, *(token == END for token in tokens)]
    for row, number in enumerate(order.sequences(0, have)[1].tolist()):
        assert batch.document_starts[row].tolist() == expected[number * 7 : number * 7 + 7]


def test_held_out_documents_are_no_source(tmp_path: Path) -> None:
    planted(tmp_path)
    write_shard(tmp_path / "held-out", 0, [([9, END], 1)], source="w", lang="en", tokenizer="t", vocab_size=10)
    assert list(open_sources(tmp_path, "t")) == ["web"]


def test_no_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZhenError, match="no source"):
        open_sources(tmp_path, "t")


def test_shards_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    planted(tmp_path)
    with pytest.raises(ZhenError, match="was made with tokenizer t; expected tokenizer u"):
        open_sources(tmp_path, "u")
