"""What is measured on every document, once, while its text is at hand; rules decide over these columns alone."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from zhen.data.language import DIGIT, HAN, SPACE, character_counts, identify, word_count

Column = NDArray[np.float32]


class Batch:
    """Texts (cleaned) with what several signals share: character counts, languages, words, lines."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.counts = character_counts(texts)
        """int64[texts, language.CLASSES]"""
        found = [identify(text, counts) for text, counts in zip(texts, self.counts, strict=True)]
        self.langs = [lang for lang, _ in found]
        self.scores = np.array([score for _, score in found], dtype=np.float32)
        """float32[texts]: share of the words that speaks for the language."""
        self.words = word_count(self.counts)
        """float64[texts], estimated"""

    @functools.cached_property
    def lines(self) -> list[list[str]]:
        """The lines of each text that are not blank, without blanks around them."""
        return [[line for raw in text.split("\n") if (line := raw.strip())] for text in self.texts]

    @functools.cached_property
    def visible(self) -> NDArray[np.int64]:
        """int64[texts]: characters that are not blanks."""
        return np.asarray(self.counts.sum(axis=1) - self.counts[:, SPACE], dtype=np.int64)


def language(batch: Batch) -> dict[str, Column]:
    """Share of the words that speaks for Chinese or English, whichever the text is; 0 for any other language."""
    ours = np.array([lang in ("zh", "en") for lang in batch.langs])
    return {"language": np.where(ours, batch.scores, 0).astype(np.float32)}


def characters(batch: Batch) -> dict[str, Column]:
    """Characters of the text, blanks included."""
    return {"characters": batch.counts.sum(axis=1).astype(np.float32)}


def word_characters(batch: Batch) -> dict[str, Column]:
    """Share of letters (of any script, so Han characters too) and digits among the characters that are not blanks."""
    count = batch.counts[:, HAN : DIGIT + 1].sum(axis=1)
    return {"word_characters": (count / np.maximum(batch.visible, 1)).astype(np.float32)}


def duplicate_lines(batch: Batch) -> dict[str, Column]:
    """Share of the characters (blanks at line ends aside) that are in lines which repeat an earlier one; the first
    of them is not counted (as in datatrove, unlike Dolma)."""
    shares = []
    for lines in batch.lines:
        total = sum(map(len, lines))
        shares.append(1 - sum(map(len, set(lines))) / total if total else 0.0)
    return {"duplicate_lines": np.array(shares, dtype=np.float32)}


def symbols(batch: Batch) -> dict[str, Column]:
    """`#`, `...` and `…` per word."""
    counts = [text.count("#") + text.count("...") + text.count("…") for text in batch.texts]
    return {"symbols": (np.array(counts) / np.maximum(batch.words, 1)).astype(np.float32)}


def content_hash(text: str) -> tuple[int, int]:
    """XXH3-128 of the text with each run of blanks as one space: high and low 64 bits. Equal means duplicate."""
    value = xxhash.xxh3_128_intdigest(" ".join(text.split()).encode("utf-8"))
    return value >> 64, value & 0xFFFF_FFFF_FFFF_FFFF


def keys(texts: Sequence[str]) -> dict[str, pa.Array]:
    """Columns that every document has whatever the rules: bytes of text, and the content hash in two halves."""
    hashes = [content_hash(text) for text in texts]
    return {
        "bytes": pa.array([len(text.encode("utf-8")) for text in texts], pa.int64()),
        "hash_high": pa.array([high for high, _ in hashes], pa.uint64()),
        "hash_low": pa.array([low for _, low in hashes], pa.uint64()),
    }
