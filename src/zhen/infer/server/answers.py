"""From the engine's events to OpenAI's answers: pieces, chunks of a stream, the whole."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from zhen.infer.conversation import Line
from zhen.infer.requests import Event
from zhen.infer.server.asking import Asked
from zhen.infer.server.calls import CallReader
from zhen.infer.server.logprobs import Named
from zhen.infer.server.refusals import Refusal
from zhen.infer.server.worker import Job, Worker


@dataclass(frozen=True)
class Piece:
    """What has come for one choice."""

    choice: int
    text: str
    tokens: int = 0
    """Tokens made for it."""
    finish: str | None = None
    """stop, length, tool_calls."""
    calls: Sequence[dict[str, Any]] = ()
    event: Event | None = None
    """What the engine said, where log-probabilities are wanted."""


class _Choice:
    """One answer while it comes."""

    def __init__(self, asked: Asked) -> None:
        self.line = Line() if asked.line else None
        self.calls = CallReader() if asked.tools else None
        self.ended = False

    def read(self, place: int, event: Event) -> Piece:
        """What an event comes to for whoever asked."""
        text = event.text
        finish: str | None = event.finish
        if self.line:
            text, over = self.line.add(text)
            finish = "stop" if over else event.finish
        calls: list[dict[str, Any]] = []
        if self.calls:
            text, calls = self.calls.add(text)
            if finish:
                text += self.calls.rest()
                finish = "tool_calls" if self.calls.calls and finish == "stop" else finish
        self.ended = finish is not None
        return Piece(place, text, int(event.token is not None), finish, calls, event)


async def pieces(worker: Worker, job: Job, asked: Asked) -> AsyncGenerator[Piece, None]:
    """The answers to a job, as they come; closing the iterator gives up the rest. Raises Refusal where one fails."""
    choices = [_Choice(asked) for _ in job.requests]
    try:
        while not all(choice.ended for choice in choices):
            place, event = await job.events.get()
            if isinstance(event, Refusal):
                raise event
            choice = choices[place]
            if choice.ended:
                continue
            if event.finish == "cancelled":
                raise Refusal(500, "the answer was given up", code="cancelled")
            piece = choice.read(place, event)
            if choice.ended and event.finish is None:
                worker.cancel(job, place)
            yield piece
    finally:
        worker.cancel(job)


class Shape:
    """How the answers to one request are written."""

    def __init__(self, model: str, asked: Asked, named: Named, *, chat: bool, usage: bool) -> None:
        """`usage`: a stream ends with a chunk that counts tokens."""
        self.chat, self.usage = chat, usage
        self._named = named
        self._logprobs = asked.requests[0].logprobs is not None
        self._offsets = [0] * len(asked.requests)
        self.prompt_tokens = asked.prompt_tokens
        self.made = 0
        """Tokens made so far."""
        self._count = len(asked.requests)
        self._head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}",
            "object": "",
            "created": int(time.time()),
            "model": model,
        }

    def opening(self) -> list[dict[str, Any]]:
        """The chunks before anything is said: who speaks, for each choice of a chat."""
        if not self.chat:
            return []
        return [self._chunk({"index": i, "delta": {"role": "assistant", "content": ""}}) for i in range(self._count)]

    def chunks(self, piece: Piece) -> list[dict[str, Any]]:
        """The chunk of a piece; none for one that shows nothing."""
        self.made += piece.tokens
        logprobs = self._likely([piece], piece.choice)
        if not (piece.text or piece.calls or piece.finish or logprobs):
            return []
        if not self.chat:
            return [self._chunk({"index": piece.choice, "text": piece.text}, piece.finish, logprobs)]
        delta: dict[str, Any] = {"content": piece.text} if piece.text else {}
        if piece.calls:
            delta["tool_calls"] = list(piece.calls)
        return [self._chunk({"index": piece.choice, "delta": delta}, piece.finish, logprobs)]

    def _likely(self, pieces: Sequence[Piece], choice: int) -> dict[str, Any] | None:
        """The log-probabilities of a choice's pieces, where they are wanted."""
        if not self._logprobs:
            return None
        events = [piece.event for piece in pieces if piece.event is not None]
        if self.chat:
            return self._named.chat(events)
        offset = self._offsets[choice]
        self._offsets[choice] += sum(len(event.text) for event in events)
        return self._named.completion(events, offset)

    def closing(self) -> list[dict[str, Any]]:
        """The chunk behind all choices."""
        return [self._headed(choices=[], usage=self._usage())] if self.usage else []

    def whole(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """One answer instead of a stream."""
        self.made = sum(piece.tokens for piece in pieces)
        choices = []
        for index in range(self._count):
            mine = [piece for piece in pieces if piece.choice == index]
            text = "".join(piece.text for piece in mine)
            calls = [{k: v for k, v in call.items() if k != "index"} for piece in mine for call in piece.calls]
            said: dict[str, Any] = {"text": text}
            if self.chat:
                message: dict[str, Any] = {"role": "assistant", "content": None if calls and not text else text}
                said = {"message": message | ({"tool_calls": calls} if calls else {})}
            logprobs = self._likely(mine, index)
            choices.append({"index": index, **said, "logprobs": logprobs, "finish_reason": mine[-1].finish})
        self._head["object"] = "chat.completion" if self.chat else "text_completion"
        return {**self._head, "choices": choices, "usage": self._usage()}

    def _chunk(
        self, choice: dict[str, Any], finish: str | None = None, logprobs: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        return self._headed(choices=[{**choice, "logprobs": logprobs, "finish_reason": finish}])

    def _headed(self, **more: Any) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk" if self.chat else "text_completion", **more}

    def _usage(self) -> dict[str, int]:
        total = self.prompt_tokens + self.made
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.made, "total_tokens": total}


async def gathered(worker: Worker, job: Job, asked: Asked) -> list[Piece]:
    """All pieces of a job."""
    async with aclosing(pieces(worker, job, asked)) as coming:
        return [piece async for piece in coming]
