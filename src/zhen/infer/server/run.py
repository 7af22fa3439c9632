"""The server's process: SIGTERM lets running answers end whole, and only then closes the door."""

from __future__ import annotations

import signal
import socket
from collections.abc import Sequence
from types import FrameType

import uvicorn

from zhen.console import say
from zhen.errors import ZhenError
from zhen.infer.server.gate import Gate
from zhen.infer.server.patience import patient
from zhen.infer.server.worker import Worker

CLOSING_SECONDS = 5
"""How long connections may take for what is already written, once all answers are made."""
BACKLOG = 512


class Server(uvicorn.Server):
    """While it drains it goes on listening, so that /health can say so and new requests get their 503."""

    def __init__(self, app: Gate, worker: Worker, host: str, port: int, ready: Sequence[str] = ()) -> None:
        """`ready`: lines to print once it listens."""
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=patient(app.patience),
            ws="none",
            loop="asyncio",
            access_log=False,
            log_level="error",
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=CLOSING_SECONDS,
            backlog=BACKLOG,
        )
        super().__init__(config)
        self._worker, self._ready = worker, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        for line in self._ready if self.started else ():
            say(line)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends at once."""
        if self._worker.draining:
            self.should_exit = self.force_exit = True
            return
        self._worker.draining = True
        name = signal.Signals(sig).name
        say(f"{name}: {self._worker.held} requests are answered first; once more ends at once")

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to close."""
        if self._worker.draining and not self._worker.held:
            self.should_exit = True
        return await super().on_tick(counter)


def serve(app: Gate, worker: Worker, host: str, port: int, ready: Sequence[str]) -> None:
    """Answer until a signal comes. Raises ZhenError for an address that cannot be used."""
    try:
        Server(app, worker, host, port, ready).run()
    except SystemExit as error:  # how uvicorn says that it could not listen
        raise ZhenError(
            f"{host}, port {port} cannot be listened on", hint="is it in use? --port takes another"
        ) from error
    finally:
        worker.close()
