"""What every test shares: one thread a process, no network telemetry, and the folder of real data if it is there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import hypothesis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhen.formats.document import SCHEMA, document_id
from zhen.formats.stage import Context

hypothesis.settings.register_profile("no-clock", deadline=None)  # a busy machine fails no test
hypothesis.settings.load_profile("no-clock")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real corpora beside the checkout (`ZHEN_SHARED_DATA` or `../shared/data`), or a skip."""
    folder = Path(os.environ.get("ZHEN_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder


class Quiet:
    """A progress line that keeps what it is told; `at` is called with the number of each update."""

    def __init__(self, at: Callable[[int], None] = lambda number: None) -> None:
        self.updates: list[tuple[float, float | None, str, str]] = []
        self.notes: list[str] = []
        self._at = at

    def update(self, done: float, total: float | None, unit: str, facts: str = "") -> None:
        self.updates.append((done, total, unit, facts))
        self._at(len(self.updates))

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="session")
def make_context() -> Callable[..., Context]:
    """`make_context(folder, sections, after)`: what the runner hands a stage, with a quiet line."""

    def make(folder: Path, sections: dict[str, Any], after: dict[str, Path], **more: Any) -> Context:
        folder.mkdir(parents=True, exist_ok=True)
        given = {"line": Quiet(), "stop_requested": lambda: False, "workers": 1} | more
        return Context(folder=folder, sections=sections, after=after, **given)

    return make


@pytest.fixture(scope="session")
def write_documents() -> Callable[[Path, Sequence[tuple[str, str, str]]], None]:
    """`write_documents(path, [(text, source, lang), …])`: one Parquet file in the schema of documents."""

    def write(path: Path, rows: Sequence[tuple[str, str, str]]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        table = [
            {"id": document_id(str(number), text), "text": text, "source": source, "lang": lang, "meta": "{}"}
            for number, (text, source, lang) in enumerate(rows)
        ]
        pq.write_table(pa.Table.from_pylist(table, schema=SCHEMA), path, compression="zstd")

    return write


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full-chain", action="store_true", help="kill every stage three times, not once")


BLOCK_SOCKETS = """
import socket, sys

def _refuse(self, address, *rest):
    if self.family in (socket.AF_INET, socket.AF_INET6):
        sys.stderr.write(f"SOCKET {address}\\n")
        raise OSError("sockets are blocked")
    return _connect(self, address, *rest)

_connect = socket.socket.connect
socket.socket.connect = _refuse
socket.socket.connect_ex = _refuse
"""
"""A sitecustomize that refuses and reports every attempt to reach the network, in each process that inherits it."""


class Finished(NamedTuple):
    """A run that ended: its folder, exit status and what it printed."""

    folder: Path
    status: int
    stdout: str
    stderr: str


def zhen(*arguments: str, cwd: Path | None = None, **environment: str) -> Finished:
    """Run `zhen` in a process of its own, as a user would."""
    clean = {name: value for name, value in os.environ.items() if name != "ZHEN_LAUNCHED"}
    done = subprocess.run(
        [sys.executable, "-m", "zhen", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=clean | environment,
    )
    return Finished(cwd or Path(), done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def micro_run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """`recipes/micro.toml` taken through every stage once, with the network refused to every process of it."""
    base = tmp_path_factory.mktemp("micro")
    (base / "sitecustomize.py").write_text(BLOCK_SOCKETS)
    folder = base / "run"
    done = zhen("run", str(REPOSITORY / "recipes" / "micro.toml"), "--out", str(folder), PYTHONPATH=str(base))
    return done._replace(folder=folder)
