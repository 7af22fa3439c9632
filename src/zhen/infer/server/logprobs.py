"""Log-probabilities in OpenAI's two forms: an object a token for chats, parallel lists for completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zhen.infer.requests import Event
from zhen.tokenizer.load import Tokenizer

LOWEST = -9999.0
"""Stands for minus infinity, which JSON does not have."""


class Named:
    """Tokens under their texts."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._pieces = tokenizer.pieces()

    def chat(self, events: Sequence[Event]) -> dict[str, Any] | None:
        """Of a chat's answer, or a part of it; None where no token was made."""
        content = [
            self._entry(event.token, event.logprob)
            | {"top_logprobs": [self._entry(each.token, each.logprob) for each in event.top]}
            for event in events
            if event.token is not None and event.logprob is not None
        ]
        return {"content": content, "refusal": None} if content else None

    def completion(self, events: Sequence[Event], offset: int) -> dict[str, Any] | None:
        """Of a completion, or a part of it that begins `offset` characters into its text."""
        rows = [event for event in events if event.token is not None and event.logprob is not None]
        if not rows:
            return None
        offsets = []
        for event in events:
            own = self._text(event.token) if event.token is not None else ""
            # in front of it may stand what was held back
            ahead = len(event.text) - len(own) if event.text.endswith(own) else 0
            offsets += [offset + ahead] if event.token is not None else []
            offset += len(event.text)
        return {
            "tokens": [self._text(event.token or 0) for event in rows],
            "token_logprobs": [_finite(event.logprob) for event in rows],
            "top_logprobs": [{self._text(each.token): _finite(each.logprob) for each in event.top} for event in rows],
            "text_offset": offsets,
        }

    def _entry(self, token: int, logprob: float | None) -> dict[str, Any]:
        return {"token": self._text(token), "logprob": _finite(logprob), "bytes": list(self._bytes(token))}

    def _text(self, token: int) -> str:
        return self._bytes(token).decode("utf-8", "replace")

    def _bytes(self, token: int) -> bytes:
        """Empty for special tokens and for ids beyond the tokenizer's: a model's vocabulary may be padded."""
        if self._pieces is not None:
            return self._pieces[token] if token < len(self._pieces) else b""
        return self._tokenizer.decode([token]).encode() if token < self._tokenizer.vocab_size else b""


def _finite(logprob: float | None) -> float:
    return max(LOWEST, logprob if logprob is not None else LOWEST)
