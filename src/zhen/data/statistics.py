"""All that is measured on a text's words and lines, in one pass over its code points; the columns by name."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN202
from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zhen.data.lines import line_statistics
from zhen.data.repetition import joined_key, new_table, repeated_pieces, repetition, slot_of
from zhen.data.terms import (
    COMMON,
    ENGLISH_STOP_WORDS,
    FIELD,
    LIGHT,
    LONGEST,
    LURE,
    NAME,
    OFFER,
    OFFERED,
    SPAM,
    STOP,
    STOP_SHIFT,
    UNOFFERED,
    WAY,
    term_key,
    term_table,
)
from zhen.data.words import ALONE, ALPHA, WORD, flag_of, flags, kernel, lower, sentence_count, word_bounds

COLUMNS = (
    "words",
    "word_length",
    "hashes",
    "ellipses",
    "words_with_letters",
    "stop_words",
    "common_words",
    "spam_words",
    "digits",
    "brackets",
    "sentences",
    "top_2_grams",
    "top_3_grams",
    "top_4_grams",
    "duplicated_5_grams",
    "duplicated_6_grams",
    "duplicated_7_grams",
    "duplicated_8_grams",
    "duplicated_9_grams",
    "duplicated_10_grams",
    "distinct_words",
    "entropy",
    "duplicate_lines",
    "duplicate_line_characters",
    "duplicate_paragraphs",
    "duplicate_paragraph_characters",
    "c4_sentences",
    "c4_sentences_any_end",
    "c4_banned",
    "c4_banned_any_end",
    "bullet_lines",
    "ellipsis_lines",
    "ended_lines",
    "short_lines",
    "more_lines",
    "line_ends",
    "bare_lines",
    "lures",
)
"""In the order of the pass; `rules.RULES` says what each is, and its unit."""

_WORDS, _REPETITION, _PIECES, _LINES, _LURES = 0, 11, 22, 26, 37


@kernel
def _folded_key(codes, begin, end, small, scratch):
    """The key of a word in small letters, or 0 where it is longer than any term."""
    length = end - begin
    if length > len(scratch):
        return np.uint64(0)
    for place in range(length):
        code = codes[begin + place]
        scratch[place] = small[code] if code < len(small) else code
    return term_key(scratch, 0, length)


@kernel
def _kind(terms, key):
    slot = slot_of(terms, 1, key)
    return terms[2][slot] if terms[1][slot] == 1 else 0


@kernel
def _bits(mask):
    count = 0
    while mask:
        mask &= mask - 1
        count += 1
    return count


@kernel
def _way(codes, bounds, sums, table, small, terms, scratch, word):
    """The longest WAY or LIGHT that begins at a word: how many words it has (0: none), and what it is."""
    begin = bounds[word, 0]
    if not flag_of(table, codes[begin]) & ALONE:
        found = _kind(terms, _folded_key(codes, begin, bounds[word, 1], small, scratch))
        return (1, found) if found & (WAY | LIGHT) else (0, 0)
    for length in range(min(LONGEST, len(bounds) - word), 1, -1):
        if bounds[word + length - 1, 1] == begin + length:
            found = _kind(terms, joined_key(sums, word, length))
            if found & (WAY | LIGHT):
                return length, found
    return 0, 0


@kernel
def _lure_end(codes, bounds, sums, table, small, terms, scratch, word, kind):
    """The word behind a lure whose name, a term of that kind, ends before `word`; 0 where it is none."""
    ways, light = 0, 0
    while word < len(bounds) and bounds[word, 0] == bounds[word - 1, 1]:
        length, found = _way(codes, bounds, sums, table, small, terms, scratch, word)
        if length == 0:
            break
        ways += found & WAY != 0
        light += found & LIGHT != 0
        word += length
    if kind & LURE or (kind & NAME and ways) or (kind & FIELD and ways and ways + light > 1):
        return word
    return 0


@kernel
def _term_statistics(codes, bounds, sums, table, small, terms, out):
    """Into out[5:8], and lures per word into out[_LURES]: different stop words of Chinese, where a quarter of the
    words is (`language.identify`), else of English; share of the words that are common; share that are part of
    spam terms, where those beyond OFFERED for each that is part of an offer count UNOFFERED."""
    scratch = np.empty(16, dtype=np.uint32)
    stops, alone, common, spam, behind, proper, lures, lured, offers = 0, 0, 0, 0, 0, 0, 0, 0, 0
    count = len(bounds)
    for word in range(count):
        begin, end = bounds[word]
        kind = flag_of(table, codes[begin])
        if not kind & WORD:
            continue
        proper += 1
        if kind & ALONE:
            alone += 1
            for length in range(1, min(LONGEST, count - word) + 1):
                if bounds[word + length - 1, 1] != begin + length:
                    break
                found = _kind(terms, joined_key(sums, word, length))
                if length == 1:
                    common += found & COMMON
                    if found & STOP:
                        stops |= 1 << (found >> STOP_SHIFT)
                    continue
                if found & SPAM:
                    more = max(0, word + length - max(word, behind))
                    spam += more
                    offers += more if found & OFFER else 0
                    behind = max(behind, word + length)
                if found & (LURE | NAME | FIELD) and word >= lured:
                    end = _lure_end(codes, bounds, sums, table, small, terms, scratch, word + length, found)
                    lures += end > 0
                    lured = max(lured, end)
            continue
        found = _kind(terms, _folded_key(codes, begin, end, small, scratch))
        common += found & COMMON
        spam += found & SPAM != 0
        offers += found & OFFER != 0
        if found & STOP and found == _kind(terms, term_key(codes, begin, end)):
            stops |= 1 << (found >> STOP_SHIFT)
        if found & (LURE | NAME) and word >= lured:
            end = _lure_end(codes, bounds, sums, table, small, terms, scratch, word + 1, found)
            lures += end > 0
            lured = max(lured, end)
    chinese = 2.4 * alone >= 0.6 * alone + proper - alone
    out[5] = _bits(stops >> ENGLISH_STOP_WORDS if chinese else stops & ((1 << ENGLISH_STOP_WORDS) - 1))
    out[6] = common / max(proper, 1)
    full = min(spam, OFFERED * offers)
    out[7] = (full + UNOFFERED * (spam - full)) / max(proper, 1)
    out[_LURES] = lures / max(proper, 1)


@kernel
def _word_statistics(codes, begin, end, bounds, table, out):
    """Into out[:5], out[8:11]: what is said of words and characters."""
    count, proper, characters, letters, ellipses, dots, hashes, digits, brackets = 0, 0, 0, 0, 0, 0, 0, 0, 0
    is_open = False
    for word in range(len(bounds)):
        left, right = bounds[word]
        count += 1
        if flag_of(table, codes[left]) & WORD:
            proper += 1
            characters += right - left
            for place in range(left, right):
                if flag_of(table, codes[place]) & ALPHA:
                    letters += 1
                    break
    for place in range(begin, end):
        code = codes[place]
        dots = dots + 1 if code == 46 else 0
        if dots == 3:
            ellipses, dots = ellipses + 1, 0
        ellipses += code == 0x2026
        hashes += code == 35
        kind = flag_of(table, code)
        digits += kind & WORD and not kind & ALPHA
        if code == 0x3010 or code == 0x3011:
            is_open = code == 0x3010
        brackets += is_open
    out[0] = proper
    out[1] = characters / max(proper, 1)
    out[2] = hashes / max(count, 1)
    out[3] = ellipses / max(count, 1)
    out[4] = letters / max(count, 1)
    out[8] = digits / max(end - begin, 1)
    out[9] = brackets / max(end - begin, 1)
    out[10] = sentence_count(codes, begin, end, table)


@kernel
def _measure(codes, offsets, table, small, terms, out):
    for text in range(len(offsets) - 1):
        begin, end = offsets[text], offsets[text + 1]
        row = out[text]
        bounds = word_bounds(codes, begin, end, table)
        _word_statistics(codes, begin, end, bounds, table, row)
        _, sums = repetition(codes, begin, end, bounds, row[_REPETITION:_PIECES])
        _term_statistics(codes, bounds, sums, table, small, terms, row)
        pieces = new_table((end - begin) // 2 + 2)
        length = max(end - begin, 1)
        for breaks in range(1, 3):
            number, repeated, characters = repeated_pieces(codes, begin, end, breaks, pieces, breaks)
            row[_PIECES + 2 * breaks - 2] = repeated / max(number, 1)
            row[_PIECES + 2 * breaks - 1] = characters / length
        line_statistics(codes, begin, end, table, row[_LINES:_LURES])
        row[_LINES + 9] /= max(len(bounds), 1)


def measure(codes: NDArray[np.uint32], offsets: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    """COLUMNS of the texts that lie in `codes` (see `words.code_points`): float32[texts] each."""
    out = np.zeros((len(offsets) - 1, len(COLUMNS)), dtype=np.float64)
    _measure(codes, offsets, flags(), lower(), term_table(), out)
    return {name: out[:, column].astype(np.float32) for column, name in enumerate(COLUMNS)}
