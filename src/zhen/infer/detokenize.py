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
