"""The stage `data` on small sources, made once for the tests that compare with it."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import data_run
import pytest


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `data_run.py` as a program; its workers find it too."""

    def program(**asked: object) -> subprocess.CompletedProcess[str]:
        folder = str(Path(data_run.__file__).parent)
        environment = {**os.environ, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, data_run.__file__, json.dumps(asked)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return program


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """Three small sources."""
    return data_run.make_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="session")
def whole(sources: tuple, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed, with two workers."""
    folder = tmp_path_factory.mktemp("whole")
    data_run.run(sources, folder, workers=2)
    return folder


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """A function that serves a folder on this machine and returns its address."""
    with ExitStack() as stack:

        def begin(folder: Path) -> str:
            handler = partial(_Quiet, directory=str(folder))
            server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield begin
