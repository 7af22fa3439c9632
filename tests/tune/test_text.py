"""Text among the dialogues: as much of a step as was asked for, all of it learnt, none of it twice in an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from zhen.formats.shard import write_shard
from zhen.tokenizer.load import load_tokenizer
from zhen.train.batch import Batch
from zhen.train.phases import Phase
from zhen.tune.settings import TuneSettings
from zhen.tune.text import TextRows, joined

END = 2


def settings(share: float, **more: int) -> TuneSettings:
    return TuneSettings(**{"data": ["x"], "steps": 12, "batch": 3, "sequence_length": 8, "text_share": share} | more)


@pytest.fixture
def tokens(base: Path, tmp_path: Path) -> list[int]:
    """What stands in the shards of `tmp_path`."""
    documents = [[*range(10 + n, 18 + n), END] for n in range(60)]
    sha = load_tokenizer(base).sha256
    write_shard(
        tmp_path / "web", 0, [(ids, 9) for ids in documents], source="web", lang=None, tokenizer=sha, vocab_size=400
    )
    return [token for ids in documents for token in ids]


def rows_of(base: Path, folder: Path, chosen: TuneSettings, phases: Sequence[Phase] = ()) -> TextRows:
    return TextRows(folder, chosen, phases, 1, load_tokenizer(base))


def test_text_is_of_the_sources_that_the_training_ended_with(base: Path, tmp_path: Path, tokens: list[int]) -> None:
    write_shard(
        tmp_path / "sums",
        0,
        [([300] * 50, 50)] * 4,
        source="sums",
        lang=None,
        tokenizer=load_tokenizer(base).sha256,
        vocab_size=400,
    )
    first, last = Phase(share=0.5, mixture={"web": 1.0}), Phase(share=0.5, mixture={"sums": 1.0})
    for phases, due in (((first, last), {300}), ((last, first), set(tokens))):
        text = rows_of(base, tmp_path, settings(0.5), phases)
        assert {token for step in range(12) for token in text.batch(step).tokens.unique().tolist()} <= due


@pytest.mark.parametrize(("share", "counts"), [(0.5, [1, 2, 1, 2]), (1 / 3, [1, 1, 1, 1]), (0.1, [0, 0, 0, 1])])
def test_a_share_that_is_no_whole_number_evens_out(
    base: Path, tmp_path: Path, tokens: list[int], share: float, counts: list[int]
) -> None:
    text = rows_of(base, tmp_path, settings(share))
    assert [text.before(step + 1) - text.before(step) for step in range(4)] == counts
    assert text.before(12) == int(36 * share)
    for step in range(12):
        assert text.batch(step).tokens.shape == (text.before(step + 1) - text.before(step), 8)


def test_every_token_of_the_text_is_learnt_and_documents_are_told_apart(
    base: Path, tmp_path: Path, tokens: list[int]
) -> None:
    text = rows_of(base, tmp_path, settings(2 / 3, steps=len(tokens) // 16))
    whole = [text.batch(step) for step in range(len(tokens) // 16)]
    found = {tuple(row) for batch in whole for row in batch.tokens.tolist()}
    assert len(found) == sum(len(batch.tokens) for batch in whole) > 20
    for batch in whole:
        assert batch.mask.all()
        assert torch.equal(batch.targets[:, :-1], batch.tokens[:, 1:])
        assert torch.equal(batch.document_starts[:, 1:], batch.tokens[:, :-1] == END)


def test_joined_sequences_are_those_of_both(base: Path, tmp_path: Path, tokens: list[int]) -> None:
    text = rows_of(base, tmp_path, settings(1 / 3)).batch(0)
    other = Batch(*(torch.zeros_like(each) for each in (text.tokens, text.targets, text.mask, text.document_starts)))
    both = joined(other, text)
    for name in ("tokens", "targets", "mask", "document_starts"):
        assert torch.equal(getattr(both, name)[1:], getattr(text, name))
        assert not getattr(both, name)[0].any()
