"""Repetition: Gopher's shares of repeated lines, paragraphs and word n-grams, by kernels over code points.

Rae et al. 2021 (Gopher), A.1.1 and table A1, as datatrove counts them: shares are of all characters; of repeated lines
and paragraphs the first is not counted; a duplicated n-gram is counted greedily, the search goes on behind it.
N-grams are told apart by 64-bit hashes of their characters, taken from prefix sums in constant time.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN201
from __future__ import annotations

import numpy as np

from zhen.data.words import BASE, INVERSE, kernel, mixed

TOP = (2, 3, 4)
DUPLICATED = (5, 6, 7, 8, 9, 10)

_ONE = np.uint64(1)
_ZERO = np.uint64(0)


@kernel
def new_table(entries):
    """An empty hash table with room for so many keys: keys, rounds, counts, firsts. Entries of another round are free,
    so that nothing is cleared between uses."""
    size = 16
    while size < 2 * entries + 2:
        size *= 2
    return (
        np.zeros(size, dtype=np.uint64),
        np.zeros(size, dtype=np.int64),
        np.zeros(size, dtype=np.int64),
        np.zeros(size, dtype=np.int64),
    )


@kernel
def slot_of(table, turn, key):
    """Where the key stands in the table in this round, or would."""
    keys, rounds = table[0], table[1]
    mask = np.uint64(len(keys) - 1)
    slot = key & mask
    while rounds[slot] == turn and keys[slot] != key:
        slot = (slot + _ONE) & mask
    return slot


@kernel
def add(table, turn, key, first):
    """Count the key once more; its slot."""
    slot = slot_of(table, turn, key)
    if table[1][slot] == turn:
        table[2][slot] += 1
    else:
        table[0][slot] = key
        table[1][slot] = turn
        table[2][slot] = 1
        table[3][slot] = first
    return slot


@kernel
def text_hash(codes, begin, end):
    """Hash of the characters between two places."""
    total = _ZERO
    for place in range(begin, end):
        total = total * BASE + mixed(np.uint64(codes[place]) + _ONE)
    return mixed(total ^ np.uint64(end - begin))


@kernel
def prefix_sums(codes, bounds):
    """By word: characters before it; hash of the characters before it, and what takes a difference of two such hashes
    to its place; the same over words."""
    count = len(bounds)
    characters = np.zeros(count + 1, dtype=np.int64)
    sums = np.zeros((count + 1, 4), dtype=np.uint64)
    power, inverse, total = _ONE, _ONE, _ZERO
    word_power, word_inverse, word_total = _ONE, _ONE, _ZERO
    for word in range(count):
        before = total
        sums[word, 0], sums[word, 1], sums[word, 2], sums[word, 3] = total, inverse, word_total, word_inverse
        begin_inverse = inverse
        for place in range(bounds[word, 0], bounds[word, 1]):
            total += mixed(np.uint64(codes[place]) + _ONE) * power
            power *= BASE
            inverse *= INVERSE
        length = bounds[word, 1] - bounds[word, 0]
        characters[word + 1] = characters[word] + length
        word_total += mixed(((total - before) * begin_inverse) ^ np.uint64(length)) * word_power
        word_power *= BASE
        word_inverse *= INVERSE
    sums[count, 0], sums[count, 1], sums[count, 2], sums[count, 3] = total, inverse, word_total, word_inverse
    return characters, sums


@kernel
def joined_key(sums, word, n):
    """Hash of the characters of n words, whatever the borders between them."""
    return mixed((sums[word + n, 0] - sums[word, 0]) * sums[word, 1])


@kernel
def words_key(sums, word, n):
    """Hash of n words."""
    return mixed((sums[word + n, 2] - sums[word, 2]) * sums[word, 3])


@kernel
def top_characters(characters, sums, n, table, turn, slots):
    """Characters (with a space between words) of the most frequent n-gram, times its count; of equally frequent ones
    the first. 0 without n words."""
    grams = len(characters) - n
    best, best_word = 0, 0
    for word in range(grams):
        slots[word] = add(table, turn, words_key(sums, word, n), word)
    for word in range(grams):
        count = table[2][slots[word]]
        if count > best:
            best, best_word = count, word
    if best == 0:
        return 0
    return best * (characters[best_word + n] - characters[best_word] + n - 1)


@kernel
def duplicated_characters(characters, sums, n, table, turn):
    """Characters of the n-grams that repeat an earlier one; behind such a one the search goes on."""
    grams = len(characters) - n
    total, word = 0, 0
    while word < grams:
        key = joined_key(sums, word, n)
        slot = slot_of(table, turn, key)
        if table[1][slot] == turn:
            total += characters[word + n] - characters[word]
            word += n
        else:
            table[0][slot] = key
            table[1][slot] = turn
            word += 1
    return total


@kernel
def entropy_of(sums, table, turn, slots):
    """Distinct words and the entropy of their distribution, in nats."""
    count = len(sums) - 1
    distinct, total = 0, 0.0
    for word in range(count):
        slots[word] = add(table, turn, words_key(sums, word, 1), word)
    for word in range(count):
        slot = slots[word]
        if table[3][slot] == word:
            distinct += 1
            share = table[2][slot] / count
            total -= share * np.log(share)
    return distinct, total


@kernel
def repetition(codes, begin, end, bounds, out):
    """float64[11] into `out`: top 2-, 3-, 4-grams, duplicated 5- to 10-grams as shares of the characters; distinct
    words per word; their entropy in nats. Answers the words' prefix sums."""
    characters, sums = prefix_sums(codes, bounds)
    count = len(bounds)
    table = new_table(count)
    slots = np.empty(count + 1, dtype=np.uint64)
    length = max(end - begin, 1)
    for column in range(3):
        out[column] = top_characters(characters, sums, column + 2, table, column + 1, slots) / length
    for column in range(3, 9):
        out[column] = duplicated_characters(characters, sums, column + 2, table, column + 1) / length
    distinct, out[10] = entropy_of(sums, table, 10, slots)
    out[9] = distinct / max(count, 1)
    return characters, sums


@kernel
def repeated_pieces(codes, begin, end, breaks, table, turn):
    """Pieces between runs of at least `breaks` line ends: how many repeat an earlier one, their characters, and how
    many pieces there are."""
    pieces, repeated, total = 0, 0, 0
    start, place = begin, begin
    while place <= end:
        if place < end and codes[place] != 10:
            place += 1
            continue
        run = place
        while run < end and codes[run] == 10:
            run += 1
        if place == end or run - place >= breaks:
            pieces += 1
            slot = add(table, turn, text_hash(codes, start, place), pieces)
            if table[2][slot] > 1:
                repeated += 1
                total += place - start
            start = run
        if place == end:
            break
        place = run
    return pieces, repeated, total
