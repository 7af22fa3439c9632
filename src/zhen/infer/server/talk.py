"""The chat page's side of an answer: turns to a request, pieces to the turns shown, speed, and how it is stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from zhen.console import say
from zhen.infer.server.answers import pieces
from zhen.infer.server.app import Service
from zhen.infer.server.asking import Asked
from zhen.infer.server.refusals import Refusal
from zhen.infer.server.wire import ChatBody, CompletionBody
from zhen.infer.server.worker import Job

SHOWN_SECONDS = 0.04
"""Time between two updates of the page."""


@dataclass(frozen=True)
class Wish:
    """What the page's controls say."""

    system: str
    temperature: float
    top_p: float
    max_tokens: int
    seed: int | None


@dataclass(frozen=True)
class Said:
    """An answer so far."""

    text: str
    tokens: int
    seconds: float
    """Since its first piece."""
    first: float
    """Seconds until then."""
    forgotten: bool
    stopped: bool = False


class Talks:
    """Answers that are being given to pages, by the page's session."""

    def __init__(self, serving: Service) -> None:
        self._serving = serving
        self._jobs: dict[str, Job] = {}

    def stop(self, session: str) -> None:
        """Stop the answer of a session."""
        job = self._jobs.get(session)
        if job:
            self._serving.worker.cancel(job)

    async def leave(self, session: str) -> None:
        """Stop the answer of a session and wait until its last words are on their way to the page."""
        job = self._jobs.get(session)
        if job is None:
            return
        self._serving.worker.cancel(job)
        while self._jobs.get(session) is job:
            await asyncio.sleep(SHOWN_SECONDS)
        await asyncio.sleep(SHOWN_SECONDS)

    async def answer(self, session: str, turns: Sequence[dict[str, str]], wish: Wish) -> AsyncGenerator[Said, None]:
        """The answer to turns that end with the user's. Raises Refusal or ZhenError as the API refuses."""
        asked, forgotten = self._asked(turns, wish)
        worker, begun = self._serving.worker, time.monotonic()
        job = worker.submit(asked.requests)
        self._jobs[session] = job
        text, tokens, first, shown = "", 0, 0.0, 0.0
        try:
            async with aclosing(pieces(worker, job, asked)) as coming:
                async for piece in coming:
                    now = time.monotonic()
                    first = first or now - begun
                    text, tokens = text + piece.text, tokens + piece.tokens
                    if now - shown > SHOWN_SECONDS and not piece.finish:
                        shown = now
                        yield Said(text, tokens, now - begun - first, first, forgotten)
            yield Said(text, tokens, time.monotonic() - begun - first, first, forgotten)
        except Refusal as refusal:
            if refusal.code != "cancelled":
                raise
            yield Said(text, tokens, time.monotonic() - begun - first, first, forgotten, stopped=True)
        finally:
            if self._jobs.get(session) is job:
                del self._jobs[session]
            self._count(asked, tokens, time.monotonic() - begun)

    def _asked(self, turns: Sequence[dict[str, str]], wish: Wish) -> tuple[Asked, bool]:
        """The request, and whether early turns were left out of it."""
        served = self._serving.served
        options: dict[str, Any] = {
            "temperature": float(wish.temperature),
            "top_p": float(wish.top_p),
            "seed": wish.seed,
            "max_tokens": wish.max_tokens,
        }
        last = turns[-1]
        if served.conversation.template is None:
            if not served.conversation.forms:
                return served.completion(CompletionBody(prompt=last["content"], **options)), False
            return served.chat(ChatBody.model_validate({"messages": [last], **options})), False
        system = [{"role": "system", "content": wish.system}] if wish.system.strip() else []
        room = served.engine.longest - min(wish.max_tokens, served.engine.longest // 4)
        kept = list(turns)
        while True:
            body = ChatBody.model_validate({"messages": system + kept, **options})
            if len(kept) < 3 or len(served.chat_prompt(body.messages, None)) <= room:
                return served.chat(body), len(kept) < len(turns)
            kept = kept[2:]

    def _count(self, asked: Asked, made: int, seconds: float) -> None:
        metrics = self._serving.metrics
        metrics.tokens.labels("prompt").inc(asked.prompt_tokens)
        metrics.tokens.labels("made").inc(made)
        say(f"page {seconds:.3f} s {asked.prompt_tokens} + {made} tokens")
