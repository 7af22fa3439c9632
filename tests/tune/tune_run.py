"""A tuning small enough to be made many times; also a program that makes and kills such tunings."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from zhen.formats.files import remove_leftovers
from zhen.formats.shard import write_shard
from zhen.formats.stage import Context, Figures
from zhen.tokenizer.load import load_tokenizer
from zhen.tune import stage
from zhen.tune.settings import LoraSettings, TuneSettings

NAMES = ("Mara", "Tolen", "Iwo")
PLACES = ("Orlin", "the market", "the bridge", "the house by the river, where it is cold in the morning")


def write_dialogues(folder: Path) -> None:
    """`plain.jsonl` and `pairs.jsonl`."""
    plain, pairs = [], []
    for name in NAMES:
        for place in PLACES:
            asked, told = f"Where is {name}?", f"{name} is at {place}."
            plain.append({"instruction": asked, "output": told, "lang": "en"})
            pairs.append({"prompt": asked, "chosen": told, "rejected": "I will not say."})
    for name, rows in (("plain", plain), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_text(base: Path, folder: Path) -> None:
    """The `shards` of a text that the model in `base` may have been trained on."""
    tokenizer = load_tokenizer(base)
    texts = [f"{name} goes to {place} every morning." for name in NAMES for place in PLACES] * 4
    documents = [([*tokenizer.encode(text), tokenizer.end_of_text], len(text)) for text in texts]
    write_shard(
        folder / "shards" / "web", 0, documents, source="web", lang=None, tokenizer=tokenizer.sha256, vocab_size=400
    )


def settings(data: Path, kind: str, /, **changes: Any) -> TuneSettings:
    """`full`, `lora`, `mixed` (with text) or `preferences`."""
    given = {
        "data": [str(data / ("pairs.jsonl" if kind == "preferences" else "plain.jsonl"))],
        "method": "preferences" if kind == "preferences" else "answers",
        "lora": LoraSettings(rank=2, dropout=0.1) if kind == "lora" else None,
        "text_share": 0.4 if kind == "mixed" else 0.0,
        "steps": 8,
        "batch": 3,
        "micro_batch": 2,
        "sequence_length": 64,
        "learning_rate": 3e-3,
        "checkpoint_every": 3,
    }
    return TuneSettings(**(given | changes))


class Line:
    """A live line that calls back at each event."""

    def __init__(self, at_event: Callable[[int], None] = lambda number: None) -> None:
        self.events = 0
        self._at_event = at_event

    def update(self, done: float, total: float | None, unit: str, facts: str = "") -> None:
        self.events += 1
        self._at_event(self.events)

    def note(self, text: str) -> None:
        """Nothing is kept."""


def context_for(base: Path, folder: Path, chosen: TuneSettings, line: Line | None = None) -> Context:
    """The context of a tuning of the checkpoint in `base`."""
    folder.mkdir(parents=True, exist_ok=True)
    sections = {"tune": chosen, "model.init": str(base), "pretrain.mixtures": None, "run.seed": 1}
    return Context(
        folder=folder,
        sections=sections,
        after={"tokenizer": base, "shards": Path(chosen.data[0]).parent / "shards"},
        line=line or Line(),
        stop_requested=lambda: False,
        workers=1,
    )


def run(context: Context) -> Figures:
    """One attempt, as the runner makes it; the peak is measured elsewhere."""
    remove_leftovers(context.folder)
    stage.matmul_peak = lambda device: 1e11
    stage.SAMPLE_TOKENS = 4
    return stage.tune(context)


def results(context: Context) -> dict[str, bytes]:
    """Content of every output of kind result, and a check that nothing else lies there."""
    there = {str(path.relative_to(context.folder)) for path in context.folder.rglob("*") if path.is_file()}
    assert there == set(context.outputs)
    return {p: (context.folder / p).read_bytes() for p, (kind, _) in context.outputs.items() if kind == "result"}


def main(base: Path, data: Path, attempts: list[tuple[str, str, int]]) -> None:
    """Make the attempts (folder, kind, event at which it dies); prints their exit statuses as JSON."""
    torch.set_num_threads(1)
    statuses = []
    for folder, kind, number in attempts:
        child = os.fork()
        if child == 0:
            line = Line(lambda event, last=number: os.kill(os.getpid(), signal.SIGKILL) if event == last else None)
            run(context_for(base, Path(folder), settings(data, kind), line))
            os._exit(0)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(json.dumps(statuses))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
