"""How likely texts are to a model: stretches of them computed together, of similar length, padded on the right, which
a causal model doesn't see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from zhen.errors import ZhenError
from zhen.infer.requests import Score
from zhen.model.likelihood import Window
from zhen.model.transformer import Transformer

_LOGITS_AT_ONCE = 1 << 24
"""Logits held at a time while scoring, 64 MiB in float32."""

NOT_FINITE = "the model gives values that are not finite"
DAMAGED = "its weights may be damaged; `zhen audit` looks at them"


class Stretch(NamedTuple):
    """ids[window.begin : window.end] of one sequence, of which the tokens from window.first on are scored."""

    ids: list[int]
    window: Window


@torch.inference_mode()
def score_stretches(model: Transformer, items: Sequence[Sequence[Stretch]], batch: int) -> list[Score]:
    """A score an item, its stretches one behind the other, in the order given.

    Stretches of similar length are computed together, in an order that the lengths alone decide.
    """
    stretches = [stretch for item in items for stretch in item]
    order = sorted(range(len(stretches)), key=lambda i: stretches[i].window.begin - stretches[i].window.end)
    scores: dict[int, Score] = {}
    for at in range(0, len(order), batch):
        members = order[at : at + batch]
        scores.update(zip(members, _score_batch(model, [stretches[i] for i in members]), strict=True))
    in_order = iter(scores[i] for i in range(len(stretches)))
    return [_joined([next(in_order) for _ in item]) for item in items]


def _score_batch(model: Transformer, stretches: Sequence[Stretch]) -> Iterator[Score]:
    device = model.lm_head.weight.device
    fed = [ids[window.begin : window.end - 1] for ids, window in stretches]
    counts = [window.end - window.first for _, window in stretches]
    longest = max(map(len, fed))
    padded = torch.tensor([ids + [0] * (longest - len(ids)) for ids in fed], device=device)
    hidden = model.hidden(padded)  # [B, T, hidden]
    rows = [row[len(ids) - count : len(ids)] for row, ids, count in zip(hidden, fed, counts, strict=True)]
    targets = [token for ids, window in stretches for token in ids[window.first : window.end]]
    columns = _statistics(model, torch.cat(rows), torch.tensor(targets, device=device))
    if not all(bool(torch.isfinite(column).all()) for column in columns):
        raise ZhenError(NOT_FINITE, hint=DAMAGED)
    for parts in zip(*(torch.split(column.cpu(), counts) for column in columns), strict=True):
        logprobs, ranks, means, variances = (part.numpy() for part in parts)
        yield Score(logprobs, ranks, means, variances)


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
