"""The stage `evaluate`: each model by each task, beside references; what was finished before a stop is kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from zhen.errors import ZhenError
from zhen.evaluate import bits_per_byte as bpb
from zhen.evaluate import results as report
from zhen.evaluate.held_out import Group, TrainingTokens, read_groups, training_tokens
from zhen.evaluate.kneser_ney import KneserNey
from zhen.evaluate.samples import Sample, greedy_samples
from zhen.evaluate.settings import EvaluateSettings
from zhen.formats.files import write_bytes, write_json
from zhen.formats.record import Figure
from zhen.formats.stage import Context, Figures
from zhen.infer.engine import Engine, load_engine
from zhen.tokenizer.load import Tokenizer, load_tokenizer

MODELS = {"pretrain:0": ("pretrain", "checkpoint-0"), "pretrain": ("pretrain", "checkpoint")}
"""Model -> the stage that made it, and its folder there. The last one that a run has is evaluated by default."""

KNESER_NEY = "kneser-ney"
XZ = "xz -9"
BITS = "bits-per-byte"
SAMPLES = "samples"
ORDER = 5

PARTS = "parts"
"""Where finished pieces of unfinished (model, task) pairs wait; gone at the end."""

PART_DOCUMENTS = 8 * bpb.DOCUMENTS_AT_ONCE
"""Documents in a piece: what a stop can cost."""

Row = TypeVar("Row", bpb.Item, Sample)


@dataclass
class _Work:
    """What is handed through the stage."""

    context: Context
    settings: EvaluateSettings
    groups: list[Group]
    tokenizer: Tokenizer
    total: int
    done: int = 0
    timings: dict[str, dict[str, float]] = field(default_factory=dict)

    def advance(self, documents: int, facts: str) -> None:
        """Say that so many more documents are done."""
        self.done += documents
        self.context.line.update(self.done, self.total, "documents", facts)
        self.context.stop_here()


def evaluate(context: Context) -> Figures:
    """Write `results.json` and `items/<model>/<task>.jsonl` (results), `timings.json` (log).

    Scores are computed in float32. Raises ZhenError where a model or held-out documents are missing.
    """
    settings: EvaluateSettings = context.sections["evaluate"]
    models = _models(context, settings)
    for needed in ("shards", "tokenizer"):
        if needed not in context.after:
            raise ZhenError(f"the stage `{needed}` is not in the plan", hint="evaluate reads held-out tokens from it")
    tokenizer = load_tokenizer(context.after["tokenizer"])
    groups = read_groups(context.after["shards"], tokenizer.sha256)
    documents = sum(len(group.documents) for group in groups)
    passes = len(models) * len(settings.tasks) + (BITS in settings.tasks)
    work = _Work(context, settings, groups, tokenizer, documents * passes)
    items: dict[str, list[bpb.Item]] = {}
    training = None
    if BITS in settings.tasks:
        training = training_tokens(context.after["shards"], tokenizer.sha256, settings.reference_tokens)
        items[KNESER_NEY] = _kneser_ney(work, training)
    for name, folder in models.items():
        items |= _evaluate_model(work, name, folder)
    results, figures = _results(work, list(models), items, training)
    context.output("results.json", "result", write_json(context.folder / "results.json", results))
    context.output("timings.json", "log", write_json(context.folder / "timings.json", work.timings))
    shutil.rmtree(context.folder / PARTS, ignore_errors=True)
    counted = f"{len(models)} model{'s' if len(models) > 1 else ''}"
    context.summary = f"{counted} on {documents:,} held-out documents{_margins(figures)}"
    return figures


def _margins(figures: Figures) -> str:
    """The margins over the Kneser-Ney model, for the console."""
    text = ""
    for name, figure in figures.items():
        if name.startswith("margin_over_kneser_ney.") and isinstance(figure.value, float):
            side = "fewer" if figure.value >= 0 else "more"
            text += f"; {name.rpartition('.')[2]}: {abs(figure.value):.0f} % {side} bits than a 5-gram model"
    return text


def _models(context: Context, settings: EvaluateSettings) -> dict[str, Path]:
    """The checkpoints to evaluate, by name. Raises ZhenError for one that the run doesn't have."""
    made = {name: context.after[stage] / at for name, (stage, at) in MODELS.items() if stage in context.after}
    if not made:
        raise ZhenError("this run makes no model to evaluate", expected="a section [pretrain] in the recipe")
    models = {}
    for name in settings.of or [list(made)[-1]]:
        if name not in made or not made[name].is_dir():
            raise ZhenError(
                f'evaluate.of names "{name}", which this run has not made',
                expected="one of " + ", ".join(f'"{name}"' for name, folder in made.items() if folder.is_dir()),
            )
        models[name] = made[name]
    return models


def _evaluate_model(work: _Work, name: str, folder: Path) -> dict[str, list[bpb.Item]]:
    """All tasks of one model, loaded when first needed; returns the items of bits-per-byte, where that is a task."""
    loaded: list[Engine] = []

    def engine() -> Engine:
        if not loaded:
            loaded.append(load_engine(folder, dtype="float32"))
        return loaded[0]

    items = {}
    if BITS in work.settings.tasks:
        items[name] = _task(work, name, BITS, bpb.Item, _bits_parts(work, name, engine))
    if SAMPLES in work.settings.tasks:
        _task(work, name, SAMPLES, Sample, _samples_parts(work, name, engine))
    return items


Part = tuple[str, int, Callable[[], Iterable[Any]]]
"""A piece of a task: its name, its number of documents, and what computes its rows."""


def _bits_parts(work: _Work, name: str, engine: Callable[[], Engine]) -> list[Part]:
    def compute(group: Group, begin: int, end: int) -> Iterable[bpb.Item]:
        model = engine()
        stride = work.settings.stride or max(1, model.context_length // 2)
        facts = f"{name} · {BITS} · {group.name}"
        return bpb.model_items(model, group, begin, end, stride, lambda scored: work.advance(scored, facts))

    return [
        (f"{group.name}-{begin:08d}", end - begin, partial(compute, group, begin, end))
        for group in work.groups
        for begin in range(0, len(group.documents), PART_DOCUMENTS)
        for end in [min(begin + PART_DOCUMENTS, len(group.documents))]
    ]


def _samples_parts(work: _Work, name: str, engine: Callable[[], Engine]) -> list[Part]:
    def compute(group: Group) -> Iterable[Sample]:
        samples = greedy_samples(engine(), group, work.settings)
        work.advance(len(group.documents), f"{name} · {SAMPLES} · {group.name}")
        return samples

    return [(group.name, len(group.documents), partial(compute, group)) for group in work.groups]


def _kneser_ney(work: _Work, training: TrainingTokens) -> list[bpb.Item]:
    """The reference's items; it is trained only if they aren't there yet."""

    def compute() -> Iterable[bpb.Item]:
        work.advance(0, f"Kneser-Ney model of {training.taken:,} tokens")
        reference = KneserNey(
            training.read(),
            vocab_size=work.tokenizer.vocab_size,
            end_of_text=work.tokenizer.end_of_text,
            order=ORDER,
        )
        for group in work.groups:
            yield from bpb.kneser_ney_items(reference, group)
            work.advance(len(group.documents), f"{KNESER_NEY} · {group.name}")

    documents = sum(len(group.documents) for group in work.groups)
    return _task(work, KNESER_NEY, BITS, bpb.Item, [("all", documents, compute)])


def _task(work: _Work, model: str, task: str, kind: type[Row], parts: Sequence[Part]) -> list[Row]:
    """Rows of one model and task: read back if finished, else made of parts, each kept as soon as it is whole."""
    place = _items_file(model, task)
    path = work.context.folder / place
    waiting = work.context.folder / PARTS / model_folder(model) / task
    started = time.monotonic()
    if not path.exists():
        waiting.mkdir(parents=True, exist_ok=True)
        pieces = []
        for name, documents, compute in parts:
            piece = waiting / f"{name}.jsonl"
            if piece.exists():
                work.advance(documents, f"{model} · {task} · {name}, done before")
            else:
                write_bytes(piece, msgspec.json.Encoder().encode_lines(list(compute())))
            pieces.append(piece.read_bytes())
        path.parent.mkdir(parents=True, exist_ok=True)
        work.context.output(place, "result", write_bytes(path, b"".join(pieces)))
        work.timings.setdefault(model, {})[task] = round(time.monotonic() - started, 3)
    else:
        work.context.output(place, "result")
        work.advance(sum(documents for _, documents, _ in parts), f"{model} · {task}, done before")
    shutil.rmtree(waiting, ignore_errors=True)
    return msgspec.json.Decoder(kind).decode_lines(path.read_bytes())


def _results(
    work: _Work, models: list[str], items: dict[str, list[bpb.Item]], training: TrainingTokens | None
) -> tuple[dict[str, Any], Figures]:
    """The content of `results.json`, and the figures."""
    results: dict[str, Any] = {"models": models, "tasks": work.settings.tasks}
    results["items"] = {model: {task: _items_file(model, task) for task in work.settings.tasks} for model in models}
    if training is None:
        return results, {}
    parts = report.parts_of(work.groups)
    reference = items[KNESER_NEY]
    rows = {
        "scores": [row for model in models for row in report.bits_rows(model, items[model], parts)],
        "references": [
            *report.bits_rows(KNESER_NEY, reference, parts),
            *report.xz_rows(XZ, work.groups, work.tokenizer),
        ],
        "margins": [row for model in models for row in report.margin_rows(model, items[model], reference, parts)],
    }
    results["kneser-ney"] = {"order": ORDER, "tokens": training.taken, "of_tokens": training.total}
    results[BITS] = rows
    figures = report.figures_of(rows, last=models[-1])
    figures["kneser_ney_tokens"] = Figure(training.taken, "tokens")
    return results, figures


def _items_file(model: str, task: str) -> str:
    return f"items/{model_folder(model)}/{task}.jsonl"


def model_folder(model: str) -> str:
    """A model's name as a folder's: `pretrain:0` -> `pretrain-0`."""
    return model.replace(":", "-")
