"""Words that tell a text from others: what two texts have in common beside the words that any text is made of.

A term is a word, or two Han characters side by side. Chinese is not cut into words; of the pairs that lie across two
words most go when a sentence is put otherwise.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zhen.formats.ngrams import ASKS, DOT, LINE, STOP, Hashes, Tokens, mix, tokens

_PLAIN = """
a an the this that these those it its he she they them his her their him we us our you your i me my and or but nor so if
then than as of in on at by for to from with without into onto about over under between among through during after
before above below up down out off again further once is are was were be been being am do does did done doing has have
had having can could may might must shall should will would not no any all both each few more most other others some
such only own same too very just also there here what which who whom whose when where why how s t d ll m re ve
don doesn didn isn aren wasn weren one ones ask asks asked asking question questions answer answers answered
say says said tell tells told know knows known think thinks thought give gives given name named
names called find finds found choose
chooses chosen select following statement statements true false correct incorrect best likely please according e g i
"""
_PLAIN_HAN = (
    "的了着吗呢吧么哪谁怎这那什与及或而但把被就都也还又很最是在们他她它我你您些则且若该某请问说其之已会能要种个到"
)
_PLAIN_PAIRS = (
    "知道 告诉 下列 以下 关于 有关 正确 错误 选项 属于 以及 一个 一种 不会 可以 能够 应该 应当 因为 所以 如果 如何"
)
"""What questions are made of whatever they ask for: it counts for nothing."""

_ENDINGS = ("s", "es", "ed", "d", "ing")


class Parts(NamedTuple):
    """Tokens of the items' questions and answers, item by item, the question first."""

    item: NDArray[np.int64]
    """int64[tokens]"""
    answer: NDArray[np.bool_]
    """bool[tokens]: whether it is of the answer."""
    term: Hashes
    """uint64[tokens]: the term that begins here, 0 where none tells anything."""
    alone: NDArray[np.bool_]
    common: NDArray[np.bool_]
    """bool[tokens]: whether the term is common, and not written as a name is, with a capital inside a sentence."""


@functools.cache
def word_set(words: str) -> Hashes:
    """The hashes of words parted by blanks, sorted."""
    return np.unique(tokens([words]).hashes)


@functools.cache
def _common() -> frozenset[str]:
    """Words and pairs of characters that are common in either language: `common.txt`."""
    return frozenset(resources.files("zhen.data").joinpath("common.txt").read_text("utf-8").split())


@functools.cache
def pair_set(words: str) -> Hashes:
    """The terms of pairs of characters parted by blanks, sorted."""
    found = tokens(words.split())
    return np.unique(mix(found.hashes[::2] * np.uint64(3) + found.hashes[1::2]))


def among(hashes: Hashes, wanted: Hashes) -> NDArray[np.bool_]:
    """bool[hashes]: which of them are wanted (sorted)."""
    seen = np.zeros(1 << 14, dtype=np.bool_)
    seen[wanted >> np.uint64(50)] = True
    found = seen[hashes >> np.uint64(50)]
    places = np.flatnonzero(found)
    slots = np.minimum(np.searchsorted(wanted, hashes[places]), len(wanted) - 1)
    found[places] = wanted[slots] == hashes[places]
    return np.asarray(found)


def terms(found: Tokens) -> Hashes:
    """uint64[tokens]: a word stands for itself, a Han character for itself and the next (0: none follows directly).

    A pair over a mark between two characters is none: it would stand for no word.
    """
    kept = found.hashes.copy()
    paired = np.zeros(len(kept), dtype=np.bool_)
    paired[:-1] = found.alone[:-1] & found.alone[1:] & (found.places[:-1, 1] == found.places[1:, 0])
    paired[found.bounds[1:-1] - 1] = False
    kept[found.alone] = 0
    at = np.flatnonzero(paired)
    kept[at] = mix(found.hashes[at] * np.uint64(3) + found.hashes[at + 1])
    return kept


def telling(found: Tokens) -> Hashes:
    """uint64[tokens]: the terms that tell an item from others; 0 where there is none.

    A pair with a particle in it is none: it mostly lies across two words, and goes when they are put otherwise.
    """
    kept = terms(found)
    han = among(found.hashes, word_set(_PLAIN_HAN))
    plain = ~found.alone & (among(found.hashes, word_set(_PLAIN)) | is_letter(found))
    plain |= found.alone & (han | np.concatenate([han[1:], [False]])) | among(kept, pair_set(_PLAIN_PAIRS))
    kept[plain] = 0
    return kept


def is_letter(found: Tokens) -> NDArray[np.bool_]:
    """bool[tokens]: whether a token is one letter or digit, and no Han character."""
    return np.asarray(~found.alone & (found.places[:, 1] - found.places[:, 0] == 1))


def is_label(found: Tokens) -> NDArray[np.bool_]:
    """bool[texts]: whether a text is but one letter or digit, which stands for something else."""
    single = np.zeros(len(found.bounds) - 1, dtype=np.bool_)
    ones = np.flatnonzero(np.diff(found.bounds) == 1)
    single[ones] = is_letter(found)[found.bounds[ones]]
    return single


def _end(found: Tokens, token: int) -> int:
    """The character behind a term."""
    pair = found.alone[token] and token + 1 < len(found.alone) and found.places[token + 1, 0] == found.places[token, 1]
    return int(found.places[token + pair, 1])


def _is_common(word: str) -> bool:
    common = _common()
    return word in common or any(
        word.endswith(ending) and (word.removesuffix(ending) in common or word.removesuffix(ending) + "e" in common)
        for ending in _ENDINGS
    )


def side(found: Tokens, texts: Sequence[str], sizes: NDArray[np.int64], answer: bool) -> Parts:
    """The first `sizes` tokens of each text."""
    owners = np.repeat(np.arange(len(texts)), np.diff(found.bounds))
    at = np.flatnonzero(np.arange(len(owners)) - found.bounds[owners] < sizes[owners])
    term = telling(found)
    inside = np.concatenate([[False], (found.gaps[:-1] & (STOP | LINE | ASKS | DOT)) == 0])
    inside[found.bounds[:-1][np.diff(found.bounds) > 0]] = False
    known, first, which = np.unique(term, return_index=True, return_inverse=True)
    words = (texts[owners[token]][found.places[token, 0] : _end(found, token)].lower() for token in first.tolist())
    common = np.fromiter((_is_common(word) for word in words), np.bool_, len(known))[which]
    for token in np.flatnonzero(inside & ~found.alone & common).tolist():
        common[token] = not texts[owners[token]][found.places[token, 0]].isupper()
    return Parts(owners[at], np.full(len(at), answer), term[at], found.alone[at], common[at])
