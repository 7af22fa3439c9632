"""A rename in place that is killed, at every one of its changes or at any instant, leaves the old or the new folder."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.rename import Wanted, rename_checkpoint
from zhen.formats.files import TEMPORARY

SERVER = """
import os, signal, sys
from zhen.checkpoint.disk import Disk
from zhen.checkpoint.rename import Wanted, rename_checkpoint

CHANGES = ("write", "create", "insert", "sync", "replace", "remove")

class Deadly(Disk):
    def __init__(self, last):
        super().__init__()
        self.left = last
    def __getattribute__(self, name):
        if name in CHANGES:
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
        return super().__getattribute__(name)

for line in sys.stdin:
    folder, last = line.split()
    child = os.fork()
    if not child:
        rename_checkpoint(folder, Wanted(target="llama", in_place=True, verify=False), disk=Deadly(int(last)))
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Renamer:
    """Renames in a process of its own, which can be killed; the interpreter is started once."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([sys.executable, "-c", SERVER], stdin=pipe, stdout=pipe, text=True)

    def run(self, folder: Path, last: int = -1, seconds: float | None = None) -> bool:
        """Rename, killed before change number `last` or after `seconds`; returns whether it was killed."""
        assert self._process.stdin
        assert self._process.stdout
        print(folder, last, file=self._process.stdin, flush=True)
        child = int(self._process.stdout.readline())
        if seconds is not None:
            if select.select([self._process.stdout], [], [], seconds)[0]:
                return int(self._process.stdout.readline()) != 0
            with suppress(ProcessLookupError):  # it may have ended just now
                os.kill(child, signal.SIGKILL)
        status = int(self._process.stdout.readline())
        assert status in (0, signal.SIGKILL)
        return status != 0

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture
def renamer(inserts: None) -> Iterator[Renamer]:
    made = Renamer()
    yield made
    made.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.startswith(TEMPORARY)}


@pytest.fixture
def both(tmp_path: Path, write_yi: Callable[..., Path]) -> tuple[Path, list[dict[str, bytes]]]:
    """A folder to be copied and renamed, and what it holds before and after."""
    folder = write_yi(tmp_path / "yi", layers=6, shard_bytes=7000)
    rename_checkpoint(folder, Wanted(target="llama", verify=False, out=tmp_path / "new"))
    return folder, [contents(folder), contents(tmp_path / "new")]


def test_killed_before_each_of_its_changes(
    tmp_path: Path, renamer: Renamer, both: tuple[Path, list[dict[str, bytes]]]
) -> None:
    folder, (old, new) = both
    found = []
    killed, change = True, 0
    while killed:
        work = tmp_path / f"work-{change}"
        shutil.copytree(folder, work)
        killed = renamer.run(work, last=change)
        open_checkpoint(work)
        found.append([old, new].index(contents(work)))
        change += 1
    assert change > 20
    assert found == sorted(found), "new once the journal is there, old before"
    assert 0 < sum(found) < len(found)


def test_killed_at_random_instants(
    tmp_path: Path,
    renamer: Renamer,
    both: tuple[Path, list[dict[str, bytes]]],
    request: pytest.FixtureRequest,
) -> None:
    folder, states = both
    work = tmp_path / "work"
    shutil.copytree(folder, work)
    started = time.monotonic()
    assert not renamer.run(work)
    whole = time.monotonic() - started
    draw = random.Random(4)
    for _ in range(200 if request.config.getoption("--full-chain") else 12):
        shutil.rmtree(work)
        shutil.copytree(folder, work)
        renamer.run(work, seconds=draw.uniform(0, 1.2 * whole))
        open_checkpoint(work)
        assert contents(work) in states
