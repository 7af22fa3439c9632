"""How much of each benchmark item a document has: word for word in runs of 13, or asked in other words.

Word for word: the share of an item's tokens that lie in a run of 13 tokens which the document has too (Touvron et al.
2023, Llama 2, A.6, with 13 for 10). A question, or an answer, shorter than 13 tokens counts as a whole, the answer at
most 13 tokens behind the question; an item that is shorter in all counts whole or not at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct
from numpy.typing import NDArray

from zhen.data.benchmarks import Item
from zhen.data.privacy import redact
from zhen.data.rewording import Passage, Rewordings
from zhen.formats.ngrams import LEAST, SIZE, Hashes, Table, Tokens, contains, runs, tokens, words

_OVERLAP = pa.struct([("item", pa.int32()), ("share", pa.float32()), ("words", pa.bool_()), ("passage", pa.string())])
COLUMNS = (
    pa.field("contaminated", pa.float32()),
    pa.field("contamination", pa.string()),
    pa.field("reworded", pa.float32()),
    pa.field("overlaps", pa.list_(_OVERLAP)),
)
"""`contaminated`: the greatest share of an item that the document has word for word; `contamination`: which item;
`reworded`: the greatest share of an item that it asks in other words; `overlaps`: each item of which there is much
(`item`: its number in benchmarks.json; `words`: whether word for word; `passage`: where it is asked in other words)."""

HEAD = 4
"""Tokens by which a short question is found."""
LEAST_SHARE = 0.2
"""Share of an item word for word from which it is noted (Touvron et al. 2023: less than 20 % is clean)."""
_SHOWN = 400
"""Characters of a passage that are kept."""


class _Tokenised(Struct):
    """An item as tokens: first the question, then the answer."""

    question: list[int]
    answer: list[int]

    @property
    def length(self) -> int:
        """Tokens in all."""
        return len(self.question) + len(self.answer)


def _runs_of(found: Tokens, size: int, which: NDArray[np.bool_]) -> tuple[Hashes, NDArray[np.int64]]:
    """The hashes of all runs of the texts `which`, and int64[runs, 2] of text and place in it."""
    hashes, whole = runs(found, size)
    owners = np.repeat(np.arange(len(found.bounds) - 1), np.diff(found.bounds))
    at = np.flatnonzero(whole & which[owners])
    return hashes[at], np.stack([owners[at], at - found.bounds[owners[at]]], axis=1).astype(np.int64)


def _short(questions: Tokens, answers: Tokens) -> NDArray[np.bool_]:
    """bool[items]: whether an item is too short to be looked for."""
    return np.asarray((words(questions) + words(answers) < LEAST) | (np.diff(questions.bounds) < HEAD))


def too_short(items: Sequence[Item]) -> list[int]:
    """The numbers of the items that are too short to be looked for."""
    found = _short(tokens([item.question for item in items]), tokens([item.answer for item in items]))
    return [int(number) for number in np.flatnonzero(found)]


class Index:
    """Benchmark items, ready to be looked for."""

    def __init__(self, items: Sequence[Item]) -> None:
        questions, answers = tokens([item.question for item in items]), tokens([item.answer for item in items])
        self.names = [f"{item.file}#{item.name}" for item in items]
        self._sequences = [
            _Tokenised(questions.of(number).tolist(), answers.of(number).tolist()) for number in range(len(items))
        ]
        looked_for = ~_short(questions, answers)
        lengths = np.diff(questions.bounds)
        front = _runs_of(questions, SIZE, looked_for)
        behind = _runs_of(answers, SIZE, looked_for)
        behind[1][:, 1] += lengths[behind[1][:, 0]]
        self._long = Table(np.concatenate([front[0], behind[0]]), np.concatenate([front[1], behind[1]]))
        keys, values = _runs_of(questions, HEAD, looked_for & (lengths < SIZE))
        first = values[:, 1] == 0
        self._heads = Table(keys[first], values[first])
        self._rewordings = Rewordings([(item.question, item.answer) for item in items], looked_for)

    def measure(self, texts: Sequence[str]) -> list[pa.Array]:
        """The values of COLUMNS for each text."""
        found = tokens(texts)
        verbatim = self._verbatim(found)
        loose: dict[int, list[Passage]] = defaultdict(list)
        for passage in self._rewordings.find(found):
            loose[passage.text].append(passage)
        shares, names, reworded, overlaps = [], [], [], []
        for text, whole in enumerate(texts):
            exact, near = verbatim.get(text, {}), loose.get(text, [])
            best = max(exact, key=lambda item: (exact[item], -item), default=None)
            shares.append(exact[best] if best is not None else 0.0)
            names.append(self.names[best] if best is not None else None)
            reworded.append(max((each.share for each in near), default=0.0))
            overlaps.append(
                [(item, share, True, None) for item, share in sorted(exact.items())]
                + [(each.item, each.share, False, _shown(whole[each.begin : each.end])) for each in near]
            )
        columns = (shares, names, reworded, overlaps)
        return [pa.array(column, field.type) for column, field in zip(columns, COLUMNS, strict=True)]

    def _verbatim(self, found: Tokens) -> dict[int, dict[int, float]]:
        """Text -> item -> share of its tokens that the text has word for word, from LEAST_SHARE on."""
        owners = np.repeat(np.arange(len(found.bounds) - 1), np.diff(found.bounds))
        masks: dict[tuple[int, int], int] = defaultdict(int)
        ends: dict[tuple[int, int], list[int]] = defaultdict(list)
        places, values = self._long.find(*runs(found, SIZE))
        run = (1 << SIZE) - 1
        for place, (number, offset) in zip(places.tolist(), values.tolist(), strict=True):
            key = int(owners[place]), number
            masks[key] |= run << offset
            if offset + SIZE == len(self._sequences[number].question):
                ends[key].append(place + SIZE)
        places, values = self._heads.find(*runs(found, HEAD))
        for place, (number, _) in zip(places.tolist(), values.tolist(), strict=True):
            question = self._sequences[number].question
            text = int(owners[place])
            end = place + len(question)
            if end <= found.bounds[text + 1] and found.hashes[place:end].tolist() == question:
                masks[text, number] |= (1 << len(question)) - 1
                ends[text, number].append(end)
        shares: dict[int, dict[int, float]] = defaultdict(dict)
        for (text, number), mask in masks.items():
            sequence = self._sequences[number]
            until = int(found.bounds[text + 1])
            if 0 < len(sequence.answer) < SIZE and any(
                contains(found.hashes[end : min(until, end + SIZE + len(sequence.answer))].tolist(), sequence.answer)
                for end in ends.get((text, number), ())
            ):
                mask |= ((1 << len(sequence.answer)) - 1) << len(sequence.question)
            share = mask.bit_count() / sequence.length
            if share >= (1.0 if sequence.length < SIZE else LEAST_SHARE):
                shares[text][number] = round(share, 4)
        return shares


def _shown(passage: str) -> str:
    """A passage as reports have it: without contacts and secrets, and not too long."""
    text = redact(" ".join(passage.split()))[0]
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"


def empty(count: int) -> list[pa.Array]:
    """The values of COLUMNS where there are no benchmarks."""
    columns: tuple[list[Any], ...] = ([0.0] * count, [None] * count, [0.0] * count, [[]] * count)
    return [pa.array(column, field.type) for column, field in zip(columns, COLUMNS, strict=True)]
