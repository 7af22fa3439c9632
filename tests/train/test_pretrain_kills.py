"""Killed anywhere, however often: the same bits in the end."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from zhen.formats.metrics import read_metrics

KILLED = -9


@pytest.fixture(scope="module")
def unkilled(small_run: ModuleType, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    context = small_run.context_for(inputs, tmp_path_factory.mktemp("unkilled"))
    small_run.run(context)
    return small_run.results(context)


SINGLE = (9, 27, 38, 49, 80)
"""File operations at which a run of its own is killed."""


@pytest.fixture(scope="module")
def killed(small_run: ModuleType, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, list[int]]:
    """Folder -> exit statuses of the attempts made on it, by one process of their own for all (it loads torch once)."""
    folder = tmp_path_factory.mktemp("killed")
    attempts = []
    for kind, last in (("event", 6), ("file", 60)):
        moments = random.Random(2)
        attempts += [(folder / kind, kind, moments.randint(1, last)) for _ in range(8)]
    attempts += [(folder / str(number), "file", number) for number in SINGLE]
    command = [sys.executable, small_run.__file__, str(inputs), json.dumps(attempts, default=str)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, check=True)
    statuses: dict[Path, list[int]] = {}
    for (place, _, _), status in zip(attempts, json.loads(done.stdout), strict=True):
        statuses.setdefault(place, []).append(status)
    return statuses


@pytest.mark.parametrize("kind", ["event", "file"])
def test_a_chain_of_kills_ends_in_the_same_bits(
    small_run: ModuleType, inputs: Path, killed: dict[Path, list[int]], unkilled: dict[str, bytes], kind: str
) -> None:
    (folder,) = (place for place in killed if place.name == kind)
    assert killed[folder].count(KILLED) >= 4
    context = small_run.context_for(inputs, folder)
    small_run.run(context)
    assert small_run.results(context) == unkilled
    steps = [row["step"] for row in read_metrics(folder / "metrics.jsonl") if row["kind"] == "train"]
    assert steps == list(range(1, 13))


def test_a_kill_at_any_file_operation_is_made_good(
    small_run: ModuleType, inputs: Path, killed: dict[Path, list[int]], unkilled: dict[str, bytes]
) -> None:
    single = {place: statuses for place, statuses in killed.items() if place.name.isdecimal()}
    assert list(single.values()) == [[KILLED]] * len(SINGLE)
    for folder in single:
        context = small_run.context_for(inputs, folder)
        small_run.run(context)
        assert small_run.results(context) == unkilled, folder.name
