"""The engine of inference: requests in, events out; and how likely texts are to the model.

Requests are answered together, each with a cache of its own: a step gives every answer its next token and reads some
blocks of prompts, in one pass over the weights. What a request gets depends on none of the others, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from zhen.checkpoint.load import end_ids, load_model
from zhen.errors import ZhenError
from zhen.infer.grammar import Grammars
from zhen.infer.prefix import Prefixes, block_keys
from zhen.infer.requests import Completion, Event, Finish, Logprob, Request, Score
from zhen.infer.running import Running
from zhen.infer.scheduler import BLOCK, Scheduler
from zhen.infer.scoring import DAMAGED, NOT_FINITE, Stretch, score_stretches
from zhen.infer.steady import steady_rows
from zhen.model.attention import Piece
from zhen.model.cache import Cache
from zhen.model.likelihood import Window, rolling_windows
from zhen.model.packed import Packed
from zhen.model.size import parameters
from zhen.model.transformer import Transformer
from zhen.tokenizer.load import Tokenizer, load_tokenizer

__all__ = ["DAMAGED", "NOT_FINITE", "Completion", "Engine", "Event", "Request", "Score", "load_engine"]

PROMPT_TOKENS = 4 * BLOCK
"""Tokens of prompts read in a step, beside the answers' tokens: answers that are under way wait no longer for them."""

PREFIX_TOKENS = 128 * BLOCK
"""Tokens of beginnings whose keys and values are kept for the next request that has them."""


@dataclass
class _Answer:
    """What has come of a request so far."""

    tokens: list[int] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list[tuple[Logprob, ...]] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Take an event in."""
        if event.token is not None:
            self.tokens.append(event.token)
            if event.logprob is not None:
                self.logprobs.append(event.logprob)
                self.top.append(event.top)
        self.text.append(event.text)

    def completion(self, finish: Finish) -> Completion:
        """The whole."""
        return Completion(self.tokens, "".join(self.text), finish, self.logprobs, self.top)


class Engine:
    """A model and its tokenizer, ready to continue and to score. Not for several threads at once."""

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        batch: int = 32,
        ends: frozenset[int] = frozenset(),
        *,
        prompt_tokens: int = PROMPT_TOKENS,
        prefix_tokens: int = PREFIX_TOKENS,
        cache_tokens: int | None = None,
        cache_bits: Literal[16, 8] = 16,
    ) -> None:
        """`model` is the engine's from now on (`Transformer.join`). `batch`: most requests answered, and sequences
        scored, at a time. `ends`: what ends an answer beside the tokenizer's end of text. `prompt_tokens`: most tokens
        of prompts read in a step, at least a block of 64. `prefix_tokens`: of beginnings kept. `cache_tokens`: most
        tokens that requests under way may come to together; one that needs more than that alone is refused.
        `cache_bits`: 8 keeps keys and values in 8 bits."""
        self.model = model.eval()
        model.join()
        self.tokenizer = tokenizer
        self.batch = batch
        config = model.config
        self.context_length = config.max_position_embeddings
        """Most tokens that the model is fed at a time."""
        scaling = config.rope_scaling
        self.longest = self.context_length
        """Most tokens of prompt and answer together: the context, or what dynamic scaling stretches it to."""
        if scaling is not None and scaling.rope_type == "dynamic":
            self.longest = int(self.context_length * scaling.factor)
        self.ends = ends | {tokenizer.end_of_text}
        """Tokens that end an answer where a request does not say."""
        self.prefixes = Prefixes(prefix_tokens)
        self._most = max(prompt_tokens, BLOCK)
        self._cache_tokens, self._cache_bits = cache_tokens, cache_bits
        self._scheduler = Scheduler(batch, self._most, cache_tokens)
        self._grammars = Grammars(tokenizer, config.vocab_size)
        self._asked: dict[int, Request] = {}
        self._running: dict[int, Running] = {}
        self._cancelled: list[int] = []
        self._next_id = 0

    @cached_property
    def steady_rows(self) -> int:
        """Rows that every step is filled up to, so that a row's bits do not depend on how many there are."""
        return steady_rows(self.model, self._most + self.batch)

    @property
    def waiting(self) -> int:
        """Requests that have not begun."""
        return self._scheduler.waiting

    @property
    def running(self) -> int:
        """Requests under way."""
        return self._scheduler.running

    def submit(self, request: Request) -> int:
        """Queue a request; returns its id. Raises ZhenError for values that can't be used, naming the first."""
        for name, found, expected in request.problems():
            raise ZhenError(f"request: {name} = {found}", expected=expected)
        self._check_ids(request.prompt)
        self._check_ids(list(request.logit_bias))
        if len(request.prompt) > self.longest:
            raise ZhenError(
                f"a prompt of {len(request.prompt):,} tokens",
                expected=f"at most {self.longest:,}, the model's context length",
            )
        room = self._room(request)
        if self._cache_tokens is not None and room > self._cache_tokens:
            raise ZhenError(f"{room:,} tokens of prompt and answer", expected=f"at most {self._cache_tokens:,}")
        if request.grammar is not None:
            self._grammars.matcher(request.grammar)
        self._next_id += 1
        self._asked[self._next_id] = request
        # beyond the trained length, dynamic scaling turns the same tokens otherwise in texts of another length
        salt = room if room > self.context_length else 0
        self._scheduler.submit(self._next_id, len(request.prompt), room, block_keys(request.prompt, salt))
        return self._next_id

    def cancel(self, request_id: int) -> None:
        """Give a request up; its last event comes with the next step. One that has ended is left alone."""
        if self._scheduler.end(request_id):
            self._cancelled.append(request_id)
            self._running.pop(request_id, None)
            del self._asked[request_id]

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Advance every request under way; an empty list when there is nothing to do.

        A step that only reads prompts has events of no token: with text "" and no finish.
        """
        events = [Event(id, None, "", "cancelled") for id in self._cancelled]
        self._cancelled.clear()
        for id in self._scheduler.admit():
            self._running[id] = self._start(id, self._asked[id])
        for id in self._scheduler.reading():
            state = self._running[id]
            if found := self.prefixes.find(state.cache, state.keys, len(state.request.prompt)):
                self._scheduler.reuse(id, found)
        for state, logits in self._feed():
            events += self._answers(state, logits) if logits is not None else [Event(state.id, None, "")]
        return events

    def completed(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        """Answer `requests`: their places with their answers, as they are done. The engine must be idle."""
        if self.waiting or self.running:
            raise ZhenError("the engine is answering other requests", expected="an idle engine")
        places = {self.submit(request): place for place, request in enumerate(requests)}
        answers = {id: _Answer() for id in places}
        try:
            while answers:
                for event in self.step():
                    if event.id in answers:
                        answers[event.id].add(event)
                        if event.finish is not None:
                            yield places[event.id], answers.pop(event.id).completion(event.finish)
        finally:
            for id in answers:
                self.cancel(id)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer `requests`, in their order. The engine must have nothing else to do."""
        answers = dict(self.completed(requests))
        return [answers[place] for place in range(len(requests))]

    def score(
        self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], progress: Callable[[int], None] = lambda done: None
    ) -> list[Score]:
        """How the model sees each continuation behind its context, in the order of `pairs`.

        What several contexts begin with is computed once; `progress` is told how many pairs are done. An empty context
        stands for the beginning of a document. A context that is too long loses its beginning. Raises ZhenError
        for a continuation longer than the model's context (`score_rolling` takes those).
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
            items.append([Stretch(ids, window)] if continuation else [])
        return score_stretches(self.model, items, self.batch, progress)

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
            items.append([Stretch(ids, window) for window in rolling_windows(ids, self.context_length, stride)])
        return score_stretches(self.model, items, self.batch)

    def _check_ids(self, ids: Sequence[int]) -> None:
        vocabulary = self.model.config.vocab_size
        for token in (min(ids), max(ids)) if ids else ():
            if not 0 <= token < vocabulary:
                raise ZhenError(f"token id {token}", expected=f"0 to {vocabulary - 1:,}, the model's vocabulary")

    def _room(self, request: Request) -> int:
        """Tokens that a request may come to have in its cache: the last one made is never fed back."""
        return min(len(request.prompt) + request.max_tokens - 1, self.longest)

    def _start(self, id: int, request: Request) -> Running:
        model = self.model
        room = self._room(request)
        return Running(
            id,
            request,
            cache=Cache(model.config, 1, room, model.dtype, model.device, bits=self._cache_bits),
            angles=model.positions(room, model.device),
            keys=block_keys(request.prompt, room if room > self.context_length else 0),
            stop_ids=self.ends if request.stop_ids is None else request.stop_ids,
            tokenizer=self.tokenizer,
            matcher=self._grammars.matcher(request.grammar) if request.grammar is not None else None,
        )

    def _feed(self) -> list[tuple[Running, Tensor | None]]:
        """Feed the model what the scheduler says. With each request its logits [rows, vocab], float32 on the CPU, or
        None where some of its prompt is left to read."""
        tokens: list[int] = []
        pieces: list[Piece] = []
        fed: list[tuple[Running, int]] = []
        wanted: list[int] = []
        for id, count in self._scheduler.feeds():
            state = self._running[id]
            ids, piece = state.prompt_piece(count) if count else state.answer_piece()
            # of an answer all rows are looked at, of a prompt the last
            rows = len(ids) if not count else int(piece.cache.length + count == len(state.request.prompt))
            tokens += ids
            pieces.append(piece)
            fed.append((state, rows))
            wanted += range(len(tokens) - rows, len(tokens))
        if not pieces:
            return []
        device = self.model.device
        filler = [0] * max(0, self.steady_rows - len(tokens))
        hidden = self.model.together(torch.tensor(tokens + filler, device=device), pieces)
        for (state, _), piece in zip(fed, pieces, strict=True):
            self.prefixes.keep(state.cache, state.keys, piece.cache.length - piece.length)
        if not wanted:
            return [(state, None) for state, _ in fed]
        filler = [0] * max(0, self.steady_rows - len(wanted))
        logits = self.model.lm_head(hidden[torch.tensor(wanted + filler, device=device)])
        logits = logits[: len(wanted)].float().cpu()
        # of all numbers at once it would take longer than the choice itself
        if not bool(torch.isfinite(torch.stack(logits.aminmax())).all()):
            raise ZhenError(NOT_FINITE, hint=DAMAGED)
        parts = iter(torch.split(logits, [rows for _, rows in fed if rows]))
        return [(state, next(parts) if rows else None) for state, rows in fed]

    def _answers(self, state: Running, logits: Tensor) -> list[Event]:
        events = list(state.take(logits))
        if events[-1].finish is not None:
            self._scheduler.end(state.id)
            del self._running[state.id], self._asked[state.id]
        return events


FAST_IN_FLOAT32 = 250_000_000
"""Parameters up to which a CPU computes in float32: what was stored is held exactly, and at 128 wide it is faster too
(a product of 128 × 128: 2.2 µs against 12.6 in bfloat16). From some 10 M parameters on bfloat16 is faster where the CPU
has units for it, as float32 is filled up to four rows; who wants that says so. Without such units float32 is faster
from two rows on at any size, but takes twice the memory: larger models stay as they are stored."""


def load_engine(
    folder: str | Path,
    dtype: str | None = None,
    device: str | None = None,
    batch: int = 32,
    *,
    prefix_tokens: int = PREFIX_TOKENS,
    cache_tokens: int | None = None,
    cache_bits: Literal[16, 8] = 16,
) -> Engine:
    """The engine of a checkpoint's folder. `dtype`: float32, bfloat16 or float16; the rest as `Engine` has it.

    None: as stored, but small models in float32 on a CPU, where that is faster and loses nothing. What is stored
    packed stays so where the CPU can compute with it, in bfloat16.
    """
    model = load_model(folder, dtype, device, packed=True)
    plain = not any(isinstance(module, Packed) for module in model.modules())
    if plain and dtype is None and model.device.type == "cpu" and parameters(model.config) <= FAST_IN_FLOAT32:
        model = model.float()
    return Engine(
        model,
        load_tokenizer(folder),
        batch,
        end_ids(folder),
        prefix_tokens=prefix_tokens,
        cache_tokens=cache_tokens,
        cache_bits=cache_bits,
    )
