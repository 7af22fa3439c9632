"""What a training multiplies in where its recipe leaves it out: by the machine it begins on; then it stays."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from zhen.errors import Interrupted
from zhen.formats.metrics import read_metrics

WEIGHTS = "checkpoint/model.safetensors"
SHORT: dict[str, Any] = {"tokens": 6 * 256, "keep_steps": ()}


def on_a_machine(monkeypatch: pytest.MonkeyPatch, units: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": units})


@pytest.mark.parametrize(("units", "due"), [(True, "bfloat16"), (False, "float32")])
def test_left_out_it_is_what_the_machine_is_fast_in_and_the_record_says_so(
    small_run: ModuleType, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, units: bool, due: str
) -> None:
    on_a_machine(monkeypatch, units)
    left_out = small_run.context_for(inputs, tmp_path / "left-out", **SHORT)
    named = small_run.context_for(inputs, tmp_path / "named", dtype=due, **SHORT)
    figures = [small_run.run(context) for context in (left_out, named)]
    assert small_run.results(left_out)[WEIGHTS] == small_run.results(named)[WEIGHTS]
    assert [found["dtype"].value for found in figures] == [due, due]


@pytest.mark.parametrize("named", ["bfloat16", "float32"])
def test_what_the_recipe_names_is_taken_on_any_machine(
    small_run: ModuleType, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    runs = []
    for units in (True, False):
        on_a_machine(monkeypatch, units)
        runs.append(small_run.context_for(inputs, tmp_path / str(units), dtype=named, **SHORT))
        assert small_run.run(runs[-1])["dtype"].value == named
    assert small_run.results(runs[0]) == small_run.results(runs[1])


@pytest.mark.parametrize(("began", "other"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_gone_on_with_on_another_kind_of_machine_it_stays_as_it_began_and_says_so(
    small_run: ModuleType, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, began: str, other: str
) -> None:
    whole = small_run.context_for(inputs, tmp_path / "whole", dtype=began, **SHORT)
    small_run.run(whole)
    stops = iter([False] * 4 + [True] * 9)
    stopped = small_run.context_for(inputs, tmp_path / "moved", stop=lambda: next(stops), **SHORT)
    on_a_machine(monkeypatch, units=began == "bfloat16")
    with pytest.raises(Interrupted):
        small_run.run(stopped)
    on_a_machine(monkeypatch, units=other == "bfloat16")
    again = small_run.context_for(inputs, tmp_path / "moved", **SHORT)
    assert small_run.run(again)["dtype"].value == began
    assert small_run.results(again)[WEIGHTS] == small_run.results(whole)[WEIGHTS]
    assert f"goes on in {began}, as it began; {other} would be faster on this machine" in again.line.notes
    starts = [row["dtype"] for row in read_metrics(again.folder / "metrics.jsonl") if row["kind"] == "start"]
    assert starts == [began, began]
