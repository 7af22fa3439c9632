"""Words: one split of a text, by script, that every signal over words and n-grams shares.

A word is a run of letters, marks and digits (an apostrophe between two letters belongs to it); a Han character or kana
is a word by itself; a run of one and the same symbol is a word too. Text lies as code points in one array; kernels
take it from there, without a Python object a word.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN201
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from zhen.data.language import DIGIT, HAN, KANA, LETTER, SPACE, character_classes

WORD, ALPHA, ALONE, BLANK, END, WIDE_END, CLOSER, JOINER = (1 << bit for bit in range(8))
"""What a code point is: part of a word, a letter, a word by itself, blank, an end of sentences before a blank, one
anywhere, what may follow an end, what joins two letters."""

_TABLE = 0x33480
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)
BASE = np.uint64(_BASE)
"""Of the polynomial hash over characters, modulo 2^64 (odd, so that it has an inverse)."""
INVERSE = np.uint64(_INVERSE)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile for any text, once a machine (the cache lies beside the module, or in numba's own folder)."""
    return numba.njit(nogil=True, cache=True, error_model="numpy")(function)


@functools.cache
def flags() -> NDArray[np.uint8]:
    """uint8[code points]: WORD, ALPHA … of each; code points above count as the last one."""
    classes = character_classes()
    table = np.zeros(len(classes), dtype=np.uint8)
    table[classes <= DIGIT] |= WORD
    table[classes <= LETTER] |= ALPHA
    table[(classes == HAN) | (classes == KANA)] |= ALONE
    table[classes == SPACE] |= BLANK
    for marks, flag in ((".?!…", END), ("。．！？｡‼⁇⁈⁉﹒﹖﹗", WIDE_END), ("\"'”’)）」』》】", CLOSER), ("'’", JOINER)):
        table[[ord(mark) for mark in marks]] |= flag
    return table


@functools.cache
def lower() -> NDArray[np.uint32]:
    """uint32[code points]: the small letter of each, where that is one code point."""
    table = np.arange(_TABLE + 1, dtype=np.uint32)
    for code in [*range(0x41, 0x600), *range(0x1E00, 0x2000), *range(0x2C00, 0x2E00), *range(0xFF21, 0xFF3B)]:
        small = chr(code).lower()
        table[code] = ord(small) if len(small) == 1 else code
    return table


def code_points(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """uint32[characters] of all texts, and int64[texts + 1]: where each begins."""
    encoded = [text.encode("utf-32-le", "replace") for text in texts]
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(data) // 4 for data in encoded], out=offsets[1:])
    return np.frombuffer(bytearray().join(encoded), dtype="<u4"), offsets


@kernel
def mixed(value):
    """A hash whose bits all depend on all of the value's (SplitMix64's finish, Steele et al. 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@kernel
def flag_of(table, code):
    """The flags of a code point."""
    return table[min(code, np.uint32(_TABLE))]


@kernel
def word_end(codes, begin, end, table):
    """End of the word that begins at `begin` (not a blank)."""
    kind = flag_of(table, codes[begin])
    place = begin + 1
    if kind & ALONE:
        return place
    if not kind & WORD:
        while place < end and codes[place] == codes[begin]:
            place += 1
        return place
    while place < end:
        kind = flag_of(table, codes[place])
        if kind & ALONE:
            return place
        if not kind & WORD:
            joins = (
                kind & JOINER
                and place + 1 < end
                and flag_of(table, codes[place + 1]) & (ALPHA | ALONE) == ALPHA
                and flag_of(table, codes[place - 1]) & ALPHA
            )
            if not joins:
                return place
        place += 1
    return place


@kernel
def count_words(codes, begin, end, table):
    """Words between two places."""
    count, place = 0, begin
    while place < end:
        if flag_of(table, codes[place]) & BLANK:
            place += 1
        else:
            place = word_end(codes, place, end, table)
            count += 1
    return count


@kernel
def word_bounds(codes, begin, end, table):
    """int64[words, 2]: where each word begins and ends."""
    bounds = np.empty((count_words(codes, begin, end, table), 2), dtype=np.int64)
    count, place = 0, begin
    while place < end:
        if flag_of(table, codes[place]) & BLANK:
            place += 1
            continue
        bounds[count, 0] = place
        place = word_end(codes, place, end, table)
        bounds[count, 1] = place
        count += 1
    return bounds


@kernel
def sentence_count(codes, begin, end, table):
    """Sentences between two places: pieces with a letter or digit. `.` `?` `!` `…` end one before a blank or a closing
    quote, `。` `！` `？` anywhere; the last needs no end."""
    count, is_open = 0, False
    for place in range(begin, end):
        kind = flag_of(table, codes[place])
        if kind & WORD:
            is_open = True
        elif is_open and kind & (END | WIDE_END):
            following = flag_of(table, codes[place + 1]) if place + 1 < end else BLANK
            if kind & WIDE_END or following & (BLANK | CLOSER):
                count += 1
                is_open = False
    return count + is_open


def words(text: str) -> list[str]:
    """The words of a text, in order."""
    codes, _ = code_points([text])
    return [text[begin:end] for begin, end in word_bounds(codes, 0, len(codes), flags())]


def sentences(text: str) -> int:
    """How many sentences a text has."""
    codes, _ = code_points([text])
    return int(sentence_count(codes, 0, len(codes), flags()))
