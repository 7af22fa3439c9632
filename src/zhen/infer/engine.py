"""The engine of inference: requests in, events out; and how likely texts are to the model.

Requests advance in lock-step, one token a step, each with a cache of its own: the answer to a prompt never depends on
what else is being answered. Scores are computed in batches padded on the right, which a causal model doesn't see.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from zhen.checkpoint.load import end_ids, load_model
from zhen.errors import ZhenError
from zhen.infer.detokenize import Detokenizer
from zhen.infer.requests import Completion, Event, Finish, Request, Score
from zhen.infer.sampling import choose
from zhen.model.cache import Cache
from zhen.model.likelihood import Window, rolling_windows
from zhen.model.size import parameters
from zhen.model.transformer import Transformer
from zhen.tokenizer.load import Tokenizer, load_tokenizer

__all__ = ["Completion", "Engine", "Event", "Request", "Score", "load_engine"]

_LOGITS_AT_ONCE = 1 << 24
"""Logits held at a time while scoring, 64 MiB in float32."""

NOT_FINITE = "the model gives values that are not finite"
DAMAGED = "its weights may be damaged; `zhen audit` looks at them"


@dataclass
class _Running:
    """A request that has its cache. `feed`: tokens that the model has not seen yet."""

    id: int
    request: Request
    stop_ids: frozenset[int]
    cache: Cache
    feed: list[int]
    text: Detokenizer
    generator: torch.Generator
    made: int = 0


@dataclass
class _Answer:
    """What has come of a request so far."""

    tokens: list[int] = field(default_factory=list)
    text: list[str] = field(default_factory=list)


class _Stretch(NamedTuple):
    """ids[window.begin : window.end] of one sequence, of which the tokens from window.first on are scored."""

    ids: list[int]
    window: Window


class Engine:
    """A model and its tokenizer, ready to continue and to score. Not for several threads at once."""

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, batch: int = 32, ends: frozenset[int] = frozenset()
    ) -> None:
        """`batch`: most requests answered, and sequences scored, at a time. `ends`: what ends an answer beside the
        tokenizer's end of text."""
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch = batch
        self.context_length = model.config.max_position_embeddings
        """Most tokens that the model is fed at a time."""
        self._ends = ends | {tokenizer.end_of_text}
        self._waiting: deque[tuple[int, Request]] = deque()
        self._running: list[_Running] = []
        self._cancelled: list[int] = []
        self._next_id = 0

    def submit(self, request: Request) -> int:
        """Queue a request; returns its id. Raises ZhenError for values that can't be used, naming the first."""
        for name, found, expected in request.problems():
            raise ZhenError(f"request: {name} = {found}", expected=expected)
        self._check_ids(request.prompt)
        if len(request.prompt) > self.context_length:
            raise ZhenError(
                f"a prompt of {len(request.prompt):,} tokens",
                expected=f"at most {self.context_length:,}, the model's context length",
            )
        self._next_id += 1
        self._waiting.append((self._next_id, request))
        return self._next_id

    def cancel(self, request_id: int) -> None:
        """Give a request up; its last event comes with the next step. One that has ended is left alone."""
        waiting = [id for id, _ in self._waiting if id == request_id]
        running = [state.id for state in self._running if state.id == request_id]
        self._cancelled += waiting + running
        self._waiting = deque((id, request) for id, request in self._waiting if id != request_id)
        self._running = [state for state in self._running if state.id != request_id]

    def step(self) -> list[Event]:
        """Advance every running request by a token; an empty list when there is nothing to do."""
        events = [Event(id, None, "", "cancelled") for id in self._cancelled]
        self._cancelled.clear()
        while self._waiting and len(self._running) < self.batch:
            self._running.append(self._start(*self._waiting.popleft()))
        going_on = []
        for state in self._running:
            event = self._advance(state)
            events.append(event)
            if event.finish is None:
                going_on.append(state)
        self._running = going_on
        return events

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer `requests`, in their order. The engine must have nothing else to do."""
        if self._waiting or self._running:
            raise ZhenError("the engine is answering other requests", expected="generate() on an idle engine")
        answers = {self.submit(request): _Answer() for request in requests}
        finished: dict[int, Finish] = {}
        while len(finished) < len(answers):
            for event in self.step():
                answer = answers.get(event.id)
                if answer is None:
                    continue
                if event.token is not None:
                    answer.tokens.append(event.token)
                answer.text.append(event.text)
                if event.finish is not None:
                    finished[event.id] = event.finish
        return [Completion(answer.tokens, "".join(answer.text), finished[id]) for id, answer in answers.items()]

    def greedy(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, stops: frozenset[int] = frozenset()
    ) -> Iterator[tuple[list[int], list[list[int]]]]:
        """Greedy continuations of many prompts, those of equal length together: faster than a request each.

        Yields places of `prompts` with their continuations, a batch at a time, each place once. A continuation ends
        with the first token that ends an answer or is one of `stops`, which is its last then. A prompt that leaves no
        room in the model's context loses its beginning.
        """
        room = max(1, self.context_length - max_tokens + 1)
        places: dict[int, list[int]] = {}
        for place, prompt in enumerate(prompts):
            self._check_ids(prompt)
            places.setdefault(min(len(prompt), room), []).append(place)
        for length in sorted(places):
            for at in range(0, len(places[length]), self.batch):
                members = places[length][at : at + self.batch]
                fed = [list(prompts[place][-length:]) for place in members]
                yield members, self._greedy_batch(fed, max_tokens, self._ends | stops)

    def score(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Score]:
        """How the model sees each continuation behind its context, in the order of `pairs`.

        An empty context stands for the beginning of a document. A context that is too long loses its beginning.
        Raises ZhenError for a continuation longer than the model's context (`score_rolling` takes those).
        """
        items = []
        for context, continuation in pairs:
            ids = [*(context or [self.tokenizer.end_of_text]), *continuation]
            self._check_ids(ids)
            if len(continuation) > self.context_length:
                raise ZhenError(
                    f"a continuation of {len(continuation):,} tokens",
                    expected=f"at most {self.context_length:,}, the model's context length",
                )
            window = Window(max(0, len(ids) - 1 - self.context_length), len(ids) - len(continuation), len(ids))
            items.append([_Stretch(ids, window)] if continuation else [])
        return self._score(items)

    def score_rolling(self, ids: Sequence[int], stride: int) -> Score:
        """How the model sees every token of a text of any length, the first from the context [end_of_text].

        Windows of the model's context length move on by `stride` tokens; each token is scored once.
        """
        return self.score_documents([ids], stride)[0]

    def score_documents(self, documents: Sequence[Sequence[int]], stride: int) -> list[Score]:
        """`score_rolling` of many texts, their windows batched together."""
        items = []
        for document in documents:
            ids = [self.tokenizer.end_of_text, *document]
            self._check_ids(ids)
            items.append([_Stretch(ids, window) for window in rolling_windows(ids, self.context_length, stride)])
        return self._score(items)

    def _check_ids(self, ids: Sequence[int]) -> None:
        vocabulary = self.model.config.vocab_size
        for token in (min(ids), max(ids)):
            if not 0 <= token < vocabulary:
                raise ZhenError(f"token id {token}", expected=f"0 to {vocabulary - 1:,}, the model's vocabulary")

    def _start(self, request_id: int, request: Request) -> _Running:
        weight = self.model.lm_head.weight
        # the last token made is never fed back
        capacity = min(len(request.prompt) + request.max_tokens - 1, self.context_length)
        return _Running(
            id=request_id,
            request=request,
            stop_ids=self._ends if request.stop_ids is None else request.stop_ids,
            cache=Cache(self.model.config, 1, capacity, weight.dtype, weight.device),
            feed=list(request.prompt),
            text=Detokenizer(self.tokenizer, request.prompt),
            generator=torch.Generator().manual_seed(request.seed),
        )

    @torch.inference_mode()
    def _advance(self, state: _Running) -> Event:
        request, cache = state.request, state.cache
        tokens = torch.tensor([state.feed], device=self.model.lm_head.weight.device)
        logits = self.model.lm_head(self.model.hidden(tokens, cache)[0, -1])
        if not bool(torch.isfinite(logits).all()):
            raise ZhenError(NOT_FINITE, hint=DAMAGED)
        token = choose(
            logits,
            temperature=request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
            generator=state.generator,
        )
        if token in state.stop_ids:
            return Event(state.id, None, state.text.rest(), "stop")
        state.made += 1
        state.feed = [token]
        text = state.text.add(token)
        if state.made == request.max_tokens or cache.length == cache.capacity:
            return Event(state.id, token, text + state.text.rest(), "length")
        return Event(state.id, token, text)

    @torch.inference_mode()
    def _greedy_batch(self, prompts: list[list[int]], max_tokens: int, stops: frozenset[int]) -> list[list[int]]:
        """Continuations of prompts of one length."""
        weight = self.model.lm_head.weight
        capacity = len(prompts[0]) + max_tokens - 1
        cache = Cache(self.model.config, len(prompts), capacity, weight.dtype, weight.device)
        tokens = torch.tensor(prompts, device=weight.device)
        answers: list[list[int]] = [[] for _ in prompts]
        running = list(range(len(prompts)))
        for _ in range(max_tokens):
            logits = self.model.lm_head(self.model.hidden(tokens, cache)[:, -1]).float()
            if not bool(torch.isfinite(logits[running]).all()):
                raise ZhenError(NOT_FINITE, hint=DAMAGED)
            chosen = logits.argmax(1)
            for row in running:
                answers[row].append(int(chosen[row]))
            running = [row for row in running if answers[row][-1] not in stops]
            if not running:
                break
            tokens = chosen[:, None]
        return answers

    @torch.inference_mode()
    def _score(self, items: Sequence[Sequence[_Stretch]]) -> list[Score]:
        """A score an item, its stretches one behind the other, in the order given.

        Stretches of similar length are computed together, in an order that the lengths alone decide.
        """
        stretches = [stretch for item in items for stretch in item]
        order = sorted(range(len(stretches)), key=lambda i: stretches[i].window.begin - stretches[i].window.end)
        scores: dict[int, Score] = {}
        for at in range(0, len(order), self.batch):
            members = order[at : at + self.batch]
            scores.update(zip(members, self._score_batch([stretches[i] for i in members]), strict=True))
        in_order = iter(scores[i] for i in range(len(stretches)))
        return [_joined([next(in_order) for _ in item]) for item in items]

    def _score_batch(self, stretches: Sequence[_Stretch]) -> Iterator[Score]:
        device = self.model.lm_head.weight.device
        fed = [ids[window.begin : window.end - 1] for ids, window in stretches]
        counts = [window.end - window.first for _, window in stretches]
        longest = max(map(len, fed))
        padded = torch.tensor([ids + [0] * (longest - len(ids)) for ids in fed], device=device)
        hidden = self.model.hidden(padded)  # [B, T, hidden]
        rows = [row[len(ids) - count : len(ids)] for row, ids, count in zip(hidden, fed, counts, strict=True)]
        targets = [token for ids, window in stretches for token in ids[window.first : window.end]]
        columns = self._statistics(torch.cat(rows), torch.tensor(targets, device=device))
        if not all(bool(torch.isfinite(column).all()) for column in columns):
            raise ZhenError(NOT_FINITE, hint=DAMAGED)
        for parts in zip(*(torch.split(column.cpu(), counts) for column in columns), strict=True):
            logprobs, ranks, means, variances = (part.numpy() for part in parts)
            yield Score(logprobs, ranks, means, variances)

    def _statistics(self, rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """rows [n, hidden], targets [n] -> log-probability, rank, mean and variance of the log-probability, each [n].

        Mean and variance are those that Min-K%++ needs (Zhang et al. 2024, arXiv 2404.02936, section 4).
        """
        at_once = max(1, _LOGITS_AT_ONCE // self.model.config.vocab_size)
        parts = []
        for some, wanted in zip(torch.split(rows, at_once), torch.split(targets, at_once), strict=True):
            logits = self.model.lm_head(some).float()
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


_FAST_IN_FLOAT32 = 250_000_000
"""Parameters up to which a CPU is faster in float32: bfloat16 costs 10 µs more a product whatever its size (128 × 128:
12.6 against 2.2 µs; 2048 × 768: 119 against 100; 4096 × 4096: 1,722 against 2,592; AVX-512 with bf16, one thread)."""


def load_engine(folder: str | Path, dtype: str | None = None, device: str | None = None, batch: int = 32) -> Engine:
    """The engine of a checkpoint's folder. `dtype`: float32, bfloat16 or float16.

    None: as stored, but small models in float32 on a CPU, where that is faster and loses nothing.
    """
    model = load_model(folder, dtype, device)
    weight = model.lm_head.weight
    if dtype is None and weight.device.type == "cpu" and parameters(model.config) <= _FAST_IN_FLOAT32:
        model = model.float()
    return Engine(model, load_tokenizer(folder), batch, end_ids(folder))
