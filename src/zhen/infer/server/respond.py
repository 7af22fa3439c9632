"""The response that an answer travels in: a stream or one piece, given up when nobody waits or time is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import aclosing, suppress
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from zhen.infer.server.answers import Shape, gathered, pieces
from zhen.infer.server.asking import Asked
from zhen.infer.server.metrics import Metrics
from zhen.infer.server.refusals import Refusal, json_bytes
from zhen.infer.server.worker import Worker

FAREWELL_SECONDS = 1.0
"""How long a reader may take for the last words of a stream whose time is over."""


class Answer(Response):
    """Admits its requests when it is sent, so that a refusal still has a status of its own."""

    def __init__(
        self, worker: Worker, metrics: Metrics, asked: Asked, shape: Shape, *, stream: bool, seconds: float
    ) -> None:
        """`seconds`: how long it may take as a whole."""
        super().__init__()
        self._worker, self._metrics, self._asked, self._shape = worker, metrics, asked, shape
        self._stream, self._seconds = stream, seconds
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, unless the client goes away first."""
        answer = asyncio.ensure_future(self._streamed(send) if self._stream else self._whole(send))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({answer, gone}, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                await answer
            elif gone.done():
                self._metrics.gone.inc()
            else:
                await _ended(answer)
                await self._too_long(send)
        finally:
            await _ended(answer)
            await _ended(gone)
            scope["zhen.tokens"] = (self._shape.prompt_tokens, self._shape.made)
            self._metrics.tokens.labels("prompt").inc(self._shape.prompt_tokens)
            self._metrics.tokens.labels("made").inc(self._shape.made)

    async def _whole(self, send: Send) -> None:
        job = self._worker.submit(self._asked.requests)
        body = json_bytes(self._shape.whole(await gathered(self._worker, job, self._asked)))
        await self._start(send, "application/json", len(body))
        await send({"type": "http.response.body", "body": body})

    async def _streamed(self, send: Send) -> None:
        begun = time.monotonic()
        job = self._worker.submit(self._asked.requests)
        async with aclosing(pieces(self._worker, job, self._asked)) as coming:
            try:
                async for piece in coming:
                    chunks = self._shape.chunks(piece)
                    if not self._begun:
                        # only now: what is refused at once has a status of its own
                        self._metrics.first.observe(time.monotonic() - begun)
                        await self._start(send, "text/event-stream")
                        chunks = self._shape.opening() + chunks
                    await _say(send, chunks)
            except Refusal as refusal:
                if not self._begun:
                    raise
                await _say(send, [refusal.body()])
                await send({"type": "http.response.body", "body": b""})
                return
        await _say(send, self._shape.closing())
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _too_long(self, send: Send) -> None:
        refusal = Refusal(504, f"not answered within {self._seconds:g} seconds", code="timeout")
        if not self._begun:
            raise refusal
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await _say(send, [refusal.body()])
                await send({"type": "http.response.body", "body": b""})

    async def _start(self, send: Send, kind: str, length: int | None = None) -> None:
        self._begun = True
        headers = [(b"content-type", kind.encode()), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _say(send: Send, chunks: Iterable[dict[str, Any]]) -> None:
    """Chunks as server-sent events."""
    body = b"".join(b"data: " + json_bytes(chunk) + b"\n\n" for chunk in chunks)
    if body:
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def _gone(receive: Receive) -> None:
    """Returns when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _ended(task: asyncio.Future[None]) -> None:
    """Cancel a task and wait for its end."""
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
