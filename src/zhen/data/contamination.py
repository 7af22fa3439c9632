"""How much of each benchmark item a document has: word for word in runs of 13, or its rare words close together.

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
from zhen.formats.ngrams import LEAST, SIZE, Hashes, Table, Tokens, contains, runs, tokens, words

COLUMNS = (
    pa.field("contaminated", pa.float32()),
    pa.field("contamination", pa.string()),
    pa.field("reworded", pa.float32()),
    pa.field("overlaps", pa.list_(pa.struct([("item", pa.int32()), ("share", pa.float32()), ("words", pa.bool_())]))),
)
"""`contaminated`: the greatest share of an item that the document has word for word; `contamination`: which item;
`reworded`: the greatest share of an item's rare words close together; `overlaps`: each item of which there is much
(`item`: its number in benchmarks.json; `words`: whether word for word)."""

HEAD = 4
"""Tokens by which a short question is found."""
LEAST_SHARE = 0.2
"""Share of an item word for word from which it is noted (Touvron et al. 2023: less than 20 % is clean)."""
LEAST_REWORDED = 0.5
"""Share of an item's rare words close together from which it is noted (ours)."""
_WINDOW = 24
"""Tokens, more than the item has, in which its rare words are looked for."""
_RAREST = 3
_COMMON = 64
"""Items that have a word, at most, for it to be a rare one by which an item is found."""
_LONGEST = 128
"""Tokens of the longest item that rewordings are looked for of: longer ones are told by their runs of 13."""


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
        self._terms(questions, answers, looked_for)

    def _terms(self, questions: Tokens, answers: Tokens, looked_for: NDArray[np.bool_]) -> None:
        """Rare words of each item, and how much each word weighs: by how many items have it."""
        asked, answered = _terms(questions), _terms(answers)
        words = [
            set(_words(questions, asked, number)) | set(_words(answers, answered, number))
            if looked_for[number] and sequence.length <= _LONGEST
            else set[int]()
            for number, sequence in enumerate(self._sequences)
        ]
        counts: dict[int, int] = defaultdict(int)
        for each in words:
            for word in each:
                counts[word] += 1
        total = max(len(words), 1)
        weight = {word: float(np.log((total + 1) / count)) + 0.1 for word, count in counts.items()}
        self._weights = [{word: weight[word] for word in sorted(each)} for each in words]
        self._totals = [sum(each.values()) for each in self._weights]
        rare: list[tuple[int, tuple[int, int]]] = []
        for number, weights in enumerate(self._weights):
            order = sorted(weights, key=lambda word: (counts[word], word))
            rare += [(word, (number, place)) for place, word in enumerate(order[:_RAREST]) if counts[word] <= _COMMON]
        keys = np.array([word for word, _ in rare], dtype=np.uint64)
        self._rare = Table(keys, np.array([value for _, value in rare], dtype=np.int64).reshape(-1, 2))

    def measure(self, texts: Sequence[str]) -> list[pa.Array]:
        """The values of COLUMNS for each text."""
        found = tokens(texts)
        verbatim = self._verbatim(found)
        loose = self._reworded(found)
        shares, names, reworded, overlaps = [], [], [], []
        for text in range(len(texts)):
            exact, near = verbatim.get(text, {}), loose.get(text, {})
            best = max(exact, key=lambda item: (exact[item], -item), default=None)
            shares.append(exact[best] if best is not None else 0.0)
            names.append(self.names[best] if best is not None else None)
            reworded.append(max(near.values(), default=0.0))
            overlaps.append(
                [{"item": item, "share": share, "words": True} for item, share in sorted(exact.items())]
                + [{"item": item, "share": share, "words": False} for item, share in sorted(near.items())]
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

    def _reworded(self, found: Tokens) -> dict[int, dict[int, float]]:
        """Text -> item -> greatest share of its words, by weight, close together, from LEAST_REWORDED on."""
        terms = _terms(found)
        owners = np.repeat(np.arange(len(found.bounds) - 1), np.diff(found.bounds))
        places, values = self._rare.find(terms, np.ones(len(terms), dtype=np.bool_))
        order = np.lexsort((places, values[:, 0], owners[places]))
        places, values = places[order], values[order]
        texts = owners[places]
        near = (
            (values[1:, 0] == values[:-1, 0])
            & (texts[1:] == texts[:-1])
            & (values[1:, 1] != values[:-1, 1])
            & (places[1:] - places[:-1] <= _WINDOW)
        )
        shares: dict[int, dict[int, float]] = defaultdict(dict)
        for hit in np.flatnonzero(near):
            text, number = int(texts[hit]), int(values[hit, 0])
            reach = self._sequences[number].length + _WINDOW
            first = max(int(found.bounds[text]), int(places[hit + 1]) - reach)
            last = min(int(found.bounds[text + 1]), int(places[hit]) + reach)
            share = self._share(number, terms[first:last].tolist(), reach)
            if share >= max(LEAST_REWORDED, shares[text].get(number, 0.0)):
                shares[text][number] = round(share, 4)
        return {text: each for text, each in shares.items() if each}

    def _share(self, number: int, words: list[int], reach: int) -> float:
        """The greatest share of an item's weight among `reach` words in a row."""
        weights = self._weights[number]
        inside: dict[int, int] = {}
        weight = best = 0.0
        for place, word in enumerate(words):
            if word in weights:
                inside[word] = inside.get(word, 0) + 1
                weight += weights[word] if inside[word] == 1 else 0.0
            if place >= reach and (gone := words[place - reach]) in weights:
                inside[gone] -= 1
                weight -= weights[gone] if inside[gone] == 0 else 0.0
            best = max(best, weight)
        return min(best / self._totals[number], 1.0)


def _terms(found: Tokens) -> Hashes:
    """uint64[tokens]: a word stands for itself, a Han character for itself and the next one (0: there is none)."""
    pairs, whole = runs(found, 2)
    both = np.zeros(len(found.hashes), dtype=np.bool_)
    both[:-1] = found.alone[:-1] & found.alone[1:]
    return np.where(found.alone, np.where(both & whole, pairs, np.uint64(0)), found.hashes)


def _words(found: Tokens, terms: Hashes, text: int) -> list[int]:
    """The terms of one text that there are."""
    return [word for word in terms[found.bounds[text] : found.bounds[text + 1]].tolist() if word]


def empty(count: int) -> list[pa.Array]:
    """The values of COLUMNS where there are no benchmarks."""
    columns: tuple[list[Any], ...] = ([0.0] * count, [None] * count, [0.0] * count, [[]] * count)
    return [pa.array(column, field.type) for column, field in zip(columns, COLUMNS, strict=True)]
