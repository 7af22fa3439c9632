"""The stage `evaluate`: each model by each task, beside references; what was finished before a stop is kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from zhen.errors import ZhenError
from zhen.evaluate import bits_per_byte as bpb
from zhen.evaluate import results as report
from zhen.evaluate.asking import Asking, Files, ask
from zhen.evaluate.benchmarks import benchmark_inputs, open_benchmarks, put_to_models
from zhen.evaluate.dialogue import Talking, talkers
from zhen.evaluate.dialogue import sentence as dialogue_sentence
from zhen.evaluate.held_out import Group, read_groups
from zhen.evaluate.longcontext.stage import open_long_tasks, put_long_tasks
from zhen.evaluate.questions import form_figures, read_tasks, task_files
from zhen.evaluate.samples import Sample, greedy_samples
from zhen.evaluate.settings import DIALOGUE, SHORT_TEXT, TASKS, EvaluateSettings, question_files
from zhen.evaluate.short_text import read_short_text, short_text_figures
from zhen.evaluate.work import KNESER_NEY, ORDER, PARTS, LoadedEngine, Part, Work, items_file, make_items
from zhen.formats.files import sha256_file, write_json
from zhen.formats.record import Figure, Input
from zhen.formats.stage import Context, Figures
from zhen.infer.engine import load_engine
from zhen.tokenizer.load import load_tokenizer

MODELS = {
    "pretrain:0": ("pretrain", "checkpoint-0"),
    "pretrain": ("pretrain", "checkpoint"),
    "extend": ("extend", "checkpoint"),
    "tune": ("tune", "checkpoint"),
    "quantize": ("quantize", "checkpoint"),
}
"""Model -> the stage that made it, and its folder there. The last one that a run has is evaluated by default."""

XZ = "xz -9"
BITS = "bits-per-byte"
SAMPLES = "samples"

PART_DOCUMENTS = 8 * bpb.DOCUMENTS_AT_ONCE
"""Documents in a piece: what a stop can cost."""


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
    tasks = read_tasks(task_files(settings.tasks, context.after.get("sampleweb/tasks")))
    document_tasks = [name for name in settings.tasks if name in TASKS]
    groups = read_groups(context.after["shards"], tokenizer.sha256) if document_tasks else []
    documents = sum(len(group.documents) for group in groups)
    work = Work(context, settings, tokenizer, groups)
    asking = Asking(work, tasks) if tasks else None
    talking = Talking(work, tasks) if DIALOGUE in settings.tasks else None
    benches = open_benchmarks(settings)
    long_tasks = open_long_tasks(work, models)
    # questions are also given to the reference and to the commonest answer, and looked up in the training text
    work.total = documents * (len(models) * len(document_tasks) + (BITS in settings.tasks))
    work.total += asking.total * (len(models) + 3) if asking else 0
    work.total += len(talking.asked) * len(talkers(models)) if talking else 0
    work.total += sum(bench.total for bench in (*benches.values(), *long_tasks.values())) * len(models)
    engines: dict[str, LoadedEngine] = {
        name: cache(partial(load_engine, folder, dtype="float32")) for name, folder in models.items()
    }
    results, figures = _documents(work, engines, models)
    sentences = [f"{documents:,} held-out documents{_margins(figures)}"] if groups else []
    if asking is not None:
        files, more, of_questions, sentence = ask(asking, engines)
        figures |= _add(results, files, more, of_questions) | form_figures(asking.tasks)
        sentences.insert(0, sentence)
    if talking is not None:
        of_dialogue, word = _talk(talking, engines, results)
        figures |= of_dialogue
        sentences.append(word)
    if benches:
        figures |= _add(results, *put_to_models(work, benches, engines))
    if long_tasks:
        figures |= _add(results, *put_long_tasks(work, long_tasks, engines))
    if put := [*benches.values(), *long_tasks.values()]:
        sentences.append(f"{sum(each.total for each in put):,} items of {', '.join((*benches, *long_tasks))}")
    context.output("results.json", "result", write_json(context.folder / "results.json", results))
    context.output("timings.json", "log", write_json(context.folder / "timings.json", work.timings))
    shutil.rmtree(context.folder / PARTS, ignore_errors=True)
    counted = f"{len(models)} model{'s' if len(models) > 1 else ''}"
    context.summary = f"{counted}: {'; '.join(sentences)}"
    return figures


def evaluate_inputs(sections: Mapping[str, Any]) -> list[Input]:
    """The recipe's own files of questions, and those of benchmarks. Raises ZhenError for one that is missing."""
    settings: EvaluateSettings = sections["evaluate"]
    found = []
    for name, path in task_files(question_files(settings.tasks), None).items():
        digest = sha256_file(path)
        found.append(Input(f"{name}.jsonl", digest.bytes, digest.sha256))
    return found + benchmark_inputs(settings)


def _add(results: dict[str, Any], files: Files, more: Mapping[str, Any], figures: Figures) -> Figures:
    """Add what some tasks gave to `results`; returns their figures."""
    for name, some in files.items():
        results["items"].setdefault(name, {}).update(some)
    results |= more
    return figures


def _talk(talking: Talking, engines: dict[str, LoadedEngine], results: dict[str, Any]) -> tuple[Figures, str]:
    """The task `dialogue`; adds to `results`."""
    replies, rows, figures = talking.ask(engines)
    results[DIALOGUE] = rows
    for name in replies:
        results["items"].setdefault(name, {})[DIALOGUE] = items_file(name, DIALOGUE)
    return figures, dialogue_sentence(figures)


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


def _documents(
    work: Work, engines: dict[str, LoadedEngine], models: Mapping[str, Path]
) -> tuple[dict[str, Any], Figures]:
    """The tasks on held-out documents; the first part of `results.json`, and the figures."""
    items = {KNESER_NEY: _kneser_ney(work)} if BITS in work.settings.tasks else {}
    for name, engine in engines.items():
        if BITS in work.settings.tasks:
            items[name] = make_items(work, name, BITS, bpb.Item, _bits_parts(work, name, engine))
        if SAMPLES in work.settings.tasks:
            make_items(work, name, SAMPLES, Sample, _samples_parts(work, name, engine))
    results, figures = _results(work, list(engines), items)
    if BITS in work.settings.tasks and (rows := read_short_text(models, items)):
        results[SHORT_TEXT] = rows
        figures |= short_text_figures(rows)
    return results, figures


def _bits_parts(work: Work, name: str, engine: LoadedEngine) -> list[Part]:
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


def _samples_parts(work: Work, name: str, engine: LoadedEngine) -> list[Part]:
    def compute(group: Group) -> Iterable[Sample]:
        samples = greedy_samples(engine(), group, work.settings)
        work.advance(len(group.documents), f"{name} · {SAMPLES} · {group.name}")
        return samples

    return [(group.name, len(group.documents), partial(compute, group)) for group in work.groups]


def _kneser_ney(work: Work) -> list[bpb.Item]:
    """The reference's items; it is trained only if they aren't there yet."""

    def compute() -> Iterable[bpb.Item]:
        for group in work.groups:
            yield from bpb.kneser_ney_items(work.reference, group)
            work.advance(len(group.documents), f"{KNESER_NEY} · {group.name}")

    documents = sum(len(group.documents) for group in work.groups)
    return make_items(work, KNESER_NEY, BITS, bpb.Item, [("all", documents, compute)])


def _results(work: Work, models: list[str], items: dict[str, list[bpb.Item]]) -> tuple[dict[str, Any], Figures]:
    """The content of `results.json` about documents, and the figures."""
    tasks = [task for task in work.settings.tasks if task in TASKS]
    results: dict[str, Any] = {"models": models, "tasks": work.settings.tasks}
    results["items"] = {model: {task: items_file(model, task) for task in tasks} for model in models}
    if BITS not in tasks:
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
    results["kneser-ney"] = {"order": ORDER, "tokens": work.training.taken, "of_tokens": work.training.total}
    results[BITS] = rows
    figures = report.figures_of(rows, last=models[-1])
    figures["kneser_ney_tokens"] = Figure(work.training.taken, "tokens")
    return results, figures
