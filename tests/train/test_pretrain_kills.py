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


def chain(small_run: ModuleType, inputs: Path, attempts: list[tuple[str, str, int]]) -> list[int]:
    """Exit statuses of attempts (folder, what to count, number at which to die), made by a process of their own."""
    command = [sys.executable, small_run.__file__, str(inputs), json.dumps(attempts)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def unkilled(small_run: ModuleType, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    context = small_run.context_for(inputs, tmp_path_factory.mktemp("unkilled"))
    small_run.run(context)
    return small_run.results(context)


@pytest.mark.parametrize("kind", ["event", "file"])
def test_a_chain_of_kills_ends_in_the_same_bits(
    small_run: ModuleType, inputs: Path, tmp_path: Path, unkilled: dict[str, bytes], kind: str
) -> None:
    moments = random.Random(2)
    kills = [(str(tmp_path), kind, moments.randint(1, 6 if kind == "event" else 60)) for _ in range(8)]
    statuses = chain(small_run, inputs, kills)
    assert statuses.count(KILLED) >= 4
    context = small_run.context_for(inputs, tmp_path)
    small_run.run(context)
    assert small_run.results(context) == unkilled
    steps = [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl") if row["kind"] == "train"]
    assert steps == list(range(1, 13))


def test_a_kill_at_any_file_operation_is_made_good(
    small_run: ModuleType, inputs: Path, tmp_path: Path, unkilled: dict[str, bytes]
) -> None:
    numbers = (9, 27, 38, 49, 80)
    statuses = chain(small_run, inputs, [(str(tmp_path / str(number)), "file", number) for number in numbers])
    assert statuses == [KILLED] * len(numbers)
    for number in numbers:
        context = small_run.context_for(inputs, tmp_path / str(number))
        small_run.run(context)
        assert small_run.results(context) == unkilled, number
