"""A served chat model of a few thousand weights, on a port of its own, whose engine a test can hold at any step."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `serve` is not installed")
pytest.importorskip("openai", reason="openai, the official client, is not installed")

import openai

from zhen.checkpoint.load import save_model
from zhen.infer.engine import Engine, load_engine
from zhen.infer.requests import Event, Request
from zhen.infer.server.app import Service, api, gated, service
from zhen.infer.server.asking import open_served
from zhen.infer.server.gate import Bounds
from zhen.infer.server.run import Server
from zhen.model.config import PRESETS
from zhen.model.transformer import Transformer, initialise
from zhen.tokenizer.export import export_files
from zhen.tokenizer.learn import learn_model
from zhen.tokenizer.settings import TokenizerSettings

PIECES, CONTEXT = 340, 1024
TURN_END = 7
TEXTS = [f"The town by the lake, number {n}.\n湖边的镇子，第{n}个。" for n in range(60)]


def save(folder: Path, *, chat: bool, seed: int = 3) -> Path:
    """A random model with a tokenizer of both languages."""
    made = folder / "tokenizer"
    made.mkdir(parents=True)
    settings = TokenizerSettings(vocab_size=PIECES, character_coverage=1.0)
    for name, content in export_files(learn_model(TEXTS, settings)).items():
        (made / name).write_bytes(content)
    model = Transformer(msgspec.structs.replace(PRESETS["micro"], vocab_size=PIECES, initializer_range=0.3))
    initialise(model, seed)
    save_model(model, folder / "model", "float32", made, CONTEXT, turn_end=TURN_END if chat else None)
    return folder / "model"


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("chat"), chat=True)


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"), chat=False)


class Held:
    """An engine that takes a step only when `permits` has one; open until `hold` is called."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open = threading.Event()
        self._open.set()
        self.permits = threading.Semaphore(0)
        self.cancelled: list[int] = []
        self.cancellation = threading.Event()
        self.asked: list[Request] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def hold(self) -> None:
        self.permits = threading.Semaphore(0)  # what an earlier release left over is worth nothing any more
        self._open.clear()

    def release(self) -> None:
        self._open.set()
        self.permits.release(1000)

    def submit(self, request: Request) -> int:
        self.asked.append(request)
        return self._engine.submit(request)

    def prompt(self) -> str:
        """The text of the last prompt."""
        return self._engine.tokenizer.decode(list(self.asked[-1].prompt))

    def cancel(self, number: int) -> None:
        self.cancelled.append(number)
        self._engine.cancel(number)
        self.cancellation.set()

    def step(self) -> list[Event]:
        if not self._open.is_set():
            self.permits.acquire()
        return self._engine.step()


class Site:
    """A server in a thread."""

    def __init__(self, serving: Service, engine: Held, server: Server, port: int, thread: threading.Thread) -> None:
        self.serving, self.engine, self.server, self.port, self.thread = serving, engine, server, port, thread
        self.base = f"http://127.0.0.1:{port}"
        self._client = openai.OpenAI(base_url=f"{self.base}/v1", api_key="none", max_retries=0)

    def stopped(self) -> None:
        """Wait until it has closed by itself."""
        self.thread.join()

    def client(self) -> openai.OpenAI:
        return self._client


@contextmanager
def site(
    folder: Path,
    *,
    places: int = 64,
    page: bool = False,
    batch: int = 8,
    port: int = 0,
    longest: int = CONTEXT,
    **bounds: Any,
) -> Iterator[Site]:
    """Serve a folder's model while the block runs."""
    inner = load_engine(folder, batch=batch)
    inner.longest = longest
    engine = Held(inner)
    serving = service(open_served(folder, engine, "tiny"), places, Bounds(**bounds))  # type: ignore[arg-type]
    app = api(serving)
    if page:
        from zhen.infer.server.page import mount

        app = mount(app, serving)
    with socket.create_server(("127.0.0.1", port), backlog=512) as listening:
        port = listening.getsockname()[1]
        server = Server(gated(app, serving), serving.worker, "127.0.0.1", port)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            running = Site(serving, engine, server, port, thread)
            yield running
        finally:
            running.client().close()
            engine.release()
            serving.worker.draining = server.should_exit = True
            thread.join()
            serving.worker.close()


@pytest.fixture(scope="session")
def serve() -> Callable[..., Any]:
    """`with serve(folder, …) as site:`"""
    return site


@pytest.fixture(scope="module")
def chat(chat_model: Path) -> Iterator[Site]:
    with site(chat_model) as running:
        yield running
