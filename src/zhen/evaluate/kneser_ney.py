"""The reference that a language model must beat: interpolated modified Kneser-Ney on the same token ids.

Chen & Goodman 1998, "An Empirical Study of Smoothing Techniques for Language Modeling", §3.2 (discounts: eq. 26);
adjusted counts at the start of a document and the uniform floor as in Heafield et al. 2013, "Scalable Modified
Kneser-Ney Language Model Estimation", §3 (KenLM's `lmplz`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""For counts 1, 2, 3 or more where the counts of counts give none in (0, count]: `lmplz --discount_fallback`."""

MISSING = -1


@dataclass(frozen=True)
class _Order:
    """The n-grams of one order seen in training, n >= 2.

    `keys`: int64[grams], sorted: id of the first n - 1 tokens * vocab_size + last token. The id of a gram is its
    place here; that of a single token is the token. `probabilities`: float64[grams], interpolated all the way down.
    `backoff`: float64[grams of order n - 1]: what a context leaves to the order below.
    """

    keys: Ints
    probabilities: Floats
    backoff: Floats


class KneserNey:
    """An n-gram model over a stream of documents, each ended by the end-of-text token.

    No n-gram crosses a document's boundary: the context of a document's first token is the end-of-text token alone.
    The end of a document is an event like any token (the neural model spends probability on it as well), so that
    probabilities sum to one over the vocabulary after any context.
    """

    def __init__(self, tokens: ArrayLike, *, vocab_size: int, end_of_text: int, order: int = 5) -> None:
        """Train on `tokens`: integers[n], whole documents, each with its end-of-text token at the end."""
        self.vocab_size = vocab_size
        self.end_of_text = end_of_text
        self.order = order
        stream, depth = self._stream(tokens)
        tables = _count(stream, depth, vocab_size, order)
        self.discounts = [_discounts(table.adjusted) for table in tables]
        """By order, from 1: what is taken from counts 1, 2, and 3 or more."""
        self._unigrams, self._orders = _interpolate(tables, self.discounts, vocab_size)

    def logprobs(self, tokens: ArrayLike) -> Floats:
        """Natural log of the probability of every token of a stream: float64[n], end-of-text tokens included."""
        stream, depth = self._stream(tokens)
        probabilities = self._unigrams[stream[1:]]
        ids = stream
        for n, table in enumerate(self._orders, start=2):
            contexts = np.where(depth >= n - 1, ids[:-1], MISSING)
            grams = _find(table.keys, contexts, stream[1:], self.vocab_size)
            known = contexts != MISSING
            probabilities[known] *= table.backoff[contexts[known]]
            seen = grams != MISSING
            probabilities[seen] = table.probabilities[grams[seen]]
            ids = np.concatenate(([MISSING], grams))
        return np.log(probabilities)

    def distribution(self, context: Sequence[int]) -> Floats:
        """Probability of every token behind `context`: float64[vocab], summing to one.

        The last `order` - 1 tokens count; a document's beginning is an end-of-text token in front.
        """
        probabilities = self._unigrams.copy()
        for n, table in enumerate(self._orders, start=2):
            gram = self._gram(context[len(context) - (n - 1) :]) if len(context) >= n - 1 else MISSING
            if gram == MISSING:
                break
            probabilities *= table.backoff[gram]
            first, last = np.searchsorted(table.keys, [gram * self.vocab_size, (gram + 1) * self.vocab_size])
            seen = table.keys[first:last] - gram * self.vocab_size
            probabilities[seen] = table.probabilities[first:last]
        return probabilities

    def _gram(self, tokens: Sequence[int]) -> int:
        """The id of a gram, MISSING where it was not seen in training."""
        gram = int(tokens[0])
        for table, token in zip(self._orders, tokens[1:], strict=False):
            gram = int(_find(table.keys, np.array([gram]), np.array([token]), self.vocab_size)[0])
            if gram == MISSING:
                break
        return gram

    def _stream(self, tokens: ArrayLike) -> tuple[Ints, Ints]:
        """The tokens with an end-of-text token in front, and how many tokens of context each event has.

        Returns int64[n + 1] and int64[n]: event i is stream[i + 1].
        """
        stream = np.concatenate(([self.end_of_text], np.asarray(tokens, dtype=np.int64)))
        place = np.arange(stream.size - 1)
        starts = np.maximum.accumulate(np.where(stream[:-1] == self.end_of_text, place, 0))
        return stream, place - starts + 1


@dataclass(frozen=True)
class _Counts:
    """Counts of one order. `keys` as in `_Order` (order 1: every token of the vocabulary, ids = tokens).

    `adjusted`: int64[grams]: occurrences where nothing can precede the gram (highest order; it starts a document),
    else the number of distinct tokens that precede it. `suffixes`: int64[grams]: ids of the last n - 1 tokens.
    """

    keys: Ints
    adjusted: Ints
    suffixes: Ints


def _count(stream: Ints, depth: Ints, vocab_size: int, order: int) -> list[_Counts]:
    """Counts of all orders, from 1."""
    events = stream[1:]
    raw = np.bincount(events, minlength=vocab_size)
    # per order: keys, occurrences, suffixes, whether the gram starts a document
    rows: list[tuple[Ints, Ints, Ints, NDArray[np.bool_]]] = [
        (np.arange(vocab_size), raw, np.zeros(vocab_size, np.int64), np.zeros(vocab_size, bool))
    ]
    ids = stream
    for n in range(2, order + 1):
        places = np.flatnonzero(depth >= n - 1)
        packed = ids[places] * vocab_size + events[places]
        keys, first, inverse, counts = np.unique(packed, return_index=True, return_inverse=True, return_counts=True)
        sample = places[first]
        rows.append((keys, counts, ids[sample + 1], depth[sample] == n - 1))
        ids = np.full(stream.size, MISSING)
        ids[places + 1] = inverse
    tables = []
    for n, (keys, counts, suffixes, starts) in enumerate(rows, start=1):
        adjusted = counts
        if n < order:
            preceded = np.bincount(rows[n][2], minlength=keys.size)
            adjusted = np.where(starts, counts, preceded)
        tables.append(_Counts(keys, adjusted, suffixes))
    return tables


def _discounts(adjusted: Ints) -> tuple[float, float, float]:
    """Discounts of one order for adjusted counts 1, 2, 3 or more (Chen & Goodman 1998, eq. 26).

    They need grams seen once, twice and three times; where one kind is missing, or a discount comes out at zero or
    below (a context would leave nothing to the order below) or above its count, all three are FALLBACK_DISCOUNTS.
    """
    t1, t2, t3, t4 = (int(np.count_nonzero(adjusted == count)) for count in (1, 2, 3, 4))
    if not (t1 and t2 and t3):
        return FALLBACK_DISCOUNTS
    y = t1 / (t1 + 2 * t2)
    found = (1 - 2 * y * t2 / t1, 2 - 3 * y * t3 / t2, 3 - 4 * y * t4 / t3)
    if all(0 < discount <= count for count, discount in enumerate(found, start=1)):
        return found
    return FALLBACK_DISCOUNTS


def _interpolate(
    tables: list[_Counts], discounts: list[tuple[float, float, float]], vocab_size: int
) -> tuple[Floats, list[_Order]]:
    """Probabilities of the unigrams, and the orders above: what is left of each count, plus the share from below."""
    lower = np.full(vocab_size, 1 / vocab_size)
    contexts_below = 1
    orders = []
    for n, (table, discount) in enumerate(zip(tables, discounts, strict=True), start=1):
        # dividing the key leaves the context's id; unigrams have one context, the empty one
        contexts = table.keys // vocab_size
        taken = np.array([0.0, *discount])[np.minimum(table.adjusted, 3)]
        totals = np.bincount(contexts, weights=table.adjusted, minlength=contexts_below)
        left = np.bincount(contexts, weights=taken, minlength=contexts_below)
        extended = totals > 0
        backoff = np.divide(left, totals, out=np.ones(contexts_below), where=extended)
        share = np.divide(
            table.adjusted - taken, totals[contexts], out=np.zeros(table.keys.size), where=extended[contexts]
        )
        below = lower if n == 1 else lower[table.suffixes]
        lower = share + backoff[contexts] * below
        contexts_below = table.keys.size
        if n == 1:
            unigrams = lower
        else:
            orders.append(_Order(table.keys, lower, backoff))
    return unigrams, orders


def _find(keys: Ints, contexts: Ints, tokens: Ints, vocab_size: int) -> Ints:
    """Ids of the grams made of `contexts` (MISSING where none) and `tokens`; MISSING where not seen in training."""
    found = np.full(tokens.size, MISSING)
    known = np.flatnonzero(contexts != MISSING)
    if keys.size and known.size:
        wanted = contexts[known] * vocab_size + tokens[known]
        places = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
        found[known] = np.where(keys[places] == wanted, places, MISSING)
    return found
