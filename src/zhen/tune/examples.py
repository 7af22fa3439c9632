"""Dialogues as tokens, with what is learnt of them; and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from zhen.infer.template import ChatTemplate
from zhen.tokenizer.load import Tokenizer
from zhen.train.batch import Batch
from zhen.tune.readers import Dialogue, Turn


class Example(NamedTuple):
    """A dialogue's tokens. n of them."""

    ids: list[int]
    learnt: list[bool]
    """[n]: whether the token is one that the assistant wrote, the end of its turn included."""
    whole: bool
    """Whether all of its turns are there."""

    @property
    def length(self) -> int:
        """Positions that it takes in a sequence: the last token is only a target."""
        return len(self.ids) - 1


def example_of(
    dialogue: Dialogue, template: ChatTemplate, tokenizer: Tokenizer, turn_end: int, length: int
) -> Example | None:
    """The dialogue's tokens up to the last answer that ends within `length` positions; None where none does.

    Learnt are the assistant's words and the token that ends its turn, nothing else.
    """
    return _example(dialogue.turns, dialogue, template, tokenizer, turn_end, length, last_only=False)


def pair_of(
    dialogue: Dialogue, template: ChatTemplate, tokenizer: Tokenizer, turn_end: int, length: int
) -> tuple[Example, Example] | None:
    """The better and the worse answer, each behind the same turns; None where one doesn't fit.

    Only the last answer counts.
    """
    if dialogue.rejected is None:
        return None
    worse = [*dialogue.turns[:-1], dialogue.rejected]
    chosen, rejected = (
        _example(turns, dialogue, template, tokenizer, turn_end, length, last_only=True)
        for turns in (dialogue.turns, worse)
    )
    return (chosen, rejected) if chosen and rejected and chosen.whole and rejected.whole else None


def _example(
    turns: Sequence[Turn],
    dialogue: Dialogue,
    template: ChatTemplate,
    tokenizer: Tokenizer,
    turn_end: int,
    length: int,
    *,
    last_only: bool,
) -> Example | None:
    ids: list[int] = []
    learnt: list[bool] = []
    end, pieces = 0, template.dialogue(turns, tokenizer, dialogue.tools or None)
    for number, piece in enumerate(pieces):
        count = piece.ids.index(turn_end) + 1 if piece.answer else 0
        counts = piece.answer and (not last_only or number == len(pieces) - 1)
        ids += piece.ids
        learnt += [counts] * count + [False] * (len(piece.ids) - count)
        if piece.answer:
            if len(ids) - len(piece.ids) + count - 1 > length:
                return Example(ids[:end], learnt[:end], False) if end else None
            end = len(ids) - len(piece.ids) + count
    return Example(ids[:end], learnt[:end], True)


def batch_of(rows: Sequence[Sequence[Example]], length: int, padding: int) -> Batch:
    """A batch of `rows`, each of which holds examples one behind the other and is filled up to `length` positions.

    No example predicts the beginning of the next; the filling is a document of its own that counts nowhere.
    """
    shape = (len(rows), length)
    tokens, targets = (torch.full(shape, padding, dtype=torch.int64) for _ in range(2))
    mask, starts = (torch.zeros(shape, dtype=torch.bool) for _ in range(2))
    for row, examples in enumerate(rows):
        at = 0
        for example in examples:
            end = at + example.length
            tokens[row, at:end] = torch.tensor(example.ids[:-1])
            targets[row, at:end] = torch.tensor(example.ids[1:])
            mask[row, at:end] = torch.tensor(example.learnt[1:])
            starts[row, at] = True
            at = end
        if at < length:
            starts[row, at] = True
    return Batch(tokens, targets, mask, starts)
