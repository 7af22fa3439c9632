"""Bits per byte of held-out documents: of a model, of a Kneser-Ney model, of `xz -9`; means and their errors."""

from __future__ import annotations

import lzma
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import msgspec
import numpy as np

from zhen.evaluate.held_out import Group
from zhen.evaluate.kneser_ney import KneserNey
from zhen.infer.engine import Engine
from zhen.model.likelihood import bits_per_byte
from zhen.tokenizer.load import Tokenizer

DOCUMENTS_AT_ONCE = 32
"""Documents scored between two calls of `progress`. Fixed: the shapes of batches decide the last bits of a score."""

NLL_DECIMALS = 6
"""Of a document's nats. Means are made of these rounded values, so that anyone can make them again from the items."""


class Item(msgspec.Struct, frozen=True):
    """What one document contributes."""

    source: str
    lang: str
    index: int
    """The document's place among the held-out ones of its source and language."""
    tokens: int
    bytes: int
    nll: float
    """Negative log-likelihood of the text's tokens, nats."""


@dataclass(frozen=True)
class Mean:
    """A figure over documents: its value, standard error (None for a single document) and number of documents."""

    score: float
    stderr: float | None
    n: int


def model_items(
    engine: Engine, group: Group, begin: int, end: int, stride: int, progress: Callable[[int], None]
) -> Iterator[Item]:
    """Items of the documents begin … end - 1 of a group. `progress` is told how many documents were just scored."""
    for at in range(begin, end, DOCUMENTS_AT_ONCE):
        stop = min(at + DOCUMENTS_AT_ONCE, end)
        scores = engine.score_documents(group.documents[at:stop], stride)
        for index, score in zip(range(at, stop), scores, strict=True):
            yield _item(group, index, -score.total)
        progress(stop - at)


def kneser_ney_items(reference: KneserNey, group: Group) -> Iterator[Item]:
    """Items of a group by the n-gram model: the same tokens and boundaries, the end-of-text tokens unscored."""
    end = [reference.end_of_text]
    stream = np.fromiter(chain.from_iterable(chain(ids, end) for ids in group.documents), dtype=np.int64)
    logprobs = reference.logprobs(stream)
    begin = 0
    for index, ids in enumerate(group.documents):
        yield _item(group, index, -float(logprobs[begin : begin + len(ids)].sum()))
        begin += len(ids) + 1


def _item(group: Group, index: int, nll: float) -> Item:
    ids, size = group.documents[index], group.sizes[index]
    return Item(group.source, group.lang, index, len(ids), size, round(nll, NLL_DECIMALS))


def xz_bits_per_byte(groups: Sequence[Group], tokenizer: Tokenizer) -> float:
    """Bits per byte of `xz -9` on the texts of `groups`, one behind the other."""
    text = b"".join(tokenizer.decode(ids).encode("utf-8") for group in groups for ids in group.documents)
    return 8 * len(lzma.compress(text, preset=9)) / len(text)


def mean_bits_per_byte(items: Sequence[Item]) -> Mean:
    """Bits per byte of all items together, with the standard error of a ratio over documents."""
    _, stderr = _ratio([item.nll for item in items], [float(item.bytes) for item in items])
    return Mean(
        bits_per_byte(math.fsum(item.nll for item in items), sum(item.bytes for item in items)),
        None if stderr is None else stderr / math.log(2),
        len(items),
    )


def margin(items: Sequence[Item], reference: Sequence[Item]) -> Mean:
    """By how many per cent a model needs fewer bits than the reference on the same documents; paired error."""
    ratio, stderr = _ratio([item.nll for item in items], [item.nll for item in reference])
    return Mean(100 * (1 - ratio), None if stderr is None else 100 * stderr, len(items))


def change(before: Sequence[Item], after: Sequence[Item]) -> Mean:
    """By how many bits a byte the second model needs more than the first on the same documents; paired error."""
    more = [later.nll - earlier.nll for earlier, later in zip(before, after, strict=True)]
    ratio, stderr = _ratio(more, [float(item.bytes) for item in before])
    return Mean(ratio / math.log(2), None if stderr is None else stderr / math.log(2), len(before))


def _ratio(above: Sequence[float], below: Sequence[float]) -> tuple[float, float | None]:
    """sum(above) / sum(below) and its standard error over the pairs (Cochran 1977, section 6.4)."""
    n, total = len(above), math.fsum(below)
    ratio = math.fsum(above) / total
    if n < 2:
        return ratio, None
    squares = math.fsum((a - ratio * b) ** 2 for a, b in zip(above, below, strict=True))
    return ratio, math.sqrt(n / (n - 1) * squares) / total
