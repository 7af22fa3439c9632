"""How likely texts are to a model: many together, and each beginning that several have in common once.

The choices of a question share its prompt, the questions of a subject share its examples. What is shared is fed to the
model alone, the rest behind copies of its cache. Rows of similar length are computed together, padded on the right,
which a causal model doesn't see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from zhen.errors import ZhenError
from zhen.infer.requests import Score
from zhen.model.cache import Cache
from zhen.model.likelihood import Window
from zhen.model.transformer import Transformer

_LOGITS_AT_ONCE = 1 << 24
"""Logits held at a time while scoring, 64 MiB in float32."""

_ON_CPU, _ELSEWHERE = 1 << 12, 1 << 16
"""Tokens in a pass: on a CPU, whose caches they then fit, two rows of 1,500 at a time take half the time of 32."""

WORTH = 256
"""Tokens that sharing must save in a group: two small passes cost more than one larger one."""

NOT_FINITE = "the model gives values that are not finite"
DAMAGED = "its weights may be damaged; `zhen audit` looks at them"


class Stretch(NamedTuple):
    """ids[window.begin : window.end] of one sequence, of which the tokens from window.first on are scored."""

    ids: list[int]
    window: Window


@dataclass
class _Row:
    """Equal input, once. `wanted`: (place, tokens to score, which are predicted by the last ones of the input)."""

    ids: tuple[int, ...]
    wanted: list[tuple[int, list[int]]]

    @property
    def scored(self) -> int:
        return max(len(tokens) for _, tokens in self.wanted)


class _Group(NamedTuple):
    """Rows that share their first `prefix` tokens."""

    prefix: int
    rows: list[_Row]


@torch.inference_mode()
def score_stretches(
    model: Transformer,
    items: Sequence[Sequence[Stretch]],
    batch: int,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Score]:
    """A score an item, its stretches one behind the other, in the order given; `progress` is told of stretches done.

    Equal input is computed once, and a beginning that several have in common too, where that saves enough. The order
    of work, and with it every last bit, follows from the tokens of all items alone.
    """
    rows: dict[tuple[int, ...], _Row] = {}
    stretches = [stretch for item in items for stretch in item]
    for place, (ids, window) in enumerate(stretches):
        fed = tuple(ids[window.begin : window.end - 1])
        rows.setdefault(fed, _Row(fed, [])).wanted.append((place, ids[window.first : window.end]))
    scores: dict[int, Score] = {}
    for group in _groups([rows[ids] for ids in sorted(rows)]):
        for some in _score_group(model, group, batch):
            scores.update(some)
            progress(len(scores))
    in_order = iter(scores[i] for i in range(len(stretches)))
    return [_joined([next(in_order) for _ in item]) for item in items]


def _groups(rows: Sequence[_Row]) -> Iterator[_Group]:
    """Sorted rows as groups worth sharing, and behind them all the rest, by length."""
    alone: list[_Row] = []
    at = 0
    while at < len(rows):
        best, prefix, end = 0, len(rows[at].ids), at + 1
        shared = prefix
        for other in range(at + 1, len(rows)):
            # what is scored stays behind what is shared
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
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low


def _score_group(model: Transformer, group: _Group, batch: int) -> Iterator[dict[int, Score]]:
    """Scores by place, some rows at a time: the longest first, padded on the right."""
    prefix, dtype, device = group.prefix, model.dtype, model.device
    first: Cache | None = None
    if prefix:
        first = Cache(model.config, 1, prefix, dtype, device)
        model.hidden(torch.tensor([group.rows[0].ids[:prefix]], device=device), first)
    rows = sorted(group.rows, key=lambda row: -len(row.ids))
    most = _ON_CPU if device.type == "cpu" else _ELSEWHERE
    while rows:
        count = min(batch, max(1, most // (len(rows[0].ids) - prefix)))
        members, rows = rows[:count], rows[count:]
        rests = [row.ids[prefix:] for row in members]
        longest = len(rests[0])
        padded = torch.tensor([[*rest, *[0] * (longest - len(rest))] for rest in rests], device=device)
        cache = None
        if first is not None:
            cache = Cache(model.config, len(members), prefix + longest, dtype, device)
            cache.put(0, first.copy(0, prefix))
            cache.advance(prefix)
        hidden = model.hidden(padded, cache)  # [B, T, hidden]
        states, wanted = [], []
        for row, rest, its in zip(members, rests, hidden, strict=True):
            for place, tokens in row.wanted:
                states.append(its[len(rest) - len(tokens) : len(rest)])
                wanted.append((place, tokens))
        yield _scores(model, torch.cat(states), wanted)


def _scores(model: Transformer, states: Tensor, wanted: Sequence[tuple[int, list[int]]]) -> dict[int, Score]:
    """Of (place, tokens) each, the scores from the states [n, hidden] that predict all those tokens."""
    targets = torch.tensor([token for _, tokens in wanted for token in tokens], device=states.device)
    columns = _statistics(model, states, targets)
    if not all(bool(torch.isfinite(column).all()) for column in columns):
        raise ZhenError(NOT_FINITE, hint=DAMAGED)
    counts = [len(tokens) for _, tokens in wanted]
    parts = zip(*(torch.split(column.cpu(), counts) for column in columns), strict=True)
    return {place: Score(*(column.numpy() for column in each)) for (place, _), each in zip(wanted, parts, strict=True)}


def _statistics(model: Transformer, rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """rows [n, hidden], targets [n] -> log-probability, rank, mean and variance of the log-probability, each [n].

    Mean and variance are those that Min-K%++ needs (Zhang et al. 2024, arXiv 2404.02936, section 4).
    """
    at_once = max(1, _LOGITS_AT_ONCE // model.config.vocab_size)
    parts = []
    for some, wanted in zip(torch.split(rows, at_once), torch.split(targets, at_once), strict=True):
        logits = model.lm_head(some).float()
        own = logits.gather(1, wanted[:, None])
        lower_ids = torch.arange(logits.shape[1], device=logits.device) < wanted[:, None]
        ranks = 1 + ((logits > own) | ((logits == own) & lower_ids)).sum(1)
        logs = torch.log_softmax(logits, dim=1)
        probabilities = logs.exp()
        means = (probabilities * logs).sum(1, keepdim=True)
        variances = (probabilities * (logs - means) ** 2).sum(1)
        logprobs = logs.gather(1, wanted[:, None])[:, 0]
        parts.append((logprobs.double(), ranks, means[:, 0].double(), variances.double()))
    logprobs, ranks, means, variances = (torch.cat(column) for column in zip(*parts, strict=True))
    return logprobs, ranks, means, variances


def _joined(scores: Sequence[Score]) -> Score:
    """Scores of one text's stretches, one behind the other."""
    if len(scores) == 1:
        return scores[0]
    if not scores:
        none = np.empty(0)
        return Score(none, np.empty(0, np.int64), none, none)
    return Score(
        np.concatenate([score.logprobs for score in scores]),
        np.concatenate([score.ranks for score in scores]),
        np.concatenate([score.means for score in scores]),
        np.concatenate([score.variances for score in scores]),
    )
