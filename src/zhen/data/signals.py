"""What is measured on every document, once, while its text is at hand; rules decide over these columns alone."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from zhen.data import statistics
from zhen.data.language import DIGIT, HAN, SPACE, character_counts, identify
from zhen.data.words import code_points

Column = NDArray[np.float32]

NAMES = ("language", "english", "chinese", "characters", "word_characters", *statistics.COLUMNS)
"""The columns that rules compare."""


class Batch:
    """Texts (cleaned) with what several signals share: character counts and languages."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.counts = character_counts(texts)
        """int64[texts, language.CLASSES]"""
        found = [identify(text, counts) for text, counts in zip(texts, self.counts, strict=True)]
        self.langs = [lang for lang, _ in found]
        self.scores = np.array([score for _, score in found], dtype=np.float32)
        """float32[texts]: share of the words that speaks for the language."""

    @functools.cached_property
    def signals(self) -> dict[str, Column]:
        """NAMES: float32[texts] each."""
        langs = np.array(self.langs)
        english, chinese = (np.where(langs == lang, self.scores, np.float32(0)) for lang in ("en", "zh"))
        visible = np.maximum(self.counts.sum(axis=1) - self.counts[:, SPACE], 1)
        return {
            "language": np.maximum(english, chinese),
            "english": english,
            "chinese": chinese,
            "characters": self.counts.sum(axis=1).astype(np.float32),
            "word_characters": (self.counts[:, HAN : DIGIT + 1].sum(axis=1) / visible).astype(np.float32),
            **statistics.measure(*code_points(self.texts)),
        }


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
