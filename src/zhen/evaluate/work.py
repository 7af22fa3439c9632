"""What the stage's tasks share: progress, timings, and files of items made in pieces that a stop doesn't cost."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Protocol, TypeVar

import msgspec

from zhen.evaluate.held_out import Group, TrainingTokens, training_tokens
from zhen.evaluate.items import Item, summary
from zhen.evaluate.kneser_ney import KneserNey
from zhen.evaluate.settings import EvaluateSettings
from zhen.formats.files import write_bytes
from zhen.formats.stage import Context
from zhen.infer.engine import Engine
from zhen.tokenizer.load import Tokenizer

PARTS = "parts"
"""Where finished pieces of unfinished (model, task) pairs wait; gone at the end."""

KNESER_NEY = "kneser-ney"
ORDER = 5

Row = TypeVar("Row")


class Bench(Protocol):
    """Items that are put to models."""

    @property
    def total(self) -> int:
        """How many there are."""

    def how(self) -> dict[str, Any]:
        """How they are put and scored; `score` is the metric."""


B = TypeVar("B", bound=Bench)

Part = tuple[str, int, Callable[[], Iterable[Any]]]
"""A piece of a task: its name, its number of items, and what computes its rows."""

LoadedEngine = Callable[[], Engine]
"""A model's engine, loaded at the first call."""


@dataclass
class Work:
    """What is handed through the stage."""

    context: Context
    settings: EvaluateSettings
    tokenizer: Tokenizer
    groups: list[Group]
    """Held-out documents; none where no task needs them."""
    total: int = 0
    done: int = 0
    timings: dict[str, dict[str, float]] = field(default_factory=dict)

    def advance(self, items: int, facts: str) -> None:
        """Say that so many more items (documents, questions) are done."""
        self.done += items
        self.context.line.update(self.done, self.total, "items", facts)
        self.context.stop_here()

    @cached_property
    def training(self) -> TrainingTokens:
        """What the Kneser-Ney model learns from."""
        return training_tokens(self.context.after["shards"], self.tokenizer.sha256, self.settings.reference_tokens)

    @cached_property
    def reference(self) -> KneserNey:
        """The Kneser-Ney model, trained when first needed."""
        self.advance(0, f"Kneser-Ney model of {self.training.taken:,} tokens")
        return KneserNey(
            self.training.read(),
            vocab_size=self.tokenizer.vocab_size,
            end_of_text=self.tokenizer.end_of_text,
            order=ORDER,
        )


def make_items(work: Work, model: str, task: str, kind: type[Row], parts: Sequence[Part]) -> list[Row]:
    """Rows of one model and task: read back if finished, else made of parts, each kept as soon as it is whole."""
    place = items_file(model, task)
    path = work.context.folder / place
    waiting = work.context.folder / PARTS / model_folder(model) / task
    started = time.monotonic()
    if not path.exists():
        waiting.mkdir(parents=True, exist_ok=True)
        pieces = []
        for name, items, compute in parts:
            piece = waiting / f"{name}.jsonl"
            if piece.exists():
                work.advance(items, f"{model} · {task} · {name}, done before")
            else:
                write_bytes(piece, msgspec.json.Encoder().encode_lines(list(compute())))
            pieces.append(piece.read_bytes())
        path.parent.mkdir(parents=True, exist_ok=True)
        work.context.output(place, "result", write_bytes(path, b"".join(pieces)))
        work.timings.setdefault(model, {})[task] = round(time.monotonic() - started, 3)
    else:
        work.context.output(place, "result")
        work.advance(sum(items for _, items, _ in parts), f"{model} · {task}, done before")
    shutil.rmtree(waiting, ignore_errors=True)
    return msgspec.json.Decoder(kind).decode_lines(path.read_bytes())


def put_to_each(
    work: Work,
    benches: Mapping[str, B],
    engines: Mapping[str, LoadedEngine],
    put: Callable[[Work, str, B, LoadedEngine], Iterable[Item]],
) -> Iterator[tuple[str, str, list[Item], dict[str, Any], str]]:
    """Put tasks to models by `put(work, model, task, engine)`: for each pair model, task, items, their summary, and
    what its figures' names end with (nothing for the last model)."""
    last = list(engines)[-1]
    for name, engine in engines.items():
        for task, bench in benches.items():
            items = make_items(work, name, task, Item, [("all", bench.total, partial(put, work, name, bench, engine))])
            yield name, task, items, summary(items, bench.how()["score"]), "" if name == last else f".{name}"


def items_file(model: str, task: str) -> str:
    """Where the items of a model and task lie, below the stage's folder."""
    return f"items/{model_folder(model)}/{task}.jsonl"


def model_folder(model: str) -> str:
    """A model's name as a folder's: `pretrain:0` -> `pretrain-0`."""
    return model.replace(":", "-")
