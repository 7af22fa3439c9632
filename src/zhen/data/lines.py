"""What lines look like: Gopher's bullets and ellipses, C4's lines, FineWeb's ends and lengths, menus."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN201
from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zhen.data.words import BLANK, END, WIDE_END, WORD, flag_of, kernel, sentence_count

SHORT_LINE = 30
"""FineWeb: characters of a short line."""

FEW_LINES = 8
"""A text with fewer bare lines is no list: laws and poems have a few in front."""

VERSE = 12
"""Characters of a line that is longer than most lines of songs and poems, which need no marks."""

_LONGEST_WORD = 1000
_WORDS_PER_LINE = 3


def _packed(*phrases: str) -> NDArray[np.uint32]:
    """uint32[phrases, longest]: code points, 0 behind the end."""
    table = np.zeros((len(phrases), max(map(len, phrases)) + 1), dtype=np.uint32)
    for row, phrase in enumerate(phrases):
        table[row, : len(phrase)] = [ord(character) for character in phrase]
    return table


_LOREM = _packed("lorem ipsum")
_BRACE = _packed("{")
_SCRIPT = _packed("javascript")
_POLICY = _packed("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_CITATIONS = _packed("[edit]", "[citation needed]")
_MORE = _packed("展开", "更多", "readmore", "read more", "。。。", "more")
"""MAP-NEO: ends of lines that only announce a text."""
_IN_TITLES = np.array([ord(mark) for mark in "-–—_/·“”‘’\"'（）()《》【】「」&+%#~"], dtype=np.uint32)
"""Marks that headings and keywords have; others belong to sentences, tables or code."""


@kernel
def small(code):
    """The small letter of a Latin one."""
    return code + np.uint32(32) if 65 <= code <= 90 else code


@kernel
def phrase_at(codes, place, end, phrase):
    """Does the phrase stand here, in whatever case?"""
    length = 0
    while phrase[length] != 0:
        if place + length >= end or small(codes[place + length]) != phrase[length]:
            return False
        length += 1
    return True


@kernel
def holds(codes, begin, end, phrases):
    """Is one of the phrases in the line?"""
    for place in range(begin, end):
        code = small(codes[place])
        for row in range(len(phrases)):
            if phrases[row, 0] == code and phrase_at(codes, place, end, phrases[row]):
                return True
    return False


@kernel
def ends_with(codes, begin, end, phrases):
    """Is one of the phrases the line's end?"""
    for row in range(len(phrases)):
        length = 0
        while phrases[row, length] != 0:
            length += 1
        if end - length >= begin and phrase_at(codes, end - length, end, phrases[row]):
            return True
    return False


@kernel
def before_citations(codes, begin, end):
    """The line's end without `[12]`, `[edit]`, `[citation needed]` there."""
    while end > begin and codes[end - 1] == 93:
        place = end - 2
        while place >= begin and 48 <= codes[place] <= 57:
            place -= 1
        if place >= begin and codes[place] == 91:
            end = place
            continue
        shorter = end
        for row in range(len(_CITATIONS)):
            length = 0
            while _CITATIONS[row, length] != 0:
                length += 1
            if end - length >= begin and phrase_at(codes, end - length, end, _CITATIONS[row]):
                shorter = end - length
        if shorter == end:
            return end
        end = shorter
    return end


@kernel
def spaced_words(codes, begin, end, table):
    """Words between blanks, and the longest one's characters."""
    count, longest, length = 0, 0, 0
    for place in range(begin, end):
        if flag_of(table, codes[place]) & BLANK:
            length = 0
        else:
            count += length == 0
            length += 1
            longest = max(longest, length)
    return count, longest


@kernel
def ends_c4(codes, begin, end):
    """Does the line end in `.`, `?`, `!` or a quote, and not in an ellipsis?"""
    if end <= begin:
        return False
    if end - begin >= 3 and codes[end - 1] == 46 and codes[end - 2] == 46 and codes[end - 3] == 46:
        return False
    last = codes[end - 1]
    return last == 46 or last == 63 or last == 33 or last == 34 or last == 39


@kernel
def c4_line(codes, begin, end, table, out):
    """Add a line's sentences to out[0] (lines with C4's end only) and out[1] (any line), and 1 to out[2], out[3] where
    it must not be on a page at all."""
    count, longest = spaced_words(codes, begin, end, table)
    if longest > _LONGEST_WORD or count < _WORDS_PER_LINE:
        return
    end = before_citations(codes, begin, end)
    first = 0 if ends_c4(codes, begin, end) else 1
    banned = holds(codes, begin, end, _LOREM)
    if not banned:
        if holds(codes, begin, end, _SCRIPT):
            return
        banned = holds(codes, begin, end, _BRACE)
    if banned:
        for column in range(first, 2):
            out[column + 2] += 1
        return
    if holds(codes, begin, end, _POLICY):
        return
    sentences = sentence_count(codes, begin, end, table)
    for column in range(first, 2):
        out[column] += sentences


@kernel
def is_bare(codes, begin, end, table):
    """Is the line a heading or keywords: no mark of a sentence, of a table, of code in it?"""
    for place in range(begin, end):
        if flag_of(table, codes[place]) & (WORD | BLANK):
            continue
        known = False
        for mark in _IN_TITLES:
            known |= codes[place] == mark
        if not known:
            return False
    return True


@kernel
def line_statistics(codes, begin, end, table, out):
    """float64[11] into `out`: the four of `c4_line`; shares of all lines that begin with a bullet and end in an
    ellipsis; shares of the lines that are not blank that end a sentence, are short, only announce more; line ends;
    the share of characters in lines that are bare (`is_bare`) and no verse, 0 where they are few."""
    out[:] = 0.0
    lines, full, bare, listed, visible, place = 0, 0, 0, 0, 0, begin
    while place < end:
        stop = place
        while stop < end and codes[stop] != 10:
            stop += 1
        left, right = place, stop
        while left < right and flag_of(table, codes[left]) & BLANK:
            left += 1
        while right > left and flag_of(table, codes[right - 1]) & BLANK:
            right -= 1
        lines += 1
        out[9] += stop < end
        if left < right:
            full += 1
            visible += right - left
            if right - left >= VERSE and is_bare(codes, left, right, table):
                bare += right - left
                listed += 1
            out[4] += codes[left] == 0x2022 or codes[left] == 45
            last = codes[right - 1]
            dots = right - left >= 3 and last == 46 and codes[right - 2] == 46 and codes[right - 3] == 46
            out[5] += dots or last == 0x2026
            out[6] += last != 0x2026 and flag_of(table, codes[stop - 1]) & (END | WIDE_END) != 0
            out[7] += stop - place <= SHORT_LINE
            out[8] += ends_with(codes, left, right, _MORE)
            c4_line(codes, left, right, table, out)
        place = stop + 1
    for column in range(4, 6):
        out[column] /= max(lines, 1)
    for column in range(6, 9):
        out[column] /= max(full, 1)
    out[10] = bare / visible if listed >= FEW_LINES else 0.0
