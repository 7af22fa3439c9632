"""Text from tokens as they come, never showing half a character."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

BROKEN = "\ufffd"
"""What decoding puts for bytes that are no character (yet)."""

WINDOW = 8
"""Tokens of the prompt that give the first new one its context (a leading blank is lost without)."""


class Decoder(Protocol):
    """What is needed of a tokenizer."""

    vocab_size: int

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these tokens."""


class Detokenizer:
    """Turns the tokens behind a prompt into pieces of text; the pieces together are the whole text."""

    def __init__(self, tokenizer: Decoder, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = [token for token in prompt[-WINDOW:] if token < tokenizer.vocab_size]
        # what was shown is ids[:_shown], decoded from _from on; a piece is the difference of two decodings
        self._from = 0
        self._shown = len(self._ids)

    def add(self, token: int) -> str:
        """The text that has become whole by this token; empty while a character lacks bytes.

        An id beyond the tokenizer's (a model's vocabulary may be padded) has no text.
        """
        if token >= self._tokenizer.vocab_size:
            return ""
        self._ids.append(token)
        piece = self._difference()
        return "" if piece.endswith(BROKEN) else self._show(piece)

    def rest(self) -> str:
        """What was held back, at the end: bytes that never became a character are shown as U+FFFD."""
        return self._show(self._difference()) if self._shown < len(self._ids) else ""

    def _difference(self) -> str:
        shown = self._tokenizer.decode(self._ids[self._from : self._shown])
        return self._tokenizer.decode(self._ids[self._from :])[len(shown.rstrip(BROKEN)) :]

    def _show(self, piece: str) -> str:
        self._from = self._shown
        self._shown = len(self._ids)
        return piece


class Stops:
    """Holds back what may turn out to begin a stop text, and ends before the first that is whole."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = tuple(texts)
        self._held = ""

    def add(self, piece: str) -> tuple[str, bool]:
        """What can be shown now that `piece` has come, and whether a stop text has: then it is all that will be."""
        if not self._texts:
            return piece, False
        text = self._held + piece
        found = [at for stop in self._texts if (at := text.find(stop)) >= 0]
        if found:
            self._held = ""
            return text[: min(found)], True
        keep = max(_overlap(text, stop) for stop in self._texts)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def rest(self) -> str:
        """What was held back, at the end."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How many last characters of `text` are the first ones of `stop`."""
    return next(size for size in range(min(len(text), len(stop) - 1), -1, -1) if text.endswith(stop[:size]))
