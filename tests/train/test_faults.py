"""Faults made for real: errors of the arithmetic, a host that can't, what stands still, a full disk, one of several."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
import torch
import torch.distributed as dist

from zhen.errors import ZhenError
from zhen.formats.metrics import MetricsFile, read_metrics
from zhen.formats.record import key_of, result_sections
from zhen.formats.stage import Context
from zhen.model.config import PRESETS
from zhen.model.size import parameters
from zhen.model.transformer import Transformer, initialise
from zhen.train import preflight, ranks, training
from zhen.train.batch import Batch
from zhen.train.loop import accumulate
from zhen.train.parallel import ONE
from zhen.train.preflight import Host, Need
from zhen.train.replay import Replay
from zhen.train.settings import Health, PretrainSettings

CONFIG = msgspec.structs.replace(PRESETS["micro"], vocab_size=50)


def model_and_batch() -> tuple[Transformer, Batch]:
    model = Transformer(CONFIG)
    initialise(model, 1)
    tokens = torch.randint(0, 50, (3, 17), generator=torch.Generator().manual_seed(1))
    ones = torch.ones(3, 16, dtype=torch.bool)
    return model, Batch(tokens[:, :-1], tokens[:, 1:], ones, ~ones)


def computing(model: Transformer, batch: Batch, wrong: Sequence[int]) -> Callable[[], tuple[torch.Tensor, int]]:
    """Adds to the gradient; the passes `wrong` have one bit of it flipped, each another one."""
    passes = iter(range(100))

    def compute() -> tuple[torch.Tensor, int]:
        found = accumulate(model, batch, micro_batch=2, dtype=torch.float32)
        if (number := next(passes)) in wrong:
            gradient = model.model.layers[0].get_parameter("mlp.up_proj.weight").grad
            assert gradient is not None
            gradient.view(torch.int32)[number, 3] ^= 1 << number
        return found

    return compute


@pytest.mark.parametrize("wrong", [[], [0], [1]])
def test_an_update_computed_twice_is_the_right_one_whichever_was_wrong(wrong: list[int]) -> None:
    model, batch = model_and_batch()
    accumulate(model, batch, micro_batch=2, dtype=torch.float32)
    wanted = [each.grad.clone() for each in model.parameters() if each.grad is not None]
    model.zero_grad()
    told: list[tuple[int, str, str]] = []
    replay = Replay(10, model, ONE, ["here"], lambda *given: told.append(given))
    replay.checked(20, computing(model, batch, wrong))
    for each, gradient in zip(model.parameters(), wanted, strict=True):
        assert each.grad is not None
        assert torch.equal(each.grad, gradient)
    assert told == ([(20, "transient", "here")] if wrong else [])


@pytest.mark.parametrize("wrong", [[0, 2], [0, 1, 2], [1, 3]])
def test_an_error_that_comes_again_ends_the_run(wrong: list[int]) -> None:
    model, batch = model_and_batch()
    told: list[tuple[int, str, str]] = []
    replay = Replay(10, model, ONE, ["here"], lambda *given: told.append(given))
    with pytest.raises(ZhenError, match="step 20, here: the same update, computed four times, came to different bits"):
        replay.checked(20, computing(model, batch, wrong))
    assert told == [(20, "persistent", "here")]


def test_other_updates_are_computed_once() -> None:
    calls: list[int] = []

    def compute() -> tuple[torch.Tensor, int]:
        calls.append(1)
        return torch.zeros(()), 1

    for every in (0, 10):
        Replay(every, torch.nn.Identity(), ONE, ["here"], lambda *given: None).checked(15, compute)
    assert len(calls) == 2


def test_how_often_is_no_part_of_the_key_but_what_is_left_out_is() -> None:
    given = PretrainSettings(tokens=100, tokens_per_step=10, sequence_length=5, learning_rate=1e-2)
    keys = [
        key_of(result_sections({"pretrain": msgspec.structs.replace(given, health=health)}))
        for health in (Health(), Health(replay_every=7), Health(spike="skip"))
    ]
    assert keys[0] == keys[1] != keys[2]


def test_a_product_that_is_wrong_in_one_place_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    preflight._check_products(torch.device("cpu"))
    whole = torch.mm

    def wrong(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        product = whole(left, right)
        product[5, 7] += 1
        return product

    monkeypatch.setattr(torch, "mm", wrong)
    with pytest.raises(ZhenError, match=r"1 of 30,720 numbers of a product of matrices are wrong \(float32\)"):
        preflight._check_products(torch.device("cpu"))


def host(name: str = "a", **changes: Any) -> Host:
    given = {"clock": 1e9, "cores": 2, "memory": 10**9, "device_memory": None, "disk": 10**9, "matmul": 1e11}
    return Host(name=name, copy=1e10, **given | changes)


@pytest.mark.parametrize(
    ("hosts", "found"),
    [
        ([host()], None),
        ([host(), host("b", disk=299)], "b: 299 B of disk are free; expected at least 300 B"),
        ([host(memory=250), host(memory=250)], "a: 250 B of memory are free; expected at least 300 B"),
        ([host(memory=250), host("b", memory=150)], None),
        ([host(device_memory=40)], "a: 40 B of GPU memory are free; expected at least 50 B"),
    ],
)
def test_a_host_without_room_is_told_before_it_trains(hosts: list[Host], found: str | None) -> None:
    needed = Need(device=50, host=100, disk=300)
    device = "cpu" if hosts[0].device_memory is None else "cuda"
    with pytest.raises(ZhenError, match=found) if found else nullcontext():
        preflight._check_room(hosts, needed, device)


def test_what_a_training_takes_is_what_it_leaves(small_run: ModuleType, inputs: Path, tmp_path: Path) -> None:
    context = small_run.context_for(inputs, tmp_path, checkpoint_every=5)
    needed = preflight.need(context.sections["pretrain"], CONFIG, ONE, tmp_path)
    small_run.run(context)
    sizes = [path.stat().st_size for path in tmp_path.rglob("*.safetensors")]
    per_number = 4 + 2 * 12 + 12 + 2 * 2  # step 0; steps 10 and 12; step 6, kept; two checkpoints for people
    assert needed.disk == (per_number + 12) * parameters(CONFIG)  # step 5 goes when step 12 is there
    found = json.loads((tmp_path / "checkpoint" / "config.json").read_text())
    trained = parameters(msgspec.structs.replace(CONFIG, vocab_size=found["vocab_size"]))
    assert sum(sizes) == pytest.approx(per_number * trained, rel=0.05)
    (event,) = [event for event in context.events if event.kind == "host"]
    assert event.data["processes"] == 1
    assert event.data["matmul_flops"] == 1e11


def test_a_host_is_looked_at_before_what_it_has_to_hold_is_in_its_memory(
    small_run: ModuleType, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_run.run(small_run.context_for(inputs, tmp_path, tokens=4 * 256))
    (tmp_path / "checkpoint" / "config.json").unlink()
    order: list[str] = []

    def noted(name: str) -> None:
        whole = getattr(training, name)
        monkeypatch.setattr(training, name, lambda *given: (order.append(name), whole(*given))[1])

    noted("preflight")
    noted("go_on")
    small_run.run(small_run.context_for(inputs, tmp_path, tokens=4 * 256))
    assert order == ["preflight", "go_on"]


def test_a_slow_host_and_a_clock_that_is_wrong_are_told(small_run: ModuleType, tmp_path: Path) -> None:
    line = small_run.Line()
    context = Context(tmp_path, {}, {}, line, lambda: False, 1)
    preflight._tell(context, [host(), host(matmul=4e10), host("b", clock=1e9 + 7)])
    assert [event.kind for event in context.events] == ["host", "host", "slow-host", "clocks"]
    assert [event.data["processes"] for event in context.events[:2]] == [2, 1]
    assert context.events[2].data["process"] == 1
    assert "7 seconds apart" in line.notes[1]


def test_a_run_that_torchrun_begins_anew_without_progress_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setattr(ranks, "_store", lambda: store)
    for place in ["a, step 0", *["a, step 10"] * 3]:
        ranks.Ranks(0, 2).begun(place)
        ranks.Ranks(1, 2).begun(place)
    with pytest.raises(ZhenError, match="a, step 10: was begun 4 times without coming to another training checkpoint"):
        ranks.Ranks(0, 2).begun("a, step 10")


def test_a_process_that_stands_in_code_which_holds_the_lock_of_python_ends_too() -> None:
    program = """
import ctypes
from zhen.train.health import Watchdog

Watchdog(0.1).beat()
ctypes.PyDLL(None).pause()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Timeout" in done.stderr


def test_a_file_of_metrics_that_can_not_grow_is_told() -> None:
    file = MetricsFile(Path("/dev/full"))
    with pytest.raises(ZhenError, match="/dev/full: can't be written: No space left on device"):
        file.append({"step": 1})
    file.close()


PLAIN: dict[str, Any] = {"dtype": "float32", "tokens": 6 * 256, "keep_steps": [], "evaluate_every": 6}
DISK = "full"


Made = tuple[Path, dict[str, list[list[int]]], str]


@pytest.fixture(scope="module")
def made(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Runs of one and two processes: folder, exit statuses by name, what they said.

    One is made on a disk of 4 MB where this machine lets us have one, and copied to `full-kept` in the end.
    """
    folder = tmp_path_factory.mktemp("faults")
    filler = {"rank": 0, "update": 4, "kind": "full", "file": str(folder / DISK / "filler")}
    runs: list[tuple[str, int, dict[str, Any]]] = [
        ("plain", 1, PLAIN),
        ("hung", 2, PLAIN | {"fault": {"rank": 1, "update": 5, "kind": "hang"}}),
        ("silent", 2, PLAIN | {"health": {"replay_every": 2}, "fault": {"rank": 1, "update": 4, "kind": "silent"}}),
        ("spiked", 2, {"spiked": True}),
    ]
    (folder / DISK).mkdir()
    mount = 'mount -t tmpfs -o size=4m none "$0" && "$@"; status=$?; cp -r "$0" "$0-kept"; exit $status'
    on_small_disk = ["unshare", "-m", "bash", "-c", mount, str(folder / DISK)]
    if shutil.which("unshare") and not subprocess.run([*on_small_disk, "true"], capture_output=True).returncode:
        shutil.rmtree(folder / f"{DISK}-kept")
        runs += [(DISK, 1, PLAIN | {"fault": filler}), (DISK, 1, PLAIN | {"remove": filler["file"]})]
    else:
        on_small_disk = []
    program = str(Path(__file__).with_name("many_ranks.py"))
    given = json.dumps([(str(folder / name), size, changes) for name, size, changes in runs])
    command = [*on_small_disk, sys.executable, program, str(inputs), given]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    statuses: dict[str, list[list[int]]] = {}
    for (name, _, _), found in zip(runs, json.loads(done.stdout), strict=True):
        statuses.setdefault(name, []).append(found)
    return folder, statuses, done.stderr


def test_a_process_that_hangs_ends_itself_and_then_the_others_end(made: Made) -> None:
    _, statuses, said = made
    assert statuses["hung"] == [[2, 1]], said
    assert "Timeout" in said
    assert "in strike" in said  # the stack of the one that hung
    assert "process 0 of 2 waited for another one that is gone" in said


def test_an_error_of_one_process_is_found_told_with_its_host_and_changes_nothing(made: Made) -> None:
    folder, statuses, said = made
    assert statuses["silent"] == [[0, 0]], said
    notes, events = json.loads((folder / "silent" / "notes-0.json").read_text())
    assert "step 4: computed twice with different results, transient error on host-1" in notes
    assert events.count("mismatch") == 1
    losses = [row["loss"] for row in read_metrics(folder / "silent" / "metrics.jsonl") if row["kind"] == "train"]
    plain = [row["loss"] for row in read_metrics(folder / "plain" / "metrics.jsonl") if row["kind"] == "train"]
    assert losses == pytest.approx(plain, rel=1e-5)


def test_two_processes_go_back_from_a_spike_alike(made: Made) -> None:
    folder, statuses, said = made
    assert statuses["spiked"] == [[0, 0]], said
    (found,) = json.loads((folder / "spiked" / "steps" / "rewinds.json").read_text())
    assert found == {"update": 20, "step": 14, "left_out": [14, 26]}  # as test_rewind.py finds it for one
    for rank in (0, 1):
        _, events = json.loads((folder / "spiked" / f"notes-{rank}.json").read_text())
        assert events.count("rewind") == 1


def test_a_full_disk_ends_the_run_which_goes_on_when_there_is_room(made: Made) -> None:
    folder, statuses, said = made
    if DISK not in statuses:
        pytest.skip("no file systems can be mounted here")
    assert statuses[DISK] == [[2], [0]], said
    assert "No space left on device" in said
    kept = folder / f"{DISK}-kept"
    for name in ("checkpoint/model.safetensors", "samples.jsonl", "steps/step-000006/rank-00000.safetensors"):
        assert (kept / name).read_bytes() == (folder / "plain" / name).read_bytes(), name
    steps = [row["step"] for row in read_metrics(kept / "metrics.jsonl") if row["kind"] == "train"]
    assert steps == list(range(1, 7))
