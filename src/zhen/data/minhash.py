"""What a document is compared by: shingles of five words or Han characters, MinHash bands, a sketch, paragraphs.

Bands make candidates: 24 bands of 5 MinHash values find two documents with shingle sets at Jaccard similarity s
with probability 1 - (1 - s^5)^24: 0.9999 at 0.8, 0.99 at 0.7, 0.53 at 0.5, 0.06 at 0.3. (FineWeb's 14 bands of 8
find 0.92 at 0.8: there the bands decide alone, so they must not find less similar ones.) Here the sketch decides:
the smallest `SKETCH` hashes of the set (bottom-k: Cohen & Kaplan 2007), so the similarity of documents of up to 256
shingles together is exact, and that of larger ones has a standard error of at most sqrt(s (1 - s) / 256), 0.025.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zhen.data.language import DIGIT, HAN, KANA, SPACE, character_classes

BANDS = 24
ROWS = 5
SHINGLE = 5
"""Words, or characters of scripts without spaces, of a shingle; a shorter document is one shingle."""

SKETCH = 256
"""Hashes of a sketch at most."""

PARAGRAPH = 60
"""Characters of a paragraph at least, wide ones counted twice; shorter lines are not compared."""

_WIDE = 0x2E80
"""From this code point on characters (Chinese, Japanese, Korean and their punctuation) count twice."""

COLUMNS = (
    ("bands", pa.list_(pa.uint64())),
    ("sketch", pa.list_(pa.uint32())),
    ("paragraphs", pa.list_(pa.uint64())),
    ("paragraph_characters", pa.list_(pa.uint32())),
)
"""Columns of `signals/`: BANDS hashes (none for a text without words), the sketch in rising order, and the hash and
the characters of each line that is long enough to be compared."""

_DROPPED, _BLANK = 0, 1
_FUNCTIONS = np.random.Generator(np.random.PCG64(20_170_408)).integers(0, 2**32, (2, BANDS * ROWS), dtype=np.uint32)
_FUNCTIONS[1] |= 1
"""uint32[2, BANDS * ROWS]: what each MinHash function adds by exclusive or, and multiplies with (odd)."""


@functools.cache
def _tables() -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """For each code point: its lower case (0: dropped, 1: a blank), and the words that it stands for alone (0, 1)."""
    classes = character_classes()
    folded = np.arange(len(classes), dtype=np.uint32)
    folded[classes > DIGIT] = _DROPPED
    folded[classes == SPACE] = _BLANK
    for code in np.flatnonzero(classes[:0x1E944] <= DIGIT):
        lower = chr(code).lower()
        if len(lower) == 1:
            folded[code] = ord(lower)
    alone = ((classes == HAN) | (classes == KANA)).astype(np.uint8)
    return folded, alone


def measure(texts: Sequence[str]) -> list[pa.Array]:
    """The COLUMNS of each text: lower case, punctuation dropped, blanks folded."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint32)
    ends = np.cumsum(lengths)
    folded, alone = _tables()
    bands, sketches, sizes, hashes, characters, counts = _measure(codes, ends, folded, alone, _FUNCTIONS)
    some = np.where(sizes > 0, BANDS, 0)
    return [
        _lists(bands[sizes > 0].reshape(-1), some, pa.uint64()),
        _lists(sketches, sizes, pa.uint32()),
        _lists(hashes, counts, pa.uint64()),
        _lists(characters, counts, pa.uint32()),
    ]


def paragraph_hashes(lines: Sequence[str]) -> list[int | None]:
    """The hash of each line as it is in the column `paragraphs`, None for those that are too short."""
    if not lines:
        return []
    return [row[0] if row else None for row in measure(lines)[2].to_pylist()]


def _lists(values: NDArray[Any], sizes: NDArray[np.int64], kind: pa.DataType) -> pa.Array:
    offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(sizes).astype(np.int32)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values, kind))


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _mix(value: Any) -> Any:
    """The finaliser of SplitMix64 (Steele et al. 2014): each bit of the answer depends on each bit of the value."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _join(value: Any, other: Any) -> Any:
    """A hash of a sequence with one more element."""
    value = (value ^ other) * np.uint64(0x9E3779B97F4A7C15)
    return value ^ (value >> np.uint64(32))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _measure(codes: Any, ends: Any, folded: Any, alone: Any, functions: Any) -> Any:
    texts = len(ends)
    bands = np.zeros((texts, BANDS), np.uint64)
    sizes = np.zeros(texts, np.int64)
    counts = np.zeros(texts, np.int64)
    sketches = np.empty(min(len(codes), texts * SKETCH), np.uint32)
    hashes = np.empty(len(codes) // (PARAGRAPH // 2) + 1, np.uint64)
    characters = np.empty(len(hashes), np.uint32)
    begin, sketched, paragraphs = 0, 0, 0
    for text in range(texts):
        words, found = _words(codes[begin : ends[text]], folded, alone, hashes[paragraphs:], characters[paragraphs:])
        shingles = _shingles(words)
        sizes[text] = _sketch(shingles, sketches[sketched:])
        if sizes[text]:
            _bands(shingles, functions, bands[text])
        counts[text] = found
        sketched += sizes[text]
        paragraphs += found
        begin = ends[text]
    return bands, sketches[:sketched], sizes, hashes[:paragraphs], characters[:paragraphs], counts


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _words(codes: Any, folded: Any, alone: Any, hashes: Any, characters: Any) -> Any:
    """The hashes of a text's words; its long lines go into `hashes` and `characters`, their number is returned."""
    words = np.empty(len(codes), np.uint64)
    last = np.uint32(len(folded) - 1)
    count, found = 0, 0
    word, line = np.uint64(0), np.uint64(0)
    width, begin = 0, 0
    for index in range(len(codes) + 1):
        code = codes[index] if index < len(codes) else np.uint32(10)
        if code >= _WIDE:
            width += 1
        place = min(code, last)
        value = folded[place]
        if value > _BLANK and not alone[place]:
            word = _join(word, np.uint64(value))
            continue
        if value == _DROPPED:
            continue
        if word:
            words[count] = _mix(word)
            line = _join(line, words[count])
            count, word = count + 1, np.uint64(0)
        if value > _BLANK:
            words[count] = _mix(np.uint64(value))
            line = _join(line, words[count])
            count += 1
        if code == 10:
            if index - begin + width >= PARAGRAPH and line:
                hashes[found], characters[found] = _mix(line), index - begin
                found += 1
            line, width, begin = np.uint64(0), 0, index + 1
    return words[:count], found


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _shingles(words: Any) -> Any:
    """uint64: a hash for each run of SHINGLE words."""
    size = min(SHINGLE, len(words))
    shingles = np.empty(len(words) - size + 1 if size else 0, np.uint64)
    for index in range(len(shingles)):
        value = np.uint64(size)
        for word in words[index : index + size]:
            value = _join(value, word)
        shingles[index] = _mix(value)
    return shingles


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sketch(shingles: Any, sketch: Any) -> Any:
    """Write the smallest distinct hashes (their upper halves), rising; returns how many."""
    chosen = shingles
    if len(shingles) > 4 * SKETCH:  # hashes are even over their range: the smallest are below about this bound
        bound = np.uint64(2.0**64 * (2.0 * SKETCH / len(shingles)))
        chosen = shingles[shingles < bound]
    size = _distinct(np.sort(chosen), sketch)
    if size < SKETCH and len(chosen) < len(shingles):  # many shingles repeat
        size = _distinct(np.sort(shingles), sketch)
    return size


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _distinct(values: Any, sketch: Any) -> Any:
    size = 0
    for value in values:
        upper = np.uint32(value >> np.uint64(32))
        if size and sketch[size - 1] == upper:
            continue
        sketch[size] = upper
        size += 1
        if size == SKETCH:
            break
    return size


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _bands(shingles: Any, functions: Any, bands: Any) -> Any:
    """MinHash (Broder 1997): the least of each function over the shingles; a hash of each ROWS of them is a band."""
    least = np.full(BANDS * ROWS, 0xFFFF_FFFF, np.uint32)
    for shingle in shingles:
        lower = np.uint32(shingle)
        for index in range(BANDS * ROWS):
            value = np.uint32((lower ^ functions[0, index]) * functions[1, index])
            value = np.uint32((value ^ (value >> np.uint32(16))) * np.uint32(0x85EBCA6B))
            least[index] = min(least[index], value)
    for band in range(BANDS):
        value64 = np.uint64(band + 1)
        for row in range(ROWS):
            value64 = _join(value64, np.uint64(least[band * ROWS + row]))
        bands[band] = _mix(value64)
