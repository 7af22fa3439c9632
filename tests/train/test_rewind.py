"""Going back to before a spike: what is left out, that the rest is as if it had never been there, and kills within."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import spiked_run

from zhen.formats.metrics import read_metrics
from zhen.formats.stage import Context
from zhen.train import health, training
from zhen.train.settings import Health

KILLED = -9


class Whole(NamedTuple):
    context: Context
    asked: list[int]
    results: dict[str, bytes]


@pytest.fixture(scope="module")
def whole(small_run: ModuleType, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A run that met a spike and was never stopped."""
    context, spiked = spiked_run.context_for(inputs, tmp_path_factory.mktemp("whole")), spiked_run.Spiked()
    with pytest.MonkeyPatch.context() as patch:
        restore(patch)
        spiked_run.run(context, spiked)
    return Whole(context, spiked.asked, small_run.results(context))


def restore(patch: pytest.MonkeyPatch) -> None:
    """Have undone at the end what the program's `run` puts into the package."""
    patch.setattr(health, "SPIKE_LEAST", health.SPIKE_LEAST)
    patch.setattr(training, "packed_batch", training.packed_batch)


def test_a_rewind_leaves_out_the_batches_around_the_spike(whole: Whole) -> None:
    before, left_out = 20 - 1 - 5, 12  # the first update that stands out is the 20th, of batch 19
    again = range(12, before)  # the newest training checkpoint that far back is that of step 12
    assert whole.asked == [*range(22), *again, *range(before + left_out, 30 + left_out)]
    (found,) = json.loads(whole.results["steps/rewinds.json"])
    assert found == {"update": 20, "step": before, "left_out": [before, before + left_out]}
    (event,) = [event for event in whole.context.events if event.kind == "rewind"]
    assert event.data == {"step": 20, "back_to": 12, "left_out": [before, before + left_out]}


@pytest.mark.parametrize("every", [3, 5, 6, 7, 10])
def test_a_training_checkpoint_far_enough_back_is_there_wherever_the_spike_falls(
    inputs: Path, tmp_path: Path, every: int
) -> None:
    context, spiked = spiked_run.context_for(inputs, tmp_path, checkpoint_every=every), spiked_run.Spiked()
    with pytest.MonkeyPatch.context() as patch:
        restore(patch)
        spiked_run.run(context, spiked)
    (event,) = [event for event in context.events if event.kind == "rewind"]
    assert event.data["back_to"] == (20 - 1 - 5) // every * every


def test_the_metrics_have_each_step_once_and_no_trace_of_what_was_undone(whole: Whole) -> None:
    rows = list(read_metrics(whole.context.folder / "metrics.jsonl"))
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(1, 31))
    assert max(row["loss"] for row in rows if row["kind"] == "train" and row["step"] > 15) < 3
    assert [row["step"] for row in rows if row["kind"] == "start"] == [0]


def test_the_model_is_that_of_a_run_that_was_never_given_those_batches(
    small_run: ModuleType, inputs: Path, tmp_path: Path, whole: Whole
) -> None:
    context = spiked_run.context_for(inputs, tmp_path, health=Health())
    with pytest.MonkeyPatch.context() as patch:
        restore(patch)
        spiked_run.run(context, spiked_run.Spiked(lambda number: number if number < 14 else number + 12))
    made = small_run.results(context)
    for name in ("checkpoint/model.safetensors", "samples.jsonl", "steps/step-000028/rank-00000.safetensors"):
        assert made[name] == whole.results[name], name


KILLS = [*(("file", number) for number in (120, 121, 125, 131)), ("event", 24)]
"""Before `rewinds.json` has its name, before that is durable, while what was undone is removed, and after it."""

CHAIN = [("file", 121), ("file", 3), ("event", 2), ("file", 20)]


def test_killed_around_a_rewind_a_run_ends_in_the_same_bits(
    small_run: ModuleType, inputs: Path, tmp_path: Path, whole: Whole
) -> None:
    single = [(str(tmp_path / f"{kind}-{number}"), kind, number) for kind, number in KILLS]
    chain = [(str(tmp_path / "chain"), kind, number) for kind, number in CHAIN]
    done = [(folder, "", 0) for folder in dict.fromkeys(folder for folder, _, _ in single + chain)]
    command = [sys.executable, spiked_run.__file__, str(inputs), json.dumps(single + chain + done)]
    made = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, check=True)
    statuses = json.loads(made.stdout)
    assert statuses[: len(single)] == [KILLED] * len(single)
    assert statuses[-len(done) :] == [0] * len(done)
    for folder, _, _ in done:
        for name, content in whole.results.items():
            assert (Path(folder) / name).read_bytes() == content, (folder, name)
        steps = [row["step"] for row in read_metrics(Path(folder) / "metrics.jsonl") if row["kind"] == "train"]
        assert steps == list(range(1, 31)), folder
