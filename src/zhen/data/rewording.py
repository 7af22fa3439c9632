"""Benchmark items that a document asks in other words: a passage that asks, holds what is asked for, and answers.

A rewording keeps an item's names, numbers and terms, changes the words around them and their order, and still asks and
answers (Yang et al. 2023, "Rethinking Benchmark and Contamination for Language Models with Rephrased Samples": such
samples pass checks by n-grams). A page that states the fact does not ask. So of an item those words count that tell it
from other items, not those that any question is made of; and they count where a sentence asks, with the answer in that
sentence or right behind it.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN202
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zhen.data.asking import Sentences, asking_words, sentences
from zhen.data.telling import Parts, is_label, side, telling, terms
from zhen.data.words import kernel
from zhen.formats.ngrams import SIZE, Hashes, Table, Tokens, tokens

LEAST = 0.5
"""Share of an item's words from which a passage is noted (ours)."""
_LONGEST = 400
"""Tokens of the longest item that is looked for in other words: longer ones are told by their runs of 13."""
_RAREST = 5
"""Terms of an item, the rarest, by which it is found: two of them must be there."""
_COMMON = 256
"""Items that have a term, at most, for it to be one by which an item is found."""
_COMMON_WEIGHT = 0.3
"""What a common word weighs, beside another in as many items."""
_NAME = 0.5
"""What a token of the question must weigh, beside the heaviest, to be taken for its name, number or term."""
_NAMED = 0.65
"""Share of those that a rewording must have: they are what it cannot put otherwise."""
_ENOUGH = 2.5
"""Terms, a common one being _COMMON_WEIGHT of one and an answer one more, that must be there: fewer meet by chance."""
_ANSWER = 32
"""Tokens of the longest answer that must stand in the passage; a longer one is a solution, and put otherwise."""
_ANSWERED = 0.5
"""Share of an answer's words that must stand in the passage."""
_LONGER = 1.5
"""How much longer than the item's a question in other words may be."""
_BEFORE, _BEHIND = 48, 64
"""Tokens before and behind a sentence that asks in which the terms are looked for by which an item is found."""
_SLOTS = 1_999_993
"""Of a table in which terms are counted, so that an item with one of its terms in a text is left out before sorting."""
_CLOSE = 24
"""Tokens, more than the item's question has, between two such terms at most."""
_WHOLE = 0.6
"""Of the item's question as long a sentence asks all of it; a shorter one goes on from what stands before it."""
_SEVERAL = 24
"""Tokens of a question from which it may be several sentences that ask."""
_CHOICES = 300
"""Tokens, at most, of the lines with choices behind a question."""


class Passage(NamedTuple):
    """A passage of a text in which an item is asked."""

    text: int
    item: int
    share: float
    """Of the item's terms, by weight."""
    begin: int
    end: int
    """Characters of the text."""


class _Text(NamedTuple):
    """Texts as the kernels take them: `bounds`, `hashes` of Tokens, the terms, and Sentences."""

    bounds: NDArray[np.int64]
    hashes: Hashes
    terms: Hashes
    of: NDArray[np.int64]
    starts: NDArray[np.int64]
    asks: NDArray[np.uint8]
    labels: NDArray[np.uint8]


class _Items(NamedTuple):
    """Items as the kernels take them."""

    bounds: NDArray[np.int64]
    """int64[items + 1]: where each item's terms begin."""
    terms: Hashes
    """uint64[terms], sorted by item and value."""
    tokens: NDArray[np.int64]
    """int64[terms]: the token that each begins with."""
    paired: NDArray[np.bool_]
    """bool[terms]: whether it covers the next token, too."""
    firsts: NDArray[np.int64]
    """int64[items + 1]: where each item's tokens begin."""
    weights: NDArray[np.float64]
    """float64[tokens]"""
    names: NDArray[np.bool_]
    """bool[tokens]: whether it is one of the question's names, numbers and terms."""
    counts: NDArray[np.float64]
    """float64[tokens]: how much of a term it is; less of a common one."""
    of_answer: NDArray[np.bool_]
    """bool[tokens]"""
    sizes: NDArray[np.int64]
    """int64[items]: tokens of the question."""
    asks_by: NDArray[np.uint8]
    """uint8[items]: 2 where only a mark, a blank or choices count as asking: the answer has a word that asks."""
    answer_hashes: Hashes
    answer_terms: Hashes
    answer_starts: NDArray[np.int64]
    answer_sizes: NDArray[np.int64]
    """int64[items]: tokens of the answer that must be there; 0: none must."""


def _around(found: Sentences, bounds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool[tokens]: which stand in a sentence that asks, a little before it, or in its choices and answer."""
    steps = np.zeros(bounds[-1] + 1, dtype=np.int64)
    asks = np.flatnonzero(found.asks)
    begin, end = found.starts[asks], found.starts[asks + 1]
    text = np.searchsorted(bounds, begin, side="right") - 1
    np.add.at(steps, np.maximum(begin - _BEFORE, bounds[text]), 1)
    np.add.at(steps, np.minimum(end + _BEHIND, bounds[text + 1]), -1)
    return np.asarray(np.cumsum(steps[:-1]) > 0)


class Rewordings:
    """Benchmark items, ready to be looked for in other words."""

    def __init__(self, items: Sequence[tuple[str, str]], looked_for: NDArray[np.bool_]) -> None:
        """`items`: question and answer of each; `looked_for`: bool[items]."""
        questions, answers = tokens([question for question, _ in items]), tokens([answer for _, answer in items])
        sizes = np.diff(questions.bounds)
        needed = np.where(is_label(answers) | (np.diff(answers.bounds) > _ANSWER), 0, np.diff(answers.bounds))
        wanted = looked_for & (sizes <= _LONGEST)
        both = (
            side(questions, [question for question, _ in items], np.where(wanted, sizes, 0), False),
            side(answers, [answer for _, answer in items], np.where(wanted, needed, 0), True),
        )
        order = np.argsort(np.concatenate([each.item for each in both]), kind="stable")
        parts = Parts(*(np.concatenate(column)[order] for column in zip(*both, strict=True)))
        asking = np.concatenate([[0], np.cumsum(asking_words(answers, terms(answers)))])
        asks_by = np.where(asking[answers.bounds[1:]] > asking[answers.bounds[:-1]], 2, 1).astype(np.uint8)
        self._rare, weighed = _weigh(parts, len(items))
        rest = (answers.hashes, telling(answers), answers.bounds[:-1], needed.astype(np.int64))
        self._items = _Items._make([*weighed, sizes.astype(np.int64), asks_by, *rest])

    def find(self, found: Tokens) -> list[Passage]:
        """Passages in which items are asked, the best of each item and text, from LEAST on, by text and item."""
        if not len(found.hashes):
            return []
        termed = terms(found)
        parted = sentences(found, termed)
        places, values = self._rare.find(termed, (termed != 0) & _around(parted, found.bounds))
        if not len(places):
            return []
        sizes = self._items.sizes
        # places come in order; two terms of an item must stand close together
        keys = np.repeat(np.arange(len(found.bounds) - 1), np.diff(found.bounds))[places] * len(sizes) + values[:, 0]
        slots = keys % _SLOTS
        several = np.bincount(slots, minlength=_SLOTS)[slots] > 1
        keys, places, values = keys[several], places[several], values[several]
        if not len(keys):
            return []
        order = np.argsort(keys, kind="stable")
        keys, places, which = keys[order], places[order], values[order, 1]
        near = (keys[1:] == keys[:-1]) & (which[1:] != which[:-1])
        near &= places[1:] - places[:-1] <= _CLOSE + sizes[keys[1:] % len(sizes)]
        kept = np.concatenate([near, [False]]) | np.concatenate([[False], near])
        text = _Text(found.bounds, found.hashes, termed, *parted)
        rows, shares = _search(places[kept], keys[kept] % len(sizes), keys[kept] // len(sizes), text, self._items)
        return [
            Passage(text, item, round(share, 4), int(found.places[begin, 0]), int(found.places[end - 1, 1]))
            for (text, item, begin, end), share in zip(rows.tolist(), shares.tolist(), strict=True)
        ]


def _weigh(parts: Parts, count: int) -> tuple[Table, tuple[NDArray[Any], ...]]:
    """The terms by which items are found, and the first nine fields of _Items.

    A word weighs by how many items have it (inverse document frequency), a common one less. A Han character weighs
    half of the pair that it is in; a pair is taken for a word where no other pair with one of its characters is in more
    items.
    """
    at = np.flatnonzero(parts.term)
    known, which = np.unique(parts.term[at], return_inverse=True)
    spread = np.bincount(np.unique(np.stack([which, parts.item[at]], axis=1), axis=0)[:, 0], minlength=len(known))
    worth = np.where(parts.common[at], _COMMON_WEIGHT, 1.0) * (np.log((count + 1) / spread) + 0.1)[which]
    paired = parts.alone[at]
    least = np.full(len(parts.term) + 1, np.inf)
    least[at] = worth
    np.minimum.at(least, at[paired] + 1, worth[paired])
    word = ~paired | ((worth <= least[at]) & (worth <= least[at + 1]))
    at, worth, paired, which = at[word], worth[word], paired[word], which[word]
    item = parts.item[at]
    full = np.zeros(len(parts.term) + 1)
    full[at] = worth
    full[at[paired] + 1] = worth[paired]
    # a term that an item has twice counts once
    order = np.lexsort((at, which, item))
    again = order[1:][(which[order][1:] == which[order][:-1]) & (item[order][1:] == item[order][:-1])]
    full[at[again]] = full[at[again] + paired[again]] = 0.0
    full = full[:-1]
    half = np.where(parts.alone, 0.5, 1.0)
    most = np.zeros(count)
    asked = np.where(parts.answer, 0.0, full)
    np.maximum.at(most, parts.item, asked)
    common = np.zeros(len(full), dtype=np.bool_)
    common[at] |= parts.common[at]
    common[at + paired] |= parts.common[at]
    order = np.lexsort((parts.term[at], item))
    weighed = (
        np.searchsorted(item[order], np.arange(count + 1)), parts.term[at][order], at[order], paired[order],
        np.searchsorted(parts.item, np.arange(count + 1)), full * half,
        (asked > 0) & (asked >= _NAME * most[parts.item]),
        np.where(full > 0, np.where(common, _COMMON_WEIGHT, 1.0) * half, 0.0), parts.answer,
    )  # fmt: skip
    rare = np.flatnonzero(spread[which] <= _COMMON)
    rows = np.unique(np.stack([item[rare].astype(np.float64), -worth[rare], which[rare]], axis=1), axis=0)
    place = np.arange(len(rows)) - np.searchsorted(rows[:, 0], rows[:, 0])
    chosen = rows[place < _RAREST].astype(np.int64)
    return Table(known[chosen[:, 2]], np.stack([chosen[:, 0], place[place < _RAREST]], axis=1)), weighed


@kernel
def _search(places, items, texts, text, known):
    """For each text and item: the asking sentence around which most of the item stands. int64[found, 4]: text, item,
    first token, token behind the last; float64[found]: share."""
    rows = np.empty((len(places), 4), np.int64)
    shares = np.empty(len(places), np.float64)
    seen = np.zeros(_LONGEST + _ANSWER, np.bool_)
    count = 0
    begin = 0
    while begin < len(places):
        end = begin + 1
        while end < len(places) and items[end] == items[begin] and texts[end] == texts[begin]:
            end += 1
        best, first, last = _best(places[begin:end], items[begin], texts[begin], text, known, seen)
        if best >= LEAST:
            rows[count, 0], rows[count, 1], rows[count, 2], rows[count, 3] = texts[begin], items[begin], first, last
            shares[count] = best
            count += 1
        begin = end
    return rows[:count], shares[:count]


@kernel
def _best(places, item, number, text, known, seen):
    """The greatest share of an item around the sentences that ask near these places of a text, and its tokens."""
    first_token = text.bounds[number]
    last_sentence = text.of[text.bounds[number + 1] - 1]
    best, best_first, best_last = 0.0, np.int64(0), np.int64(0)
    done = np.int64(-1)
    for place in places:
        sentence = max(text.of[max(place - _CHOICES, first_token)], done + 1)
        while sentence <= last_sentence and text.starts[sentence] <= place + _LONGER * known.sizes[item]:
            if text.asks[sentence] >= known.asks_by[item]:
                first, asked, last = _extent(
                    sentence, last_sentence, first_token, text, known.sizes[item], known.answer_sizes[item]
                )
                if first <= place < last:
                    done = sentence
                    if _answered(text.hashes, text.terms, text.starts[sentence], last, item, known):
                        share = _share(text.terms, first, asked, last, item, known, seen)
                        if share > best:
                            best, best_first, best_last = share, first, last
            sentence += 1
    return best, best_first, best_last


@kernel
def _extent(sentence, last_sentence, text_begin, text, size, answer):
    """First token of a passage around an asking sentence, the token behind its question, and the one behind its answer.

    A sentence much shorter than the item's question goes with what stands before it and with its choices; those and one
    sentence or line more hold the answer."""
    begin, end = text.starts[sentence], text.starts[sentence + 1]
    first = begin
    if size >= _SEVERAL and end - begin < _WHOLE * size:
        first = max(text_begin, min(begin, end - np.int64(_LONGER * size)))
    asked, following = end, sentence + 1
    while following <= last_sentence and text.labels[following] == 1 and text.asks[following] == 0:
        if text.starts[following + 1] - end > _CHOICES:
            break
        asked = text.starts[following + 1]
        following += 1
    last = asked
    if end - begin >= _WHOLE * size:
        asked = end
    while following <= last_sentence and text.labels[following] == 2:
        last = text.starts[following + 1]
        following += 1
    if following <= last_sentence and not text.asks[following]:
        last = min(text.starts[following + 1], last + SIZE + answer)
    return first, asked, last


@kernel
def _answered(hashes, terms, begin, end, item, known):
    """Whether the item's answer stands among these tokens: word for word, or its terms by half."""
    first, size = known.answer_starts[item], known.answer_sizes[item]
    if size == 0:
        return True
    for place in range(begin, end - size + 1):
        same = 0
        while same < size and hashes[place + same] == known.answer_hashes[first + same]:
            same += 1
        if same == size:
            return True
    wanted = there = 0
    for word in range(first, first + size):
        if known.answer_terms[word] != 0:
            wanted += 1
            for place in range(begin, end):
                if terms[place] == known.answer_terms[word]:
                    there += 1
                    break
    return there > 0 and there >= _ANSWERED * wanted


@kernel
def _share(terms, first, asked, last, item, known, seen):
    """Share of the item's weight that tokens have, of its question up to `asked`; 0 where too little tells it."""
    token, behind = known.firsts[item], known.firsts[item + 1]
    begin, end = known.bounds[item], known.bounds[item + 1]
    seen[: behind - token] = False
    own = known.terms[begin:end]
    for place in range(first, last):
        slot = np.searchsorted(own, terms[place]) if terms[place] != 0 else len(own)
        while slot < len(own) and own[slot] == terms[place]:
            at = known.tokens[begin + slot]
            if known.of_answer[at] or place < asked:
                seen[at - token] = True
                if known.paired[begin + slot]:
                    seen[at + 1 - token] = True
            slot += 1
    total = weight = names = named = count = 0.0
    for at in range(token, behind):
        total += known.weights[at]
        names += known.weights[at] * known.names[at]
        if seen[at - token]:
            weight += known.weights[at]
            named += known.weights[at] * known.names[at]
            count += known.counts[at]
    if count + (known.answer_sizes[item] > 0) < _ENOUGH or named < _NAMED * names:
        return 0.0
    return weight / total
