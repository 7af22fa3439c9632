"""One run folder, killed again and again and gone on with: the results are those of a run that nobody disturbed."""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from zhen.recipe import load_recipe
from zhen.run import records_of, stages_of

MICRO = Path(__file__).resolve().parents[2] / "recipes" / "micro.toml"
SEED = 20231114
NAMES = [stage.name for stage in stages_of(load_recipe(MICRO))]
SECONDS = 600.0
"""Without a line from a run, after which it counts as hung; a busy machine has been silent for two minutes."""


def start(folder: Path) -> subprocess.Popen[bytes]:
    environment = dict(os.environ) | {"ZHEN_PROGRESS": "json", "OMP_NUM_THREADS": "1", "ZHEN_TEST_RUN": str(folder)}
    environment.pop("ZHEN_LAUNCHED", None)
    return subprocess.Popen(
        [sys.executable, "-m", "zhen", "run", str(MICRO), "--out", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    )


def lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Standard error line by line until every process that holds it is gone; fails when nothing comes for long."""
    assert process.stderr is not None
    handle, rest = process.stderr.fileno(), b""
    while True:
        if not select.select([handle], [], [], SECONDS)[0]:
            pytest.fail(f"nothing printed for {SECONDS} s and a process still holds standard error")
        piece = os.read(handle, 1 << 16)
        if not piece:
            return
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line.decode() for line in whole)


def stage_of(line: str) -> str | None:
    return json.loads(line)["stage"] if line.startswith('{"stage"') else None


def complete(folder: Path) -> Counter[str]:
    """Run to the end; progress events by stage."""
    process = start(folder)
    printed = list(lines(process))
    assert process.wait() == 0, "\n".join(line for line in printed if stage_of(line) is None)
    return Counter(stage for line in printed if (stage := stage_of(line)))


def kill_at(folder: Path, stage: str, number: int) -> bool:
    """SIGKILL the run at a stage's progress event of that number; False if the stage ended before."""
    process = start(folder)
    seen, killed = 0, False
    for line in lines(process):
        if not killed and stage_of(line) == stage:
            seen += 1
            if seen == number:
                process.kill()
                killed = True
    process.wait()
    # standard error is closed: the workers, which share it, are gone with their parent
    return killed


def results(folder: Path) -> dict[str, str]:
    """Hash of every output of kind `result`, by stage and path, read from the disk's files as recorded."""
    return {
        f"{name}/{output.path}": output.sha256
        for name, (_, record) in records_of(folder).items()
        for output in record.outputs
        if output.kind == "result"
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Counter[str]]:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    events = complete(folder)
    return results(folder), events


def alive(folder: Path) -> list[int]:
    """Processes that a run on `folder` started and that still exist: they inherited its mark."""
    mark = f"ZHEN_TEST_RUN={folder}".encode()
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
        except OSError:
            continue
    return found


def test_a_chain_of_kills_ends_in_the_bits_of_an_undisturbed_run(
    tmp_path: Path, undisturbed: tuple[dict[str, str], Counter[str]], request: pytest.FixtureRequest
) -> None:
    expected, events = undisturbed
    assert set(events) == set(NAMES)
    draw, folder, kills = random.Random(SEED), tmp_path / "run", Counter[str]()
    wanted = 3 if request.config.getoption("--full-chain") else 1
    for stage in NAMES:
        while kills[stage] < wanted:
            # the share that earlier attempts left undone shrinks, so later kills come earlier
            last = max(1, events[stage] // (2 * (kills[stage] + 1)))
            assert kill_at(folder, stage, draw.randint(1, last)), f"{stage} ended before it could be killed again"
            kills[stage] += 1
    print(f"{sum(kills.values())} kills: {dict(kills)}")
    complete(folder)
    assert results(folder) == expected


def test_after_a_kill_no_worker_is_left_that_could_write(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert kill_at(folder, "data.scan", 2)
    deadline = time.monotonic() + 5.0
    while alive(folder) and time.monotonic() < deadline:
        select.select([], [], [], 0.01)
    assert alive(folder) == []


def test_two_fresh_runs_give_the_same_bits(tmp_path: Path, undisturbed: tuple[dict[str, str], Counter[str]]) -> None:
    complete(tmp_path / "run")
    assert results(tmp_path / "run") == undisturbed[0]
