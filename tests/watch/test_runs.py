"""What the files of a run tell: curves, time, events, how it stands; whatever becomes of the files."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zhen.errors import ZhenError
from zhen.train import journal
from zhen.train.bell import Bell
from zhen.watch import stage
from zhen.watch.listen import Listener
from zhen.watch.runs import Watched


def only(watched: Watched, known: dict[str, Any] | None = None, now: float = 0.0) -> dict[str, Any]:
    found: dict[str, Any] = watched.since(known or {}, now)["runs"][0]["stages"][0]
    return found


def test_curves_facts_and_time_left(plant: Any) -> None:
    run = plant()
    run.train(1, 100)
    found = only(Watched([run.run]))
    columns = found["tables"]["train"]["columns"]
    assert columns["step"] == list(range(1, 101))
    assert columns["elapsed"] == [2.0 * step for step in range(1, 101)]  # by the clock, not by what updates took
    assert found["tables"]["held_out"]["columns"]["zh"] == pytest.approx(
        [2 / s**0.5 for s in range(20, 101, 20)], rel=1e-6
    )
    assert found["tables"]["groups"]["columns"]["gradient_norm.attention"][0] == pytest.approx(0.2)
    facts = found["facts"]
    assert facts["left"] == pytest.approx(900 * 2.0)
    assert (facts["step"], facts["tokens"], facts["machine"]["processes"]) == (100, 204_800, 3)
    assert found["given"]["flops_per_token"] == 6e6


def test_only_what_is_new_is_given(plant: Any) -> None:
    run = plant()
    run.train(1, 50)
    watched = Watched([run.run])
    first = only(watched)
    known = {first["id"]: {"train": [first["tables"]["train"]["generation"], 50], "events": [0, 1], "samples": 0}}
    run.train(51, 53)
    run.event("spike", 52)
    second = only(watched, known)
    assert second["tables"]["train"]["from"] == 50
    assert second["tables"]["train"]["columns"]["step"] == [51, 52, 53]
    assert [event["kind"] for event in second["events"]["rows"]] == ["spike"]
    assert "samples" not in second


def test_a_run_that_goes_on_from_a_checkpoint_is_told_anew(plant: Any) -> None:
    run = plant()
    run.train(1, 80, loss=5.0)
    watched = Watched([run.run])
    before = only(watched)
    run.cut(60)
    run.clock += 86_400  # a day later
    run.append("start", 60, steps=1000, tokens_per_step=2048, flops_per_token=6e6)
    run.train(61, 90, loss=4.0)
    known = {before["id"]: {"train": [before["tables"]["train"]["generation"], 80]}}
    table = only(watched, known)["tables"]["train"]
    assert table["from"] == 0
    assert table["columns"]["step"] == list(range(1, 91))
    assert table["columns"]["loss"][59:61] == [5.0, 4.0]
    assert table["columns"]["elapsed"][-1] == 180.0  # without the day between


def test_a_clock_that_is_set_back_makes_no_time_run_back(plant: Any) -> None:
    run = plant()
    run.train(1, 10)
    run.clock -= 3600
    run.train(11, 20)
    elapsed = only(Watched([run.run]))["tables"]["train"]["columns"]["elapsed"]
    assert elapsed == sorted(elapsed)
    assert elapsed[-1] == pytest.approx(9 * 2 + 2 + 1.5 + 9 * 2)


def test_metrics_of_an_older_version_have_all_that_they_can(plant: Any) -> None:
    run = plant()
    rows = [{"step": 0, "kind": "start", "peak_flops": 1e11, "flops_per_token": 5e6, "threads": 2}]
    rows += [{"step": s, "kind": "train", "tokens": s * 64, "loss": 3.0, "seconds": 0.5} for s in range(1, 11)]
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run.folder / "events.jsonl").unlink()
    event = {"time": "2026-01-31T12:00:00+00:00", "kind": "slow", "data": {"step": 7, "best": 3}}
    (run.folder / "record.json").write_text(json.dumps({"events": [event]}))
    found = only(Watched([run.run]))
    assert found["tables"]["train"]["columns"]["elapsed"][-1] == 5.0
    assert found["given"] == {"peak_flops": 1e11, "flops_per_token": 5e6, "tokens_per_step": 64}
    assert [(e["kind"], e["step"], e["best"]) for e in found["events"]["rows"]] == [("slow", 7, 3)]
    assert found["state"] == "finished"


@pytest.mark.parametrize("kind", ["stopped", "failed"])
def test_how_it_ended_holds_until_it_goes_on(plant: Any, kind: str) -> None:
    run = plant()
    run.train(1, 30)
    watched = Watched([run.run])
    assert only(watched)["state"] == "running"
    run.event(kind, 30)
    assert only(watched)["state"] == kind
    run.event("started", 30)
    assert only(watched)["state"] == "running"


def test_what_the_run_says_of_a_stage_counts_too(plant: Any) -> None:
    run = plant()
    run.train(1, 5)
    watched = Watched([run.run])
    seen = []
    for event in ("failed", "start"):
        with (run.run / "log.jsonl").open("a") as file:
            file.write(json.dumps({"event": event, "stage": "pretrain", "key": "0123abcd"}) + "\n")
        seen.append(only(watched)["state"])
    assert seen == ["failed", "running"]


def test_silence_is_measured_by_the_pace_of_the_run(plant: Any) -> None:
    run = plant()
    run.train(1, 10, seconds=100.0)
    watched = Watched([run.run])
    states = [only(watched, now=now)["state"] for now in (5.0, 300.0, 404.0, 406.0)]
    assert states == ["running", "running", "running", "silent"]
    run.train(11, 11)
    assert only(watched, now=500.0)["state"] == "running"


def test_a_process_that_is_gone_is_told_from_the_lock_it_left(plant: Any) -> None:
    run = plant()
    run.train(1, 10)
    lock = run.run / ".lock"
    watched = Watched([run.run])
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    seen = []
    for owner in (f"pid {os.getpid()} on {socket.gethostname()}\n", f"pid {ended.pid} on {socket.gethostname()}\n"):
        lock.write_text(owner)
        seen.append(only(watched)["state"])
    lock.write_text(f"pid {ended.pid} on another-host\n")
    seen.append(only(watched)["state"])
    assert seen == ["running", "gone", "running"]
    assert lock.read_text().startswith("pid")


def test_a_stage_is_found_when_it_begins_and_the_present_one_of_many(plant: Any) -> None:
    run = plant()
    older = run.folder
    shutil.copytree(older, older.with_name("pretrain-ffff0000"))
    os.utime(older.with_name("pretrain-ffff0000") / "metrics.jsonl", (2e9, 2e9))
    watched = Watched([run.run])
    assert [each["folder"] for each in watched.since({}, 0)["runs"][0]["stages"]] == ["pretrain-0123abcd"]
    with (run.run / "log.jsonl").open("a") as file:
        file.write(json.dumps({"event": "start", "stage": "pretrain", "key": "ffff0000"}) + "\n")
        file.write(json.dumps({"event": "start", "stage": "tune", "key": "11112222"}) + "\n")
    shutil.copytree(older, older.with_name("tune-11112222"))
    found = watched.since({}, 0)["runs"][0]["stages"]
    assert [each["folder"] for each in found] == ["pretrain-ffff0000", "tune-11112222"]


def test_runs_that_share_their_stages_show_each_its_own(plant: Any, tmp_path: Path) -> None:
    run = plant("grid")
    run.train(1, 5)
    for name, key in (("mha", "0123abcd"), ("gqa", "0123abcd"), ("mqa", None)):
        point = run.run / "points" / name
        point.mkdir(parents=True)
        (point / "stages").symlink_to("../../stages")
        rows = [("data.scan", "00000000"), *([("pretrain", key)] if key else [])]
        log = [json.dumps({"event": "start", "stage": stage, "key": key}) + "\n" for stage, key in rows]
        (point / "log.jsonl").write_text("".join(log))
    watched = Watched(sorted((run.run / "points").iterdir()))
    assert watched.title == "gqa, mha, mqa"
    assert [len(each["stages"]) for each in watched.since({}, 0)["runs"]] == [1, 1, 0]


def test_numbers_that_are_none_and_rows_that_are_odd_do_no_harm(plant: Any) -> None:
    run = plant()
    run.train(1, 3)
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "kind": "train", "loss": NaN, "time": Infinity, "seconds": "x", "tokens": null}\n')
        file.write('{"step": 4, "kind": "held-out", "bits_per_byte": null}\n{"step": "4"}\n{"kind": 7, "step": 5}\n')
        file.write('{"step": 6, "kind": "start", "steps": 1' + "0" * 400 + "}\n")
    found = only(Watched([run.run]))
    json.dumps(found, allow_nan=False)
    assert found["tables"]["train"]["columns"]["loss"][3] is None
    assert found["given"]["steps"] == 1000


def test_a_run_before_its_training_and_one_whose_disk_went_away(plant: Any, tmp_path: Path) -> None:
    run = plant()
    run.train(1, 5)
    early = tmp_path / "early"
    early.mkdir()
    (early / "log.jsonl").write_text(json.dumps({"event": "start", "stage": "data.scan", "key": "00000000"}) + "\n")
    watched = Watched([early, run.run])
    runs = watched.since({}, 0)["runs"]
    assert (runs[0]["working"], runs[0]["stages"]) == ("data.scan", [])
    shutil.rmtree(run.run)
    assert watched.since({}, 1)["runs"][1]["stages"] == []


def test_runs_of_one_name_are_told_apart(plant: Any) -> None:
    first, second = plant("a/tiny"), plant("b/tiny")
    assert Watched([first.run, second.run]).title == "a/tiny, b/tiny"
    assert Watched([first.folder]).title == "pretrain-0123abcd"


@pytest.mark.parametrize("make", [None, "file", "empty"])
def test_what_is_no_run_is_refused(tmp_path: Path, make: str | None) -> None:
    folder = tmp_path / "x"
    if make == "file":
        folder.write_text("")
    elif make == "empty":
        folder.mkdir()
    with pytest.raises(ZhenError):
        Watched([folder])


def test_nothing_is_written_or_locked(plant: Any) -> None:
    run = plant()
    run.train(1, 20)
    (run.run / ".lock").write_text("")
    before = {path: path.stat().st_mtime_ns for path in run.run.rglob("*")}
    watched = Watched([run.run])
    watched.since({}, 0)
    assert {path: path.stat().st_mtime_ns for path in run.run.rglob("*")} == before
    held = [
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.islink(f"/proc/self/fd/{fd}")
    ]
    assert [path for path in held if path.startswith(str(run.run))] == []


def test_the_bell_rings_for_news_and_for_silence(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[dict[str, Any]] = []
    monkeypatch.setattr(Bell, "ring", lambda self, event: rung.append(event) or True)
    run = plant()
    run.train(1, 20)
    run.event("spike", 11)  # old news
    listener = Listener(Watched([run.run]), Bell("true"))
    listener.look(0.0)
    run.event("skipped", 20)
    for now in (1.0, 2.0, 100.0, 200.0):
        listener.look(now)
    run.train(21, 22)
    run.event("finished", 22)
    listener.look(201.0)
    assert [(each["run"], each["kind"], each["step"]) for each in rung] == [
        ("tiny", "skipped", 20),
        ("tiny", "silent", 20),
        ("tiny", "finished", 22),
    ]


def test_names_of_files_are_those_that_training_writes() -> None:
    assert (stage.METRICS, stage.SAMPLES) == (journal.METRICS, journal.SAMPLES)
