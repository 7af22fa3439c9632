"""A run's folder written by hand, as a training writes it, a piece at a time."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

GROUPS = ("embedding", "attention", "feed_forward", "norms", "head")


class Planted:
    """A run with one stage that trains, whose clock is the caller's."""

    def __init__(self, folder: Path, stage: str = "pretrain", steps: int = 1000) -> None:
        self.run = folder
        self.folder = folder / "stages" / f"{stage}-0123abcd"
        self.folder.mkdir(parents=True)
        self.steps = steps
        self.clock = 1_700_000_000.0
        self.append("start", 0, steps=steps, tokens_per_step=2048, flops_per_token=6e6, peak_flops=1e11)
        self.event("started", 0)
        row = {"event": "start", "stage": stage, "key": "0123abcd"}
        (folder / "log.jsonl").write_text(json.dumps(row) + "\n")

    def append(self, kind: str, step: int, **values: Any) -> None:
        row = {"step": step, "kind": kind, "time": self.clock, **values}
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def event(self, kind: str, step: int | None, **values: Any) -> None:
        row = {"time": "2026-01-31T12:00:00+00:00", "kind": kind, "step": step, **values}
        with (self.folder / "events.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def train(self, first: int, last: int, *, seconds: float = 2.0, loss: float | None = None) -> None:
        """Updates `first` to `last`, with all that stands beside them."""
        for step in range(first, last + 1):
            self.clock += seconds
            if step == 1 or step % 10 == 0:
                sizes = {group: 0.1 * (n + 1) / math.sqrt(step) for n, group in enumerate(GROUPS)}
                self.append("groups", step, gradient_norm=sizes, weight_rms=sizes, activation_rms=sizes)
            numbers = {"loss": 6 / math.sqrt(step) + step % 2 if loss is None else loss, "learning_rate": 1e-3}
            numbers |= {"gradient_norm": 1 / step, "tokens_per_second": 1024.0, "mfu": 0.25}
            self.append("train", step, tokens=step * 2048, seconds=seconds - 0.5, **numbers)
            if step % 20 == 0:
                self.append("held-out", step, bits_per_byte={"en": 3 / math.sqrt(step), "zh": 2 / math.sqrt(step)})
                self.append("machine", step, memory=2e9, memory_available=5e9, disk_free=7e10, processes=3, load=1.5)

    def cut(self, step: int) -> None:
        """Cut the metrics back to a step, as a run does that goes on from there."""
        path = self.folder / "metrics.jsonl"
        rows = path.read_text().splitlines(keepends=True)
        path.write_text("".join(row for row in rows if json.loads(row)["step"] <= step))

    def sample(self, step: int, text: str) -> None:
        path = self.folder / "samples.jsonl"
        before = path.read_text() if path.exists() else ""
        row = {"step": step, "lang": "en", "prompt": "Once <b>upon</b> a time", "continuation": text}
        path.write_text(before + json.dumps(row) + "\n")
