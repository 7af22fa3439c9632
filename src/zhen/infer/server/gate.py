"""What every request passes: host, key, size, patience with its sender; errors in one form; logs without contents."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zhen.console import say
from zhen.infer.server.metrics import Metrics
from zhen.infer.server.refusals import Refusal, json_bytes
from zhen.infer.server.worker import place_of

API = ("/v1/", "/metrics", "/tokenize", "/openapi.json")
"""Beginnings of the paths that need a key; the chat page asks for it in its own way."""
CLOSED = ("/gradio_api/upload", "/gradio_api/proxy")
"""What a chat page has no use for: files of strangers, and errands to other servers."""
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (
        b"content-security-policy",
        b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'self'; form-action 'self'",
    ),
]
"""With every answer. The policy keeps the page from asking anything of any other machine."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a request may be and take."""

    keys: Sequence[str] = ()
    """Any of these opens the API; none: open to all who reach it."""
    local: bool = True
    """Only names of this machine are answered to: a page of the web must not reach us under a name of its own."""
    body_bytes: int = 4 << 20
    read_seconds: float = 30.0
    """To send a head in, and again for a body."""
    answer_seconds: float = 600.0
    """For an answer as a whole."""


class Gate:
    """Wraps an app. Nothing that goes wrong inside gets past it but as an error in OpenAI's form."""

    def __init__(self, app: ASGIApp, bounds: Bounds, metrics: Metrics) -> None:
        self._app, self._bounds, self._metrics = app, bounds, metrics
        self._keys = [_digest(key) for key in bounds.keys]
        self.patience = bounds.read_seconds
        """Seconds for the head of a request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        begun, status = time.monotonic(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, await self._read(scope, receive), watched)
        except Refusal as refusal:
            if not status:
                await refuse(watched, refusal)
        # the last net: its message may quote a prompt, so only its kind and place are told
        except Exception as error:
            say(f"error: {place_of(error)}")
            if not status:
                await refuse(watched, Refusal(500, "the server failed", code="internal_error"))
        finally:
            self._log(scope, status, time.monotonic() - begun)

    def _check(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if self._bounds.local and re.sub(r":\d+$", "", host).strip("[]").lower() not in LOCAL:
            raise Refusal(421, "this server answers to localhost only", code="wrong_host")
        if scope["path"].startswith(CLOSED):
            raise Refusal(404, "not found", code="not_found")
        if self._keys and scope["path"].startswith(API):
            kind, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
            given = _digest(key.strip())
            if kind.lower() != "bearer" or not any(hmac.compare_digest(given, each) for each in self._keys):
                raise Refusal(401, "a valid API key is needed", code="invalid_api_key")

    async def _read(self, scope: Scope, receive: Receive) -> Receive:
        """The body as a whole, within its bounds; what comes behind it is passed on."""
        bounds = self._bounds
        too_large = Refusal(413, f"a body of more than {bounds.body_bytes:,} bytes", code="too_large")
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > bounds.body_bytes:
            raise too_large
        parts: list[bytes] = []
        came = 0
        try:
            async with asyncio.timeout(bounds.read_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "the client went away", code="disconnected")
                    parts.append(message.get("body", b""))
                    came += len(parts[-1])
                    if came > bounds.body_bytes:
                        raise too_large
                    if not message.get("more_body"):
                        break
        except TimeoutError as error:
            raise Refusal(408, f"the body took more than {bounds.read_seconds:g} seconds", code="slow") from error
        body = [b"".join(parts)]

        async def again() -> Message:
            if body:
                return {"type": "http.request", "body": body.pop(), "more_body": False}
            return await receive()

        return again

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        """A line for each request of the API: its route, never a path or anything else that a client wrote."""
        route = getattr(scope.get("route"), "path", "") or "other"
        self._metrics.requests.labels(route, str(status or "gone")).inc()
        if not scope["path"].startswith(API) or route == "/metrics":
            return
        self._metrics.seconds.labels(route).observe(seconds)
        read, made = scope.get("zhen.tokens", (0, 0))
        tokens = f" {read} + {made} tokens" if read else ""
        method = scope["method"] if scope["method"] in ("GET", "POST") else "other"
        say(f"{method} {route} {status or 'gone'} {seconds:.3f} s{tokens}")


async def refuse(send: Send, refusal: Refusal) -> None:
    """Send an error."""
    body = json_bytes(refusal.body())
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))} | refusal.headers()
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
