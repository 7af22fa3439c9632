"""What the engine is asked for and what it answers: requests, events, completions, scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Finish = Literal["stop", "length", "cancelled"]
"""`stop`: a stop token came; `length`: as many tokens as asked for, or the model's context is full."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A prompt to be continued."""

    prompt: Sequence[int]
    """Token ids, at least one. A prompt from text should not end in white space: it cannot be continued well."""
    max_tokens: int
    """Most tokens to add."""
    stop_ids: frozenset[int] | None = None
    """The answer ends before the first of these tokens. None: the tokenizer's end-of-text token
    and those of the checkpoint's `eos_token_id`."""
    temperature: float = 0.0
    """0: always the likeliest token (greedy), and the fields below play no part."""
    top_p: float = 1.0
    """Choose among the likeliest tokens that make up this probability together; in (0, 1]."""
    top_k: int = 0
    """Choose among this many likeliest tokens; 0 for all."""
    seed: int = 0
    """Of this request's own random numbers: its answer is the same in any company."""

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """(field, found, expected) for values that can't be used."""
        if not self.prompt:
            yield "prompt", "no tokens", "at least one"
        if self.max_tokens < 1:
            yield "max_tokens", str(self.max_tokens), "1 or more"
        if not 0 <= self.temperature < float("inf"):
            yield "temperature", str(self.temperature), "0 (greedy) or more"
        if not 0 < self.top_p <= 1:
            yield "top_p", str(self.top_p), "more than 0, at most 1"
        if self.top_k < 0:
            yield "top_k", str(self.top_k), "0 (all) or more"


@dataclass(frozen=True)
class Event:
    """One step of one request. `token` is None where a request ends without one (stop token, cancelled)."""

    id: int
    token: int | None
    text: str
    """What can be shown now: bytes of a character that isn't whole yet are held back."""
    finish: Finish | None = None


@dataclass(frozen=True)
class Completion:
    """What a request was answered, its stop token left out."""

    tokens: list[int]
    text: str
    finish: Finish


@dataclass(frozen=True)
class Score:
    """How a model saw each of n tokens. Logarithms are natural."""

    logprobs: NDArray[np.float64]
    """[n]: log-probability of the token."""
    ranks: NDArray[np.int64]
    """[n]: 1 for the greedy token, 2 for the next; the lower id first where logits are equal."""
    means: NDArray[np.float64]
    """[n]: expected log-probability of a token drawn from the model there (minus its entropy, nats)."""
    variances: NDArray[np.float64]
    """[n]: variance of that, nats squared."""

    @property
    def greedy(self) -> NDArray[np.bool_]:
        """[n]: whether the token was the greedy one."""
        return np.equal(self.ranks, 1)

    @property
    def total(self) -> float:
        """Log-probability of all n tokens together, nats."""
        return float(self.logprobs.sum())
