"""Several processes: the losses of one, the same bits in invariant mode, any number going on from any other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from zhen.formats.metrics import read_metrics
from zhen.train.steps import Saved, opened

PLAIN: dict[str, Any] = {
    "dtype": "float32",
    "tokens": 6 * 256,
    "keep_steps": [],
    "evaluate_every": 6,
    "model": {"num_key_value_heads": 2},
}
INVARIANT = PLAIN | {"invariant": True, "micro_batch": 1}
MUON = PLAIN | {
    "optimizer": "muon",
    "model": {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False},
}
NARROW = PLAIN | {"dtype": "bfloat16"}
FLOAT8 = PLAIN | {"dtype": None, "units": -1, "float8": "rowwise_with_gw_hp"}  # of which float32 is no part
CONTEXT: dict[str, Any] = {"parallel": {"context": 2}}
PATIENT: dict[str, Any] = {"parallel": {"context": 2, "timeout": 20.0}}
TENSOR: dict[str, Any] = {"parallel": {"tensor": 2}}
PAIR: dict[str, Any] = {"parallel": {"data": 2, "tensor": 2}}
STOPPED, KILLED = 130, -signal.SIGKILL

RUNS: list[tuple[str, int, dict[str, Any]]] = [
    ("one", 1, PLAIN),
    ("two", 2, PLAIN),
    ("mixed", 2, PLAIN | {"dtype": None, "units": 1}),
    ("mixed-narrow", 2, PLAIN | {"dtype": None, "units": 0, "stop": 2}),
    ("narrow-two", 2, NARROW | {"stop": 2}),
    ("three", 3, PLAIN | {"tokens": 3 * 256, "warmup_steps": 2}),  # 8 sequences: the last process has a filler
    ("tensor", 2, PLAIN | TENSOR | {"stop": 2}),
    ("chain", 1, PLAIN | {"stop": 1}),
    ("chain", 2, PLAIN | {"stop": 1}),
    ("chain", 4, PLAIN | PAIR | {"stop": 1}),
    ("chain", 2, PLAIN | TENSOR | {"stop": 0}),
    ("chain", 2, PLAIN | CONTEXT | {"stop": 0}),
    ("chain", 1, PLAIN),
    ("context", 2, PLAIN | CONTEXT),
    ("data-context", 4, PLAIN | {"parallel": {"data": 2, "context": 2}, "stop": 2}),
    ("context-tensor", 4, PLAIN | {"parallel": {"context": 2, "tensor": 2}, "stop": 2}),
    ("started", 4, PLAIN | PAIR | {"init": "one/checkpoint-0", "stop": 0}),
    ("muon", 1, MUON | {"stop": 2}),
    ("muon-pair", 4, MUON | PAIR | {"stop": 2}),
    ("narrow", 1, NARROW | {"stop": 2}),
    ("narrow-pair", 4, NARROW | PAIR | {"stop": 2}),
    ("float8", 1, FLOAT8 | {"stop": 2}),
    ("float8-pair", 4, FLOAT8 | {"parallel": {"data": 2, "context": 2}, "stop": 2}),
    ("invariant", 1, INVARIANT),
    ("invariant-chain", 4, INVARIANT | {"stop": 1}),
    ("invariant-chain", 1, INVARIANT | {"stop": 1}),
    ("invariant-chain", 2, INVARIANT),
    ("killed", 2, PLAIN | {"fault": {"rank": 1, "update": 5, "kind": "kill"}}),
    ("killed", 2, PLAIN),
    ("stopped", 2, PLAIN | PATIENT | {"fault": {"rank": 1, "update": 5, "kind": "stop"}}),
    ("nan", 2, PLAIN | {"health": {"non_finite": "skip"}, "fault": {"rank": 1, "update": 4, "kind": "nan"}}),
    ("nan-stops", 2, PLAIN | {"fault": {"rank": 1, "update": 4, "kind": "nan"}}),
    ("disk", 2, PLAIN | {"fault": {"rank": 1, "update": 2, "kind": "disk"}}),
]


class Made(NamedTuple):
    folder: Path
    statuses: dict[str, list[list[int]]]
    said: str


@pytest.fixture(scope="module")
def made(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """All the runs, made by one program that loads torch once."""
    folder = tmp_path_factory.mktemp("many")
    runs = [(str(folder / name), size, changes) for name, size, changes in RUNS]
    command = [sys.executable, str(Path(__file__).with_name("many_ranks.py")), str(inputs), json.dumps(runs)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    statuses: dict[str, list[list[int]]] = {}
    for (name, _, _), found in zip(RUNS, json.loads(done.stdout), strict=True):
        statuses.setdefault(name, []).append(found)
    return Made(folder, statuses, done.stderr)


def last(folder: Path) -> Saved:
    return opened(max((folder / "steps").glob("step-*"), key=lambda path: int(path.name[5:])))


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(folder / "metrics.jsonl") if row["kind"] == "train"]


def test_runs_end_as_they_should(made: Made) -> None:
    assert made.statuses == {
        "one": [[0]],
        "two": [[0, 0]],
        "mixed": [[0, 0]],
        "mixed-narrow": [[STOPPED] * 2],
        "narrow-two": [[STOPPED] * 2],
        "three": [[0, 0, 0]],
        "tensor": [[STOPPED] * 2],
        "chain": [[STOPPED], [STOPPED] * 2, [STOPPED] * 4, [STOPPED] * 2, [STOPPED] * 2, [0]],
        "context": [[0, 0]],
        "data-context": [[STOPPED] * 4],
        "context-tensor": [[STOPPED] * 4],
        "started": [[STOPPED] * 4],
        "muon": [[STOPPED]],
        "muon-pair": [[STOPPED] * 4],
        "narrow": [[STOPPED]],
        "narrow-pair": [[STOPPED] * 4],
        "float8": [[STOPPED]],
        "float8-pair": [[STOPPED] * 4],
        "invariant": [[0]],
        "invariant-chain": [[STOPPED] * 4, [STOPPED], [0, 0]],
        "killed": [[2, KILLED], [0, 0]],
        "stopped": [[2, KILLED]],  # by the program, as torchrun would
        "nan": [[0, 0]],
        "nan-stops": [[2, 2]],
        "disk": [[2, 2]],
    }, made.said


@pytest.mark.parametrize("name", ["two", "chain", "context", "killed"])
def test_losses_and_weights_are_those_of_one_process_to_rounding(made: Made, name: str) -> None:
    assert losses(made.folder / name) == pytest.approx(losses(made.folder / "one"), rel=1e-5)
    ours, one = last(made.folder / name), last(made.folder / "one")
    assert (ours.step, set(ours.tensors)) == (6, set(one.tensors))
    for tensor in one.tensors:
        torch.testing.assert_close(ours.tensors[tensor], one.tensors[tensor], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "alone", "tolerance"),
    [
        ("tensor", "one", 1e-5),
        ("data-context", "one", 1e-5),
        ("context-tensor", "one", 1e-5),
        ("muon-pair", "muon", 1e-5),
        ("narrow-pair", "narrow", 1e-3),
        ("float8-pair", "float8", 1e-4),
    ],
)
def test_losses_and_samples_of_more_layouts_are_those_of_one_process(
    made: Made, name: str, alone: str, tolerance: float
) -> None:
    ours, one = losses(made.folder / name), losses(made.folder / alone)
    assert len(ours) == 2
    assert ours == pytest.approx(one[:2], rel=tolerance)
    samples = [(made.folder / run / "samples.jsonl").read_text("utf-8").splitlines() for run in (name, alone)]
    assert samples[0][:4] == samples[1][:4]  # those of step 0


def test_a_run_in_float8_is_another_one(made: Made) -> None:
    ours, one = losses(made.folder / "float8"), losses(made.folder / "one")
    assert ours != pytest.approx(one[:2], rel=1e-5)
    assert ours == pytest.approx(one[:2], rel=1e-2)


@pytest.mark.parametrize("name", ["two", "tensor", "started"])
def test_every_layout_starts_from_the_same_bits(made: Made, name: str) -> None:
    ours, one = (made.folder / run / "checkpoint-0" / "model.safetensors" for run in (name, "one"))
    assert ours.read_bytes() == one.read_bytes()


@pytest.mark.parametrize(("name", "same"), [("mixed", "two"), ("mixed-narrow", "narrow-two")])
def test_machines_of_two_kinds_multiply_in_what_suits_process_0(made: Made, name: str, same: str) -> None:
    assert losses(made.folder / name) == losses(made.folder / same)


def test_what_can_not_be_shared_evenly_counts_once(made: Made) -> None:
    assert losses(made.folder / "three")[0] == pytest.approx(losses(made.folder / "one")[0], rel=1e-6)


def test_invariant_mode_has_the_same_bits_on_any_number_and_across_changes(made: Made) -> None:
    ours, one = last(made.folder / "invariant-chain"), last(made.folder / "invariant")
    assert ours.step == one.step == 6
    for tensor in one.tensors:
        assert torch.equal(ours.tensors[tensor], one.tensors[tensor]), tensor
    for name in ("checkpoint/model.safetensors", "samples.jsonl", "steps/step-000006/state.json"):
        both = [made.folder / run / name for run in ("invariant", "invariant-chain")]
        assert both[0].read_bytes() == both[1].read_bytes(), name
    assert losses(made.folder / "invariant-chain") == losses(made.folder / "invariant")


def test_invariant_mode_is_the_plain_one_to_rounding(made: Made) -> None:
    assert losses(made.folder / "invariant") == pytest.approx(losses(made.folder / "one"), rel=1e-5)


def test_every_process_writes_its_part(made: Made) -> None:
    folder = made.folder / "two" / "steps" / "step-000006"
    sizes = [(folder / f"rank-0000{rank}.safetensors").stat().st_size for rank in (0, 1)]
    assert 0.8 < sizes[0] / sizes[1] < 1.25


def test_a_killed_process_ends_the_others_with_one_message(made: Made) -> None:
    lines = [line for line in made.said.splitlines() if "is gone" in line]
    assert len(lines) == 2  # of the killed and of the stopped one
    assert all(line.startswith("0: ") for line in lines)
    assert all("the same command goes on from the last training checkpoint" in line for line in lines)


def test_a_number_that_is_none_on_one_process_is_skipped_by_all(made: Made) -> None:
    rows = [row for row in read_metrics(made.folder / "nan" / "metrics.jsonl") if row["kind"] == "train"]
    assert [row["step"] for row in rows] == [1, 2, 3, 5, 6]
    for rank in (0, 1):
        notes, events = json.loads((made.folder / "nan" / f"notes-{rank}.json").read_text())
        assert "skipped" in events
        assert any(note.startswith("step 4: skipped, the loss is nan") for note in notes)
    before = losses(made.folder / "two")[:3]
    assert [row["loss"] for row in rows[:3]] == before


def test_torchrun_begins_anew_after_a_kill_and_the_end_is_the_same(inputs: Path, made: Made) -> None:
    folder = made.folder / "restarted"
    folder.mkdir()
    changes = PLAIN | {"fault": {"rank": 1, "update": 5, "kind": "kill"}}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", "1", str(Path(__file__).with_name("many_ranks.py"))]
    done = subprocess.run(
        [*command, str(inputs), str(folder), json.dumps(changes)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "exitcode: -9" in done.stderr
    assert "resumed" in json.loads((folder / "notes-0.json").read_text())[1]
    assert losses(folder) == pytest.approx(losses(made.folder / "one"), rel=1e-5)


def test_errors_on_both_are_told_once(made: Made) -> None:
    assert made.said.count("step 4: the loss is nan") == 1
    assert made.said.count("File too large") == 1
    assert last(made.folder / "disk").step == 0  # the one before is whole
