"""Which questions the training text asks, and which it answers: exact search in the decoded shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from zhen.evaluate.held_out import HELD_OUT
from zhen.evaluate.questions import Question
from zhen.formats.shard import open_shards
from zhen.tokenizer.load import Tokenizer

PIECE_BYTES = 1 << 22
"""Text searched at a time."""

LONGEST_WINDOW = 32
"""Bytes compared by hash, at most; a power of two."""

_BASE = np.uint64(0x9E3779B97F4A7C15)
"""Of the polynomial hash, modulo 2^64; odd."""


class Found(msgspec.Struct, frozen=True):
    """What the training text holds of a question."""

    id: str
    question: bool
    """The question as it is asked: the prompt without its last line (`Answer:`), if it has several."""
    pair: bool
    """The whole prompt with the right answer behind it."""


def find_questions(texts: Iterable[str], questions: Sequence[Question]) -> list[Found]:
    """Which of `questions` occur in `texts`. White space, of which extraction changes much, is left out of both."""
    asked = [_bare(_question(question.prompt)) for question in questions]
    pairs = [_bare(question.prompt + question.answer) for question in questions]
    found = found_needles(texts, {*asked, *pairs})
    return [
        Found(question.id, one in found, both in found)
        for question, one, both in zip(questions, asked, pairs, strict=True)
    ]


def training_texts(shards: Path, tokenizer: Tokenizer, progress: Callable[[int], None]) -> Iterator[str]:
    """The text of every training document; `progress` is told the tokens of each."""
    for folder in sorted(path for path in shards.iterdir() if path.is_dir() and path.name != HELD_OUT):
        for shard in open_shards(folder, tokenizer.sha256):
            for ids, _ in shard.documents():
                yield tokenizer.decode(ids.tolist())
                progress(ids.size)


def _question(prompt: str) -> str:
    before = prompt.rpartition("\n")[0]
    return before if before.strip() else prompt


def _bare(text: str) -> bytes:
    return "".join(text.split()).encode("utf-8")


def found_needles(texts: Iterable[str], needles: set[bytes]) -> set[bytes]:
    """Those of `needles` (UTF-8, without white space) that occur in one of `texts`, its white space left out.

    Windows of a needle are looked for by hash first, so that the time does not grow with the number of needles; what
    has all of them in a piece of text is then searched for itself.
    """
    if not needles:
        return set()
    shortest = min(len(needle) for needle in needles)
    width = min(LONGEST_WINDOW, 1 << (shortest.bit_length() - 1))
    ordered = sorted(needles)
    windows = [_windows(needle, width) for needle in ordered]
    keys, inverse = np.unique(np.concatenate(windows), return_inverse=True)
    owned = np.split(inverse, np.cumsum([len(some) for some in windows])[:-1])
    found: set[bytes] = set()
    for piece in _pieces(texts):
        places = np.searchsorted(keys, hashes := _hashes(np.frombuffer(piece, dtype=np.uint8), width))
        places[places == keys.size] = 0
        present = np.zeros(keys.size, dtype=np.bool_)
        present[places[keys[places] == hashes]] = True
        for needle, own in zip(ordered, owned, strict=True):
            if needle not in found and present[own].all() and needle in piece:
                found.add(needle)
    return found


def _pieces(texts: Iterable[str]) -> Iterator[bytes]:
    """Texts without white space, many joined by a byte that none holds."""
    waiting: list[bytes] = []
    size = 0
    for text in texts:
        waiting.append(_bare(text.replace("\0", "")))
        size += len(waiting[-1])
        if size >= PIECE_BYTES:
            yield b"\0".join(waiting)
            waiting, size = [], 0
    yield b"\0".join(waiting)


def _windows(needle: bytes, width: int) -> NDArray[np.uint64]:
    """Hashes of windows that cover a needle: every half width, and the last."""
    hashes = _hashes(np.frombuffer(needle, dtype=np.uint8), width)
    step = max(1, width // 2)
    return np.concatenate((hashes[:-1:step], hashes[-1:]))


def _hashes(data: NDArray[np.uint8], width: int) -> NDArray[np.uint64]:
    """Hash of each window of `width` (a power of two) bytes: uint64[n - width + 1], of two halves each time."""
    hashes = data.astype(np.uint64)
    power, half = _BASE, 1
    with np.errstate(over="ignore"):
        while half < width and hashes.size > half:
            hashes = hashes[:-half] * power + hashes[half:]
            power, half = power * power, half * 2
    return hashes if half == width else np.empty(0, np.uint64)
