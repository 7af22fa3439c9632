"""The app: OpenAI's routes over one worker, health and metrics; the gate around all of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from zhen.errors import ZhenError
from zhen.infer.server.answers import Shape
from zhen.infer.server.asking import Asked, Served
from zhen.infer.server.gate import Bounds, Gate
from zhen.infer.server.logprobs import Named
from zhen.infer.server.metrics import Metrics
from zhen.infer.server.refusals import Refusal, json_bytes, of_zhen
from zhen.infer.server.respond import Answer
from zhen.infer.server.wire import ChatBody, CompletionBody, Sampling, TokenizeBody
from zhen.infer.server.worker import Worker

DOCUMENTED: dict[int | str, dict[str, Any]] = {
    status: {"description": what}
    for status, what in {
        400: "the request cannot be answered",
        401: "no valid key",
        404: "no such model",
        408: "the body came too slowly",
        413: "the body is too large",
        421: "another host was meant",
        429: "the queue is full; Retry-After says when to try again",
        503: "the server is shutting down",
        504: "the answer took too long",
    }.items()
}


@dataclass(frozen=True)
class Service:
    """What the routes work with."""

    served: Served
    worker: Worker
    metrics: Metrics
    bounds: Bounds
    named: Named

    def answer(self, body: Sampling, asked: Asked, *, chat: bool) -> Response:
        """The response to a body."""
        usage = bool(body.stream_options and body.stream_options.include_usage)
        shape = Shape(self.served.name, asked, self.named, chat=chat, usage=usage)
        seconds = self.bounds.answer_seconds
        return Answer(self.worker, self.metrics, asked, shape, stream=body.stream, seconds=seconds)


def service(served: Served, places: int, bounds: Bounds) -> Service:
    """A service with its worker started. `places`: most requests admitted at a time."""
    worker = Worker(served.engine, places)
    return Service(served, worker, Metrics(lambda: worker.held), bounds, Named(served.engine.tokenizer))


def api(serving: Service) -> FastAPI:
    """The routes, without the gate."""
    app = FastAPI(title="zhen serve", docs_url=None, redoc_url=None)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(ZhenError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    served, began = serving.served, int(time.time())

    @app.get("/v1/models", responses=DOCUMENTED)
    async def models() -> dict[str, Any]:
        model = {
            "id": served.name,
            "object": "model",
            "created": began,
            "owned_by": "local",
            "max_model_len": served.engine.longest,
        }
        return {"object": "list", "data": [model]}

    @app.get("/v1/models/{name:path}", responses=DOCUMENTED)
    async def model(name: str) -> dict[str, Any]:
        served.check_name(name)
        return {"id": served.name, "object": "model", "created": began, "owned_by": "local"}

    @app.post("/v1/completions", responses=DOCUMENTED)
    async def completions(body: CompletionBody) -> Response:
        return serving.answer(body, served.completion(body), chat=False)

    @app.post("/v1/chat/completions", responses=DOCUMENTED)
    async def chat(body: ChatBody) -> Response:
        return serving.answer(body, served.chat(body), chat=True)

    @app.post("/tokenize", responses=DOCUMENTED)
    async def tokenize(body: TokenizeBody) -> dict[str, Any]:
        tokens = served.tokens(body)
        return {"tokens": tokens, "count": len(tokens), "max_model_len": served.engine.longest}

    @app.get("/health", responses=DOCUMENTED)
    async def health() -> dict[str, str]:
        if serving.worker.draining:
            raise Refusal(503, "the server is shutting down", code="draining", retry_after=5)
        return {"status": "ok"}

    @app.get("/metrics", responses=DOCUMENTED, response_class=Response)
    async def metrics() -> Response:
        return Response(serving.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return app


def gated(app: FastAPI, serving: Service) -> Gate:
    """The app behind its gate."""
    return Gate(app, serving.bounds, serving.metrics)


async def _refused(_request: Request, error: Exception) -> Response:
    refusal = of_zhen(error) if isinstance(error, ZhenError) else error
    assert isinstance(refusal, Refusal)
    return _response(refusal)


async def _invalid(_request: Request, error: Exception) -> Response:
    """A body that does not fit: the first mistake, by the name of its field."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:])
    message = f"{field}: {first['msg']}" if field else first["msg"]
    return _response(Refusal(400, message, code=str(first["type"]), param=field or None))


async def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = error.headers or {}
    response = _response(Refusal(error.status_code, str(error.detail), code="http"))
    response.headers.update(headers)
    return response


def _response(refusal: Refusal) -> Response:
    return Response(
        json_bytes(refusal.body()), refusal.status, media_type="application/json", headers=refusal.headers()
    )
