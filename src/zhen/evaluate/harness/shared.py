"""Log-likelihoods of many continuations, each beginning that several have in common computed once.

The choices of a question share its prompt, the questions of a subject share its examples. Continuations of one token
behind one context share everything. What is shared is fed to the model alone, the rest behind copies of its cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from zhen.errors import ZhenError
from zhen.infer.engine import DAMAGED, NOT_FINITE, Engine
from zhen.model.cache import Cache

WORTH = 256
"""Tokens that sharing must save in a group: two small passes cost more than one larger one."""

_LOGITS_AT_ONCE = 1 << 24


class Pair(NamedTuple):
    """Tokens of a context (not empty) and of what goes on behind it."""

    context: Sequence[int]
    continuation: Sequence[int]

    def fed(self, context_length: int) -> tuple[int, ...]:
        """What the model is given: all but the last token, its beginning cut off where that is too long."""
        return (*self.context, *self.continuation)[:-1][-context_length:]


@dataclass
class _Row:
    """Equal input, once. `wanted`: (place, tokens to score, which are the last ones)."""

    ids: tuple[int, ...]
    wanted: list[tuple[int, Sequence[int]]]

    @property
    def scored(self) -> int:
        return max(1, *(len(tokens) for _, tokens in self.wanted))


class _Group(NamedTuple):
    """Rows that share their first `prefix` tokens."""

    prefix: int
    rows: list[_Row]


@torch.inference_mode()
def score_pairs(
    engine: Engine, pairs: Sequence[Pair], progress: Callable[[int], None] = lambda done: None
) -> list[tuple[float, bool]]:
    """(Log-likelihood of the continuation in nats, whether it is the greedy one), in the order of `pairs`.

    `progress` is told how many pairs are done. The order of work, and with it every last bit, follows from the tokens
    alone. Raises ZhenError for a continuation longer than the model's context.
    """
    rows: dict[tuple[int, ...], _Row] = {}
    for place, pair in enumerate(pairs):
        if len(pair.continuation) > engine.context_length:
            raise ZhenError(
                f"a continuation of {len(pair.continuation):,} tokens",
                expected=f"at most {engine.context_length:,}, the model's context length",
            )
        fed = pair.fed(engine.context_length)
        rows.setdefault(fed, _Row(fed, [])).wanted.append((place, pair.continuation))
    answers: list[tuple[float, bool]] = [(0.0, True)] * len(pairs)
    done = 0
    for group in _groups([rows[ids] for ids in sorted(rows)]):
        for place, logprob, greedy in _score_group(engine, group):
            answers[place] = logprob, greedy
            done += 1
            if done % 64 == 0 or done == len(pairs):
                progress(done)
    return answers


def _groups(rows: Sequence[_Row]) -> Iterator[_Group]:
    """Sorted rows as groups worth sharing, and behind them all the rest, by length."""
    alone: list[_Row] = []
    at = 0
    while at < len(rows):
        best, prefix, end = 0, len(rows[at].ids), at + 1
        shared = prefix
        for other in range(at + 1, len(rows)):
            # at least one token stays behind what is shared: the scored ones need a pass of their own
            rest = min(len(rows[at].ids) - rows[at].scored, len(rows[other].ids) - rows[other].scored)
            shared = min(shared, rest, _common(rows[at].ids, rows[other].ids))
            saved = shared * (other - at)
            if saved < best:
                break
            best, prefix, end = saved, shared, other + 1
        if best >= WORTH:
            yield _Group(prefix, list(rows[at:end]))
        else:
            end = at + 1
            alone.append(rows[at])
        at = end
    alone.sort(key=lambda row: (-len(row.ids), row.ids))
    if alone:
        yield _Group(0, alone)


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """How many first tokens two inputs share."""
    limit = min(len(a), len(b))
    if a[:limit] == b[:limit]:
        return limit
    low, high = 0, limit
    while low < high - 1:
        middle = (low + high) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle)
    return low


def _score_group(engine: Engine, group: _Group) -> Iterator[tuple[int, float, bool]]:
    model, prefix = engine.model, group.prefix
    weight = model.lm_head.weight
    first: Cache | None = None
    if prefix:
        first = Cache(model.config, 1, prefix, weight.dtype, weight.device)
        model.hidden(torch.tensor([group.rows[0].ids[:prefix]], device=weight.device), first)
    rows = sorted(group.rows, key=lambda row: -len(row.ids))
    for at in range(0, len(rows), engine.batch):
        members = rows[at : at + engine.batch]
        rests = [row.ids[prefix:] for row in members]
        longest = len(rests[0])
        padded = torch.tensor([[*rest, *[0] * (longest - len(rest))] for rest in rests], device=weight.device)
        cache = None if first is None else _copies(first, len(members), longest, engine)
        hidden = model.hidden(padded, cache)
        for row, rest, states in zip(members, rests, hidden, strict=True):
            yield from _read(engine, row, states[: len(rest)])


def _copies(first: Cache, batch: int, more: int, engine: Engine) -> Cache:
    """A cache of `batch` rows that have all seen what `first` has, with room for `more` tokens."""
    weight = engine.model.lm_head.weight
    cache = Cache(engine.model.config, batch, first.length + more, weight.dtype, weight.device)
    for mine, its in zip((*cache.keys, *cache.values), (*first.keys, *first.values), strict=True):
        mine[:, :, : first.length] = its
    cache.length = first.length
    return cache


def _read(engine: Engine, row: _Row, states: Tensor) -> Iterator[tuple[int, float, bool]]:
    """Scores of a row's continuations from the hidden states behind its last tokens."""
    states = states[len(states) - row.scored :]
    at_once = max(1, _LOGITS_AT_ONCE // engine.model.config.vocab_size)
    logs = torch.cat(
        [torch.log_softmax(engine.model.lm_head(some).float(), 1) for some in torch.split(states, at_once)]
    )
    if not bool(torch.isfinite(logs).all()):
        raise ZhenError(NOT_FINITE, hint=DAMAGED)
    best = logs.argmax(1)
    for place, tokens in row.wanted:
        wanted = torch.tensor(tokens, device=logs.device)
        own = logs[len(logs) - len(tokens) :].gather(1, wanted[:, None])[:, 0]
        yield place, float(own.double().sum()), bool(torch.equal(best[len(best) - len(tokens) :], wanted))
