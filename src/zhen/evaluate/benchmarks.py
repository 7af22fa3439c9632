"""Benchmarks in a run: the tasks of `zhen evaluate` put to its models, as tasks of the stage like the others.

lm-evaluation-harness is imported only where a recipe names a benchmark.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhen.errors import ZhenError, missing_extra
from zhen.evaluate.in_training import training_texts
from zhen.evaluate.items import Item, beside_training
from zhen.evaluate.settings import EvaluateSettings, benchmark_tasks
from zhen.evaluate.work import LoadedEngine, Work, items_file, put_to_each
from zhen.formats.files import sha256_file
from zhen.formats.record import Figure, Input
from zhen.formats.stage import Figures

if TYPE_CHECKING:
    from zhen.evaluate.harness.bench import Bench

Rows = dict[str, Any]


def open_benchmarks(settings: EvaluateSettings) -> dict[str, Bench]:
    """The benchmarks among the tasks, by name. Raises ZhenError for files that are not there."""
    names = benchmark_tasks(settings.tasks)
    if not names:
        return {}
    if importlib.util.find_spec("lm_eval") is None:
        raise missing_extra("lm-eval", "eval", f"the task `{names[0]}`")
    from zhen.evaluate.harness.bench import Bench
    from zhen.evaluate.harness.own import task_of
    from zhen.evaluate.harness.task import parts_of

    found = {name: task_of(name) for name in names}
    return {name: Bench(task, parts_of(task, _folder(settings)), limit=settings.limit) for name, task in found.items()}


def benchmark_inputs(settings: EvaluateSettings) -> list[Input]:
    """The files of the benchmarks, relative to `data`. Raises ZhenError where they are not there."""
    names = benchmark_tasks(settings.tasks)
    data = _folder(settings)
    if names and not data.is_dir():
        raise ZhenError("no such folder of benchmark files", file=data, hint="evaluate.data names it")
    files = {name: path for bench in open_benchmarks(settings).values() for name, path in bench.inputs(data).items()}
    return [Input(name, *sha256_file(path)) for name, path in sorted(files.items())]


def _folder(settings: EvaluateSettings) -> Path:
    return Path(os.path.expanduser(os.path.expandvars(settings.data or "")))


def put_to_models(
    work: Work, benches: dict[str, Bench], engines: dict[str, LoadedEngine]
) -> tuple[dict[str, dict[str, str]], Rows, Figures]:
    """Files of items by model and task, what stands in `results.json`, the figures (the last model's without name)."""
    from zhen.evaluate.harness.in_training import questions_found

    texts = training_texts(work.context.after["shards"], work.tokenizer, lambda tokens: None)
    seen = questions_found(benches, texts)
    files: dict[str, dict[str, str]] = {}
    scores: dict[str, Rows] = {}
    figures: Figures = {}
    for name, task, items, row, behind in put_to_each(work, benches, engines, _put):
        row |= {"shots": benches[task].shots} | beside_training(items, row["metric"], seen[task])
        files.setdefault(name, {})[task] = items_file(name, task)
        scores.setdefault(name, {})[task] = row
        figures[f"benchmark.{task}{behind}"] = Figure(row["score"], "mean", row["n"], row["stderr"])
    return files, {"benchmarks": scores}, figures


def _put(work: Work, name: str, bench: Bench, engine: LoadedEngine) -> Iterable[Item]:
    from zhen.evaluate.harness.model import EngineLM

    facts = f"{name} · {bench.task.name}"
    items = bench.put_to(
        EngineLM(engine(), progress=lambda done, total: work.advance(0, f"{facts} · {done:,}/{total:,}"))
    )
    work.advance(bench.total, facts)
    return items
