"""A run of the stage `pretrain` small enough to be made many times; also a program that makes and kills such runs."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch

from zhen.formats.files import remove_leftovers
from zhen.formats.shard import write_shard
from zhen.formats.stage import Context, Figures
from zhen.model.config import PRESETS
from zhen.tokenizer.learn import learn_model
from zhen.tokenizer.load import load_tokenizer
from zhen.tokenizer.settings import TokenizerSettings
from zhen.train import preflight, samples, stage
from zhen.train.settings import PretrainSettings

NAMES = ("Mara", "Tolen", "Iwo", "Suri", "Pell", "Anka")
TOWNS = ("Orlin", "Vesk", "Dunmar", "Tael")
CHINESE = {"Mara": "马拉", "Tolen": "托伦", "Iwo": "伊沃", "Suri": "苏里", "Pell": "佩尔", "Anka": "安卡"}
SETTINGS = PretrainSettings(
    tokens=12 * 256,
    tokens_per_step=256,
    sequence_length=32,
    micro_batch=4,
    learning_rate=3e-3,
    warmup_steps=3,
    checkpoint_every=3,
    keep_steps=(6,),
    evaluate_every=4,
    evaluate_bytes=600,
    max_epochs=50.0,
)


def pages(language: str, count: int, seed: int) -> list[str]:
    chosen = random.Random(f"{language} {seed}")
    made = []
    for _ in range(count):
        name, town = chosen.choice(NAMES), chosen.choice(TOWNS)
        if language == "en":
            made.append(f"{name} lives in {town}. Every morning {name} walks to the market of {town}.\n")
        else:
            made.append(f"{CHINESE[name]}住在{town}。每天早上{CHINESE[name]}都走到{town}的市场去。\n")
    return made


def make_inputs(folder: Path) -> None:
    """A tokenizer and shards: sources `en` (two shards) and `zh`, held-out documents of both."""
    text = [*pages("en", 300, 0), *pages("zh", 300, 0)]
    (folder / "tokenizer").mkdir(parents=True)
    settings = TokenizerSettings(vocab_size=380)
    (folder / "tokenizer" / "tokenizer.model").write_bytes(learn_model(text, settings))
    tokenizer = load_tokenizer(folder / "tokenizer")

    def shard(place: str, index: int, texts: list[str], lang: str | None) -> None:
        documents = [([*tokenizer.encode(t), tokenizer.end_of_text], len(t.encode())) for t in texts]
        source = place.split("/")[-1].split(".")[0]
        common = {"tokenizer": tokenizer.sha256, "vocab_size": tokenizer.vocab_size}
        write_shard(folder / "shards" / place, index, documents, source=source, lang=lang, **common)

    shard("en", 0, pages("en", 40, 1), None)
    shard("en", 1, pages("en", 40, 2), None)
    shard("zh", 0, pages("zh", 60, 3), None)
    shard("held-out/en.en", 0, pages("en", 12, 4), "en")
    shard("held-out/zh.zh", 0, pages("zh", 12, 5), "zh")


class Line:
    """A live line that calls back at each event."""

    def __init__(self, at_event: Callable[[int], None] = lambda number: None) -> None:
        self.events: list[tuple[float, str]] = []
        self.notes: list[str] = []
        self._at_event = at_event

    def update(self, done: float, total: float | None, unit: str, facts: str = "") -> None:
        self.events.append((done, facts))
        self._at_event(len(self.events))

    def note(self, text: str) -> None:
        self.notes.append(text)


def context_for(
    inputs: Path, folder: Path, *, line: Line | None = None, stop: Callable[[], bool] = lambda: False, **changes: Any
) -> Context:
    """The context of a run; `changes` go to [pretrain], but `model` and `init`."""
    folder.mkdir(parents=True, exist_ok=True)
    model, init = changes.pop("model", PRESETS["micro"]), changes.pop("init", None)
    return Context(
        folder=folder,
        sections={
            "pretrain": msgspec.structs.replace(SETTINGS, **changes),
            "model": model,
            "model.init": init,
            "run.seed": 1,
        },
        after={"shards": inputs / "shards", "tokenizer": inputs / "tokenizer"},
        line=line or Line(),
        stop_requested=stop,
        workers=1,
    )


def run(context: Context) -> Figures:
    """One attempt, as the runner makes it."""
    return attempt(context, stage.pretrain)


def attempt(context: Context, made: Callable[[Context], Figures]) -> Figures:
    """One attempt at a stage; peak measured elsewhere and short samples, which take most of the time."""
    remove_leftovers(context.folder)
    preflight.matmul_peak, preflight._copy_rate = (lambda device: 1e11), (lambda device: 1e10)
    samples.SAMPLE_TOKENS = 6
    return made(context)


def results(context: Context) -> dict[str, bytes]:
    """Content of every output of kind result, and a check that nothing else lies there."""
    there = {str(path.relative_to(context.folder)) for path in context.folder.rglob("*") if path.is_file()}
    assert there == set(context.outputs)
    return {p: (context.folder / p).read_bytes() for p, (kind, _) in context.outputs.items() if kind == "result"}


def die_at_file_operation(number: int) -> None:
    """SIGKILL this process just before its n-th fsync, rename or removal."""
    count = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return call

    os.fsync, os.replace, os.rmdir, os.unlink = (counted(f) for f in (os.fsync, os.replace, os.rmdir, os.unlink))


def forked(run: Callable[[Line], object], kind: str, number: int) -> int:
    """Run in a forked process that dies at its n-th `event` or `file` operation. Returns its exit status."""
    child = os.fork()
    if child == 0:
        line = Line(lambda event: os.kill(os.getpid(), signal.SIGKILL) if (kind, number) == ("event", event) else None)
        if kind == "file":
            die_at_file_operation(number)
        run(line)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(inputs: Path, attempts: list[tuple[str, str, int]]) -> None:
    """Make the attempts (folder, kind, number) one after the other; prints their exit statuses as JSON."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:  # what is imported and built on first use is inherited by all
        run(context_for(inputs, Path(folder), tokens=256, warmup_steps=0, keep_steps=()))
    statuses = [
        forked(lambda line, folder=folder: run(context_for(inputs, Path(folder), line=line)), kind, number)
        for folder, kind, number in attempts
    ]
    print(json.dumps(statuses))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
