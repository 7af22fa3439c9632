"""Texts as sequences of hashed tokens, and runs of n of them: what overlaps between texts are counted in.

A token is a word, or one Han character or kana. Letters are lower case and of one width; what is no letter and no digit
only parts words. Hashes are the same on every machine.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

SIZE = 13
"""Tokens of a run that tells texts apart (Brown et al. 2020, GPT-3, appendix C: 13-grams)."""

_END = 0x33480
_ALONE = [(0x3041, 0x3097), (0x30A1, 0x30FB), (0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, _END)]
"""Code points that are tokens of their own: kana and Han."""

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

    def of(self, text: int) -> Hashes:
        """uint64[tokens] of one text."""
        return self.hashes[self.bounds[text] : self.bounds[text + 1]]


@functools.cache
def _tables() -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """uint32[_END + 1]: each code point folded; uint8[_END + 1]: 0 parts tokens, 1 is part of a word, 2 is a token."""
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
    return folded, kinds


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
        return Tokens(np.empty(0, np.uint64), np.zeros(1, np.int64), np.empty(0, np.bool_))
    starts = np.cumsum([0, *(len(part.hashes) for part in parts)])
    bounds = [part.bounds[:-1] + start for part, start in zip(parts, starts[:-1], strict=True)]
    return Tokens(
        np.concatenate([part.hashes for part in parts]),
        np.concatenate([*bounds, starts[-1:]]).astype(np.int64),
        np.concatenate([part.alone for part in parts]),
    )


def _tokens(texts: Sequence[str]) -> Tokens:
    folded, kinds = _tables()
    encoded = [text.encode("utf-32-le", "replace") for text in texts]
    ends = np.cumsum([len(data) // 4 + 1 for data in encoded])
    codes = np.minimum(np.frombuffer(b"\0\0\0\0".join([*encoded, b""]), dtype="<u4"), _END)
    kind = kinds[codes]
    inside = kind > 0
    # a token begins where a word does, and at each character that is one
    begins = inside & ((kind == 2) | (np.concatenate([[0], kind[:-1]]) != 1))
    ending = inside & ((kind == 2) | (np.concatenate([kind[1:], [0]]) != 1))
    start, stop = np.flatnonzero(begins), np.flatnonzero(ending) + 1
    sums = _sums(np.where(inside, mix(folded[codes].astype(np.uint64) + np.uint64(1)), 0).astype(np.uint64))
    hashes = mix((sums[stop] - sums[start]) * _powers_for(_INVERSE, len(codes))[start])
    bounds = np.concatenate([[0], np.searchsorted(start, ends)])
    return Tokens(hashes, bounds.astype(np.int64), kind[start] == 2)


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
