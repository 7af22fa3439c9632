"""The choice of the next token: penalties and bias, then greedy or by temperature, top-k, top-p and min-p."""

from __future__ import annotations

import math
from collections import Counter

import torch
from torch import Tensor

from zhen.infer.requests import Logprob, Request

COLDEST = 1e-30
"""Temperatures below are taken for this, in which float32 can still divide: equal logits have equal chances then, and
any other than the highest has none."""


class Sampler:
    """The choices of one request, which depend on its seed and on nothing that happens to others."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._generator = torch.Generator().manual_seed(request.seed)
        self._made: Counter[int] = Counter()
        self._seen = set(request.prompt) if request.repetition_penalty != 1 else set()

    def choose(self, logits: Tensor, allowed: Tensor | None = None) -> int:
        """The next token's id. `logits`: float32[vocab] on the CPU; `allowed`: bool[vocab], where a grammar binds.

        The order is that of transformers' `generate`: repetition penalty (Keskar et al. 2019, section 4.1), then what
        is added or taken, then temperature, top-k, top-p (Holtzman et al. 2020, section 3.1), min-p (arXiv 2407.01082).
        """
        request = self._request
        logits = self._changed(logits)
        if allowed is not None:
            logits = logits.masked_fill(~allowed, -math.inf)
        if request.temperature == 0:
            return int(logits.argmax())
        # sorted once, the likeliest first and equal ones by id, so that all cuts are prefixes
        ordered, ids = torch.sort(logits, descending=True, stable=True)
        if request.top_k:
            ordered = ordered[: request.top_k]
        # what each is below the likeliest: however cold, that one stays at 0 and no other becomes infinite upwards
        probabilities = torch.softmax((ordered - ordered[0]) / max(request.temperature, COLDEST), dim=0)
        kept = torch.ones_like(probabilities, dtype=torch.bool)
        if request.top_p < 1:
            kept &= probabilities.cumsum(0) - probabilities < request.top_p
        if request.min_p:
            kept &= probabilities >= request.min_p * probabilities[0]
        kept[0] = True
        probabilities = torch.where(kept, probabilities, 0.0)
        return int(ids[torch.multinomial(probabilities, 1, generator=self._generator)])

    def took(self, token: int) -> None:
        """The answer goes on with `token`."""
        self._made[token] += 1
        if self._request.repetition_penalty != 1:
            self._seen.add(token)

    def _changed(self, logits: Tensor) -> Tensor:
        request = self._request
        seen = self._seen
        penalised = self._made if request.presence_penalty or request.frequency_penalty else {}
        if not (seen or penalised or request.logit_bias):
            return logits
        logits = logits.clone()
        if seen:
            ids = torch.tensor(sorted(seen))
            some = logits[ids]
            logits[ids] = torch.where(some > 0, some / request.repetition_penalty, some * request.repetition_penalty)
        for token, times in penalised.items():
            logits[token] -= request.presence_penalty + request.frequency_penalty * times
        for token, bias in request.logit_bias.items():
            logits[token] += bias
        return logits


def likeliest(logits: Tensor, token: int, count: int) -> tuple[float, tuple[Logprob, ...]]:
    """Log-probability of `token`, and the `count` likeliest tokens with theirs. `logits`: float32[vocab]."""
    logs = torch.log_softmax(logits.double(), 0)
    ordered, ids = torch.sort(logs, descending=True, stable=True) if count else (logs[:0], logs[:0])
    top = zip(ids[:count].tolist(), ordered[:count].tolist(), strict=True)
    return float(logs[token]), tuple(Logprob(int(id), value) for id, value in top)
