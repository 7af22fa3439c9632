"""A training that is followed at every step of it, over a stop and on: what the page has is what the files say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from zhen.errors import Interrupted
from zhen.formats.metrics import read_metrics
from zhen.watch.runs import Watched

spec = importlib.util.spec_from_file_location("small_run", Path(__file__).parents[1] / "train" / "small_run.py")
assert spec is not None
assert spec.loader is not None
small_run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(small_run)


class Page:
    """Keeps what it was given, as the page does."""

    def __init__(self, folder: Path) -> None:
        self._watched = Watched([folder])
        self._known: dict[str, Any] = {}
        self.steps: list[int] = []
        self.looks: list[int] = []
        self.state = ""

    def look(self, _event: int = 0) -> None:
        for found in self._watched.since(self._known)["runs"][0]["stages"]:
            table = found["tables"]["train"]
            self.steps = self.steps[: table["from"]] + table["columns"].get("step", [])
            self._known[found["id"]] = {"train": [table["generation"], table["count"]]}
            self.state = found["state"]
        self.looks.append(len(self.steps))


def test_a_training_is_followed_over_a_stop(tmp_path: Path) -> None:
    small_run.make_inputs(tmp_path / "inputs")
    folder = tmp_path / "tiny" / "stages" / "pretrain-00000000"
    folder.mkdir(parents=True)
    page = Page(tmp_path / "tiny")
    given = {"line": small_run.Line(page.look), "keep_steps": ()}
    with pytest.raises(Interrupted):
        small_run.run(small_run.context_for(tmp_path / "inputs", folder, stop=lambda: len(page.steps) > 4, **given))
    page.look()
    assert page.state == "stopped"
    rows = (folder / "metrics.jsonl").read_bytes()
    (folder / "metrics.jsonl").write_bytes(rows + b'{"step": 6, "kind": "tr')  # what a kill would have left
    page.look()
    small_run.run(small_run.context_for(tmp_path / "inputs", folder, **given))
    page.look()
    assert page.steps == [row["step"] for row in read_metrics(folder / "metrics.jsonl") if row["kind"] == "train"]
    assert page.steps == list(range(1, 13))
    assert set(page.looks) == set(range(13))  # every update was seen as soon as it was made
    assert page.state == "finished"
