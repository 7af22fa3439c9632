"""Texts as sequences of hashed tokens, and runs of n of them: what overlaps between texts are counted in.

A token is a word, or one Han character or kana. Letters are lower case and of one width; what is no letter and no digit
only parts words. Hashes are the same on every machine.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

SIZE = 13
"""Tokens of a run that tells texts apart (Brown et al. 2020, GPT-3, appendix C: 13-grams)."""

LEAST = 5.0
"""Words (see `words`) of the shortest run that tells texts apart: a shorter one is said by chance."""

_HAN = 0.6
"""Words that a Han character or kana stands for."""

_BITS = 22
"""Of a table's bitmap: 4 MB."""

_LABEL_FRONT = re.compile(r"^\s*(?:question|q|problem|goal|问题|问|题目|题)\s*[:：]\s*", re.IGNORECASE)
_LABEL_BEHIND = re.compile(r"\s*(?:answer|a|solution|答案|答|解)\s*[:：]\s*$", re.IGNORECASE)
"""What stands before a question and behind it."""

_END = 0x33480
_ALONE = [(0x3041, 0x3097), (0x30A1, 0x30FB), (0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, _END)]
"""Code points that are tokens of their own: kana and Han."""

STOP, DOT, BLANK, LINE, ASKS, OPENS, CLOSES, COLON, BULLET, WIDE, RULE = (1 << bit for bit in range(11))
"""What stands between two tokens: an end of sentences, a full stop (an end before a blank), a blank, an end of line, a
question mark, an opening and a closing bracket, a colon or an enumeration comma, a bullet or dash, a bracket of Chinese
text, a line to write on."""
_MARKS = {
    STOP: "!;…。！；｡",
    DOT: ".．",
    LINE: "\0\n\r\v\f\x85\u2028\u2029",
    ASKS: "?？⁇⁈⁉︖﹖؟",
    OPENS: "([（［【〔",
    CLOSES: ")]）］】〕",
    COLON: ":：、",
    WIDE: "（）",
    RULE: "_＿",
    BULLET: "-*•·‣◦○●■□–—+",
}

_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)
"""Runs are hashed as polynomials modulo 2^64 in an odd base, so that any run's hash is a difference of two sums."""

_AT_A_TIME = 1_000_000
"""Characters that are worked on at once."""


class Tokens(NamedTuple):
    """Tokens of several texts, one after the other."""

    hashes: Hashes
    """uint64[tokens]"""
    bounds: NDArray[np.int64]
    """int64[texts + 1]: where each text begins."""
    alone: NDArray[np.bool_]
    """bool[tokens]: whether it is a Han character or kana."""
    gaps: NDArray[np.uint16]
    """uint16[tokens]: what stands behind each, before the next: bits STOP, DOT …, or 0."""
    places: NDArray[np.int64]
    """int64[tokens, 2]: characters of its text at which each begins and ends."""

    def of(self, text: int) -> Hashes:
        """uint64[tokens] of one text."""
        return self.hashes[self.bounds[text] : self.bounds[text + 1]]


@functools.cache
def _tables() -> tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.uint16]]:
    """uint32[_END + 1]: each code point folded; uint8[_END + 1]: 0 parts tokens, 1 is part of a word, 2 is a token;
    uint16[_END + 1]: STOP, DOT …"""
    folded = np.arange(_END + 1, dtype=np.uint32)
    kinds = np.zeros(_END + 1, dtype=np.uint8)
    for code in range(0x20000):
        character = chr(code)
        if character.isalnum() or unicodedata.category(character)[0] == "M":
            kinds[code] = 1
            for form in (unicodedata.normalize("NFKC", character).lower(), character.lower()):
                if len(form) == 1 and form.isalnum():
                    folded[code] = ord(form)
                    break
    for begin, end in _ALONE:
        kinds[begin:end] = 2
    marks = np.zeros(_END + 1, dtype=np.uint16)
    marks[[code for code in range(0x3001) if chr(code).isspace()]] = BLANK
    for bit, characters in _MARKS.items():
        for character in characters:
            marks[ord(character)] |= bit
    return folded, kinds, marks


@functools.lru_cache(maxsize=4)
def _powers(base: int, count: int) -> Hashes:
    powers = np.full(count, base, dtype=np.uint64)
    powers[0] = 1
    return np.cumprod(powers, dtype=np.uint64)


def _sums(values: Hashes) -> Hashes:
    """uint64[values + 1]: sums of value times power of the base, before each place."""
    sums = np.zeros(len(values) + 1, dtype=np.uint64)
    np.cumsum(values * _powers_for(_BASE, len(values))[: len(values)], out=sums[1:])
    return sums


def _powers_for(base: int, count: int) -> Hashes:
    return _powers(base, 1 << max(count, 1).bit_length())


def mix(values: Hashes) -> Hashes:
    """Spread the bits of each value (the finish of SplitMix64; Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def tokens(texts: Sequence[str]) -> Tokens:
    """The tokens of each text."""
    parts: list[Tokens] = []
    first, characters = 0, 0
    for index, text in enumerate(texts):
        characters += len(text)
        if characters >= _AT_A_TIME or index + 1 == len(texts):
            parts.append(_tokens(texts[first : index + 1]))
            first, characters = index + 1, 0
    if not parts:
        return _tokens([])
    starts = np.cumsum([0, *(len(part.hashes) for part in parts)])
    bounds = [part.bounds[:-1] + start for part, start in zip(parts, starts[:-1], strict=True)]
    return Tokens(
        np.concatenate([part.hashes for part in parts]),
        np.concatenate([*bounds, starts[-1:]]).astype(np.int64),
        np.concatenate([part.alone for part in parts]),
        np.concatenate([part.gaps for part in parts]),
        np.concatenate([part.places for part in parts]),
    )


def _tokens(texts: Sequence[str]) -> Tokens:
    folded, kinds, marks = _tables()
    encoded = [text.encode("utf-32-le", "replace") for text in texts]
    ends = np.cumsum([len(data) // 4 + 1 for data in encoded], dtype=np.int64)
    codes = np.minimum(np.frombuffer(b"\0\0\0\0".join([*encoded, b""]), dtype="<u4"), _END)
    kind = kinds[codes]
    inside = kind > 0
    # a token begins where a word does, and at each character that is one
    begins = inside & ((kind == 2) | (np.concatenate([[0], kind[:-1]]) != 1))
    ending = inside & ((kind == 2) | (np.concatenate([kind[1:], [0]]) != 1))
    start, stop = np.flatnonzero(begins), np.flatnonzero(ending) + 1
    sums = _sums(np.where(inside, mix(folded[codes].astype(np.uint64) + np.uint64(1)), 0).astype(np.uint64))
    hashes = mix((sums[stop] - sums[start]) * _powers_for(_INVERSE, len(codes))[start])
    bounds = np.concatenate([[0], np.searchsorted(start, ends)]).astype(np.int64)
    # what stands behind a text's last token ends with the text
    cuts = np.union1d(stop, ends[:-1])
    gaps = np.bitwise_or.reduceat(marks[codes], cuts)[np.searchsorted(cuts, stop)] if len(stop) else stop
    begin = np.repeat(np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(texts)], np.diff(bounds))
    return Tokens(
        hashes, bounds, kind[start] == 2, gaps.astype(np.uint16), np.stack([start - begin, stop - begin], axis=1)
    )


def runs(found: Tokens, size: int) -> tuple[Hashes, NDArray[np.bool_]]:
    """uint64[tokens]: the hash of the `size` tokens from each on; bool[tokens]: whether the text has so many there."""
    count = len(found.hashes)
    whole = np.zeros(count, dtype=np.bool_)
    hashes = np.zeros(count, dtype=np.uint64)
    if count >= size:
        sums = _sums(found.hashes)
        first = count - size + 1
        hashes[:first] = (sums[size:] - sums[:first]) * _powers_for(_INVERSE, count)[:first]
        ends = np.repeat(found.bounds[1:], np.diff(found.bounds))
        whole = np.arange(count) + size <= ends
    return mix(hashes), whole


def words(found: Tokens) -> NDArray[np.float64]:
    """float64[texts]: how many words each text has, a Han character or kana being 0.6 of one."""
    sums = np.concatenate([[0.0], np.cumsum(np.where(found.alone, _HAN, 1.0))])
    return np.asarray(sums[found.bounds[1:]] - sums[found.bounds[:-1]])


def without_labels(question: str) -> str:
    """A question without `Question:` before it and `Answer:` behind it, in English or Chinese."""
    return _LABEL_BEHIND.sub("", _LABEL_FRONT.sub("", question))


def contains(whole: list[int], part: list[int]) -> bool:
    """Whether `part` stands somewhere in `whole`, in one piece."""
    return any(whole[at : at + len(part)] == part for at in range(len(whole) - len(part) + 1))


class Table:
    """Hashes with what they stand for, and a bitmap that keeps most others from being looked up."""

    def __init__(self, keys: Hashes, values: NDArray[np.int64]) -> None:
        """`keys`: what is looked for, as often as it stands for something; `values`: int64[keys, 2], for what."""
        order = np.argsort(keys, kind="stable")
        self._keys, self._first = np.unique(keys[order], return_index=True)
        self._last = np.append(self._first[1:], len(keys))
        self._values = values[order]
        self._seen = np.zeros(1 << _BITS, dtype=np.bool_)
        self._seen[keys >> np.uint64(64 - _BITS)] = True

    def find(self, hashes: Hashes, where: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of the hashes that are in the table (once for each thing they stand for), int64[hits, 2] of values."""
        places = np.flatnonzero(self._seen[hashes >> np.uint64(64 - _BITS)] & where)
        if not len(places) or not len(self._keys):
            return np.empty(0, np.int64), np.empty((0, 2), np.int64)
        slots = np.minimum(np.searchsorted(self._keys, hashes[places]), len(self._keys) - 1)
        right = self._keys[slots] == hashes[places]
        places, slots = places[right], slots[right]
        counts = self._last[slots] - self._first[slots]
        starts = np.repeat(self._first[slots] - np.cumsum(counts) + counts, counts)
        return np.repeat(places, counts), self._values[starts + np.arange(counts.sum())]
