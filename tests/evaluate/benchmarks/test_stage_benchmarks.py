"""Benchmarks as tasks of the stage `evaluate`: beside the others, kept over a stop, part of the stage's key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")

from zhen.errors import ZhenError
from zhen.evaluate.settings import BENCHMARKS, EvaluateSettings
from zhen.evaluate.stage import evaluate, evaluate_inputs
from zhen.formats.stage import Context

TASKS = ["bits-per-byte", "mmlu@0", "gaokao"]


def test_the_settings_know_every_benchmark() -> None:
    from zhen.evaluate.harness.tasks import TASKS as BENCHES

    assert set(BENCHMARKS) == set(BENCHES)


def test_a_run_scores_benchmarks_beside_its_other_tasks(context: Callable[..., Context], benchmarks: Path) -> None:
    stage = context(tasks=TASKS, data=str(benchmarks), limit=4)
    figures = evaluate(stage)
    results = json.loads((stage.folder / "results.json").read_bytes())
    assert {name: row["n"] for name, row in results["benchmarks"]["pretrain"].items()} == {"mmlu@0": 4, "gaokao": 4}
    assert figures["benchmark.mmlu@0"].n == 4
    for path in results["items"]["pretrain"].values():
        assert (stage.folder / path).is_file()


def test_results_are_the_same_after_a_kill(context: Callable[..., Context], benchmarks: Path) -> None:
    def make(folder: str, **more: Any) -> Context:
        return context(folder, tasks=TASKS, data=str(benchmarks), limit=4, **more)

    whole = make("whole")
    evaluate(whole)
    updates = len(whole.line.updates)
    line = type(whole.line)(kill_at=updates)
    with pytest.raises(line.Killed):
        evaluate(make("killed", line=line))
    again = make("killed")
    evaluate(again)
    for path in sorted(whole.folder.rglob("*.json*")):
        name = path.relative_to(whole.folder)
        if name.name != "timings.json":
            assert path.read_bytes() == (again.folder / name).read_bytes()


def test_the_files_belong_to_the_key(benchmarks: Path) -> None:
    settings = EvaluateSettings(tasks=["mmlu@0"], data=str(benchmarks))
    found = {each.path for each in evaluate_inputs({"evaluate": settings})}
    assert found == {
        f"mmlu/{split}/{name}_{split}.csv" for split in ("test", "dev") for name in ("astronomy", "virology")
    }


def test_a_benchmark_needs_its_folder(tmp_path: Path) -> None:
    assert [field for field, _, _ in EvaluateSettings(tasks=["mmlu"]).problems()] == ["data"]
    with pytest.raises(ZhenError, match="no such folder"):
        evaluate_inputs({"evaluate": EvaluateSettings(tasks=["mmlu"], data=str(tmp_path / "none"))})
