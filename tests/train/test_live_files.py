"""What training tells while it goes on: groups, machine, events, bell, tracker; and that none of it changes a bit."""

from __future__ import annotations

import json
import math
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from zhen.errors import Interrupted, ZhenError
from zhen.formats.metrics import read_metrics
from zhen.model.config import PRESETS
from zhen.model.transformer import Transformer, initialise
from zhen.train import groups, journal, training
from zhen.train.bell import Bell
from zhen.train.monitor import HangWatch, read_machine
from zhen.train.tracker import Tracker


@pytest.fixture(scope="module")
def finished(small_run: ModuleType, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    context = small_run.context_for(inputs, tmp_path_factory.mktemp("live") / "stages" / "pretrain-00000000")
    small_run.run(context)
    return context


def rows_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [row for row in read_metrics(folder / "metrics.jsonl") if row["kind"] == kind]


def events_of(folder: Path) -> list[tuple[str, int | None]]:
    return [(row["kind"], row["step"]) for row in read_metrics(folder / "events.jsonl")]


def test_looking_at_groups_changes_no_bit(
    small_run: ModuleType, inputs: Path, tmp_path: Path, finished: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "due", lambda step: False)
    context = small_run.context_for(inputs, tmp_path / "stages" / "pretrain-00000000")
    small_run.run(context)
    assert rows_of(context.folder, "groups") == []
    assert len(rows_of(finished.folder, "groups")) == 2
    assert small_run.results(context) == small_run.results(finished)


def test_groups_are_what_they_say() -> None:
    model = Transformer(PRESETS["micro"].__class__(**{**_fields(PRESETS["micro"]), "vocab_size": 50}))
    initialise(model, 1)
    tokens = torch.arange(24)[None] % 50
    model(tokens).float().logsumexp(-1).sum().backward()
    state = torch.get_rng_state()
    found = groups.look(model, tokens, torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    layers = "model.layers."
    where = {
        "embedding": lambda name: "embed" in name,
        "head": lambda name: name == "lm_head.weight",
        "attention": lambda name: (
            name.startswith(layers) and name.endswith(tuple("qkvo"[i] + "_proj.weight" for i in range(4)))
        ),
        "feed_forward": lambda name: ".gate_proj" in name or ".up_proj" in name or ".down_proj" in name,
        "norms": lambda name: "norm" in name,
    }
    for group, holds in where.items():
        own = [p for name, p in model.named_parameters() if holds(name)]
        if not own:
            assert group not in found["weight_rms"]
            continue
        flat = torch.cat([p.detach().double().flatten() for p in own])
        gradient = torch.cat([p.grad.double().flatten() for p in own])
        assert found["weight_rms"][group] == pytest.approx(float(flat.square().mean().sqrt()), rel=1e-5)
        assert found["gradient_norm"][group] == pytest.approx(float(gradient.norm()), rel=1e-5)
    with torch.no_grad():
        logits = model(tokens).double()
        embedded = model.model.embed_tokens(tokens).double()
    assert found["activation_rms"]["head"] == pytest.approx(float(logits.square().mean().sqrt()), rel=1e-4)
    assert found["activation_rms"]["embedding"] == pytest.approx(float(embedded.square().mean().sqrt()), rel=1e-4)
    assert set(found["activation_rms"]) == set(groups.GROUPS)


def _fields(config: Any) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__struct_fields__}


def test_the_norms_of_the_groups_make_up_the_whole(finished: Any) -> None:
    norms = {row["step"]: row["gradient_norm"] for row in rows_of(finished.folder, "train")}
    for row in rows_of(finished.folder, "groups"):
        whole = math.sqrt(math.fsum(value**2 for value in row["gradient_norm"].values()))
        assert whole == pytest.approx(norms[row["step"]], rel=1e-4)


def test_events_tell_what_happened_as_it_happens(finished: Any) -> None:
    told = [(kind, step) for kind, step in events_of(finished.folder) if kind not in ("repeated", "host")]
    assert told == [
        ("started", 0),
        *(("checkpoint", step) for step in (0, 3, 6, 9, 12)),
        ("finished", 12),
    ]
    assert finished.outputs["events.jsonl"][0] == "log"


def test_events_outlive_a_stop_and_the_cut_of_the_metrics(small_run: ModuleType, inputs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stages" / "pretrain-00000000"
    context = small_run.context_for(inputs, folder, stop=lambda: (folder / "steps" / "step-000003").exists())
    with pytest.raises(Interrupted):
        small_run.run(context)
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"time": "2026-')  # killed while writing
    small_run.run(small_run.context_for(inputs, folder))
    kinds = events_of(folder)
    stopped = next(step for kind, step in kinds if kind == "stopped")
    assert ("started", stopped) in kinds
    assert ("resumed", stopped) in kinds
    assert kinds[-1] == ("finished", 12)


def test_a_run_that_fails_says_why(small_run: ModuleType, inputs: Path, tmp_path: Path) -> None:
    context = small_run.context_for(inputs, tmp_path / "stages" / "pretrain-00000000", learning_rate=1e30)
    with pytest.raises(ZhenError):
        small_run.run(context)
    last = list(read_metrics(context.folder / "events.jsonl"))[-1]
    assert last["kind"] == "failed"
    assert "nan" in last["found"] or "inf" in last["found"]


@pytest.mark.parametrize("where", ["first samples", "last checkpoint"])
def test_a_run_that_fails_before_its_first_update_or_behind_its_last_says_so_too(
    small_run: ModuleType, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ZhenError("the disk is gone")

    def fails_at_the_last(context: Any, settings: Any, model: Any, name: str, *others: Any) -> None:
        (fails if name == training.LAST else save)(context, settings, model, name, *others)

    save = training._save_for_people
    if where == "first samples":
        monkeypatch.setattr(journal.Journal, "_show", fails)
    else:
        monkeypatch.setattr(training, "_save_for_people", fails_at_the_last)
    context = small_run.context_for(inputs, tmp_path / "stages" / "pretrain-00000000", tokens=4 * 256)
    with pytest.raises(ZhenError, match="the disk is gone"):
        small_run.run(context)
    kinds = [kind for kind, _ in events_of(context.folder)]
    assert kinds[-1] == "failed"
    assert "finished" not in kinds


def test_damaged_metrics_are_left_out_and_the_run_goes_on(
    small_run: ModuleType, inputs: Path, tmp_path: Path, finished: Any
) -> None:
    folder = tmp_path / "stages" / "pretrain-00000000"
    context = small_run.context_for(inputs, folder, stop=lambda: (folder / "steps" / "step-000006").exists())
    with pytest.raises(Interrupted):
        small_run.run(context)
    lines = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    first, second = (at for at, line in enumerate(lines) if json.loads(line)["step"] in (2, 3) and b'"train"' in line)
    lines[first] = lines[first].replace(b'"step"', b'"stap"')
    lines[second] = lines[second].replace(b":", b"\x00", 1)
    (folder / "metrics.jsonl").write_bytes(b"".join(lines))
    again = small_run.context_for(inputs, folder)
    small_run.run(again)
    assert [event.data for event in again.events if event.kind == "damaged-metrics"] == [{"rows": 2}]
    assert [row["step"] for row in rows_of(folder, "train")] == [1, *range(4, 13)]
    assert small_run.results(again) == small_run.results(finished)


def test_the_bell_is_rung_with_the_event_and_only_for_trouble(
    small_run: ModuleType, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    popen = __import__("subprocess").Popen

    def keep(*arguments: Any, **named: Any) -> Any:
        started.append(popen(*arguments, **named))
        return started[-1]

    monkeypatch.setattr("zhen.train.bell.subprocess.Popen", keep)
    heard = tmp_path / "heard"
    script = tmp_path / "bell.sh"
    script.write_text(f"cat >> {heard}\n")
    context = small_run.context_for(inputs, tmp_path / "tiny" / "stages" / "pretrain-00000000", tokens=4 * 256)
    context.bell = f"sh {script}"
    small_run.run(context)
    for process in started:
        process.wait()
    told = [json.loads(line) for line in heard.read_text().splitlines()]
    assert [(row["run"], row["stage"], row["kind"], row["step"]) for row in told] == [
        ("tiny", "pretrain-00000000", "finished", 4)
    ]


def test_a_bell_that_hangs_or_fails_holds_nobody_up() -> None:
    bell = Bell("sh -c 'exec sleep 600'")
    rung = [bell.ring({"kind": "spike", "step": number, "found": "x" * 1_000_000}) for number in range(20)]
    running = bell._running
    assert rung == [True] * 8 + [False] * 12
    for process in running:
        process.kill()
        process.wait()
    assert Bell("false").ring({"kind": "checkpoint"}) is False


@pytest.mark.parametrize("command", ["no-such-program-anywhere x", "", "sh 'open"])
def test_a_bell_that_can_not_be_rung_is_refused_at_once(command: str) -> None:
    with pytest.raises(ZhenError):
        Bell(command)


class FakeTracker(ModuleType):
    """What trackio and wandb have in common."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, Any]] = []
        self.fails = False

    def init(self, *, project: str, name: str, config: dict[str, Any], resume: str) -> None:
        print("a greeting")
        self.calls.append(("init", (project, name, config["pretrain"]["tokens"], resume)))

    def log(self, values: dict[str, float], *, step: int) -> None:
        if self.fails:
            raise ConnectionError("no network")
        self.calls.append(("log", (step, values)))

    def finish(self) -> None:
        self.calls.append(("finish", None))


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_tracker_gets_the_numbers_of_tensorboard(
    small_run: ModuleType,
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fake = FakeTracker(name)
    monkeypatch.setitem(sys.modules, name, fake)
    context = small_run.context_for(inputs, tmp_path / "tiny" / "stages" / "pretrain-00000000", tokens=4 * 256)
    context.tracker = name
    small_run.run(context)
    assert fake.calls[0] == ("init", ("tiny", "pretrain-00000000", 4 * 256, "allow"))
    assert fake.calls[-1] == ("finish", None)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "a greeting\n")
    told: dict[str, dict[int, float]] = {}
    for kind, given in fake.calls:
        for key, value in given[1].items() if kind == "log" else ():
            told.setdefault(key, {})[given[0]] = value
    board = EventAccumulator(str(context.folder / "tensorboard"))
    board.Reload()
    assert set(board.Tags()["scalars"]) == set(told)
    assert {"train/loss", "gradient_norm/attention", "held-out/bits_per_byte/zh", "machine/disk_free"} <= set(told)
    for key, values in told.items():
        assert {e.step: e.value for e in board.Scalars(key)} == pytest.approx(values)


def test_a_tracker_that_fails_is_let_go_and_training_goes_on(
    small_run: ModuleType, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeTracker("trackio")
    fake.fails = True
    monkeypatch.setitem(sys.modules, "trackio", fake)
    context = small_run.context_for(inputs, tmp_path / "tiny" / "stages" / "pretrain-00000000", tokens=4 * 256)
    context.tracker = "trackio"
    small_run.run(context)
    assert [note for note in context.line.notes if "trackio" in note] == [
        "trackio is let go: ConnectionError: no network"
    ]


def test_a_tracker_that_is_not_installed_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ZhenError, match="not installed"):
        Tracker("wandb", project="p", run="r", config={}, note=print)


def test_the_machine_is_read_as_the_system_tells_it(tmp_path: Path) -> None:
    found = read_machine(tmp_path, torch.device("cpu"))
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    assert found["memory"] == pytest.approx(int(status["VmRSS"].split()[0]) * 1024, rel=0.05)
    assert found["processes"] >= 1
    assert found["disk_free"] > 0


def test_a_disk_nearly_full_is_told_once(
    small_run: ModuleType, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "READING_SECONDS", 0.0)
    monkeypatch.setattr(journal, "read_machine", lambda folder, device: {"disk_free": 1_000_000})
    context = small_run.context_for(inputs, tmp_path / "stages" / "pretrain-00000000", tokens=4 * 256)
    small_run.run(context)
    assert [kind for kind, _ in events_of(context.folder)].count("disk-low") == 1
    assert [event.kind for event in context.events] == ["host", "disk-low"]


def test_a_hang_is_told_once_and_by_the_pace_of_the_run() -> None:
    told: list[tuple[int, float]] = []
    watch = HangWatch(lambda step, seconds: told.append((step, seconds)))
    for step in range(1, 5):
        watch.beat(step, now=100.0 * step)  # a hundred seconds a step
    for now in (2300.0, 2401.0, 2500.0, 9000.0):
        watch.look(now)
    assert told == [(4, 2001.0)]
    watch.beat(5, now=9001.0)
    watch.look(9100.0)
    assert len(told) == 1


def test_no_thread_is_left(finished: Any) -> None:
    assert [thread.name for thread in threading.enumerate() if thread.name == "hang-watch"] == []


@pytest.mark.parametrize(
    ("more", "found"),
    [
        (["--set", 'run.tracker="wandb"'], 'the tracker "wandb" is not installed'),
        (["--bell", "no-such-program-anywhere"], "no program 'no-such-program-anywhere'"),
    ],
)
def test_a_run_without_its_tracker_or_bell_ends_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: list[str], found: str
) -> None:
    from zhen.cli.app import run

    monkeypatch.setenv("ZHEN_LAUNCHED", "1")
    monkeypatch.setitem(sys.modules, "wandb", None)
    recipe = Path(__file__).resolve().parents[2] / "recipes" / "micro.toml"
    assert run(["run", str(recipe), "--out", str(tmp_path / "run"), *more]) == 2
    assert found in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
