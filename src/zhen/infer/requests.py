"""What the engine is asked for and what it answers: requests, events, completions, scores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Finish = Literal["stop", "length", "cancelled"]
"""`stop`: a stop token or text came, or the grammar is fulfilled; `length`: as many tokens as asked for, or the model's
context is full."""

MOST_LOGPROBS = 64
MOST_BIAS = 1e6

_ANY = math.inf
_BOUNDS = (
    ("temperature", 0, 1e6),
    ("top_p", 0, 1),
    ("top_k", 0, _ANY),
    ("min_p", 0, 1),
    ("repetition_penalty", 1e-6, 1e6),
    ("presence_penalty", -MOST_BIAS, MOST_BIAS),
    ("frequency_penalty", -MOST_BIAS, MOST_BIAS),
    ("drafts", 0, 64),
    ("seed", -(1 << 63), (1 << 64) - 1),
)
"""What numbers can be: of penalties, what leaves logits finite in float32; of seeds, what a generator takes."""


class Grammar(NamedTuple):
    """A form that a text can have."""

    kind: Literal["json", "regex", "lark"]
    """`json`: a JSON schema, `{}` for any object or value."""
    text: str


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
    stop: Sequence[str] = ()
    """The text ends before the first of these; the tokens that hold it are among the answer's."""
    temperature: float = 0.0
    """0: always the likeliest token (greedy), and top_p, top_k, min_p and seed play no part."""
    top_k: int = 0
    """Choose among this many likeliest tokens; 0 for all."""
    top_p: float = 1.0
    """Choose among the likeliest tokens that make up this probability together; in (0, 1]."""
    min_p: float = 0.0
    """Choose among tokens at least this many times as probable as the likeliest; in [0, 1]."""
    repetition_penalty: float = 1.0
    """The logits of tokens in prompt or answer are divided by it where positive, else multiplied."""
    presence_penalty: float = 0.0
    """Taken from the logits of tokens that are in the answer."""
    frequency_penalty: float = 0.0
    """Taken from the logits of tokens for each time that they are in the answer."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Token -> what is added to its logit."""
    seed: int = 0
    """Of this request's own random numbers: its answer is the same in any company."""
    logprobs: int | None = None
    """With each token its log-probability to the model (before all of the above) and those of so many likeliest."""
    grammar: Grammar | None = None
    """What the answer's text must keep to."""
    drafts: int = 0
    """Most tokens guessed at a time, from what stands behind the same words earlier on; the answer is the same."""

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """(field, found, expected) for values that can't be used."""
        if not self.prompt:
            yield "prompt", "no tokens", "at least one"
        if self.max_tokens < 1:
            yield "max_tokens", str(self.max_tokens), "1 or more"
        if not all(self.stop):
            yield "stop", "an empty text", "texts of at least a character"
        for name, least, most in _BOUNDS:
            if not least <= getattr(self, name) <= most:
                yield name, str(getattr(self, name)), f"{least:g} or more" if most == _ANY else f"{least:g} to {most:g}"
        if self.top_p <= 0:
            yield "top_p", str(self.top_p), "more than 0"
        if not all(-MOST_BIAS <= bias <= MOST_BIAS for bias in self.logit_bias.values()):
            yield "logit_bias", str(dict(self.logit_bias)), f"numbers from {-MOST_BIAS:g} to {MOST_BIAS:g}"
        if self.logprobs is not None and not 0 <= self.logprobs <= MOST_LOGPROBS:
            yield "logprobs", str(self.logprobs), f"0 to {MOST_LOGPROBS}"


class Logprob(NamedTuple):
    """A token that was chosen or could have been."""

    token: int
    logprob: float
    """Nats."""


@dataclass(frozen=True)
class Event:
    """A token of one request. `token` is None where a request ends without one (stop token, cancelled), and while its
    prompt is being read."""

    id: int
    token: int | None
    text: str
    """What can be shown now: bytes of a character that isn't whole yet are held back, and what may turn out to begin a
    stop text."""
    finish: Finish | None = None
    logprob: float | None = None
    """Of the token, where the request asks for them."""
    top: tuple[Logprob, ...] = ()
    """The likeliest tokens in its place, the likeliest first."""


@dataclass(frozen=True)
class Completion:
    """What a request was answered, its stop token left out."""

    tokens: list[int]
    text: str
    finish: Finish
    logprobs: list[float]
    """Of the tokens, where the request asks for them."""
    top: list[tuple[Logprob, ...]]
    """The likeliest in each place."""


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
