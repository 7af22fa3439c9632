"""Long context in a run: its tasks put to the run's models, on its held-out documents, as tasks of the stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zhen.evaluate.items import NATS, Item, Row, unit_of
from zhen.evaluate.longcontext.grid import CHOICE, EXACT
from zhen.evaluate.longcontext.positions import Positions
from zhen.evaluate.longcontext.task import LongTask, lengths_for, long_task
from zhen.evaluate.longcontext.texts import held_out_texts
from zhen.evaluate.settings import LONG_CONTEXT, PASSKEY, USED_LENGTH, used_length
from zhen.evaluate.work import LoadedEngine, Work, items_file, put_to_each
from zhen.formats.record import Figure
from zhen.formats.stage import Figures


def open_long_tasks(work: Work, models: Mapping[str, Path]) -> dict[str, LongTask]:
    """The tasks on long texts among those of the settings, by name."""
    names = [name for name in work.settings.tasks if name in LONG_CONTEXT]
    if not names:
        return {}
    texts = held_out_texts(work.context.after["shards"], work.tokenizer)
    lengths = lengths_for(list(models.values()), work.settings.lengths)
    seed = work.context.sections["run.seed"]
    return {name: long_task(name, texts, lengths, work.settings.limit, seed) for name in names}


def put_long_tasks(
    work: Work, tasks: Mapping[str, LongTask], engines: Mapping[str, LoadedEngine]
) -> tuple[dict[str, dict[str, str]], dict[str, Any], Figures]:
    """Files of items by model and task, what stands in `results.json`, the figures (the last model's without name)."""
    files: dict[str, dict[str, str]] = {}
    rows: dict[str, dict[str, Row]] = {}
    figures: Figures = {}
    for name, task, items, row, behind in put_to_each(work, tasks, engines, _put):
        row |= tasks[task].more(items)
        files.setdefault(name, {})[task] = items_file(name, task)
        rows.setdefault(name, {})[task] = row
        figures |= {f"long_context.{task}.{at}{behind}": figure for at, figure in _figures(row)}
        if task == PASSKEY:
            length = used_length(_written(row))
            figures[f"{USED_LENGTH}{behind}"] = Figure(length, "tokens", row["n"])
    return files, {"long-context": rows}, figures


def _put(work: Work, name: str, bench: LongTask, engine: LoadedEngine) -> Iterable[Item]:
    facts = f"{name} · {bench.name}"

    def told(done: int, total: int) -> None:
        work.advance(0, f"{facts} · {done:,}/{total:,}")

    if isinstance(bench, Positions):
        items = bench.put_to(engine(), told)
    else:  # prompts begin as documents do in training, or what a key is told in may be lost with the first token
        items = bench.put_to(engine(), [work.tokenizer.end_of_text], progress=told)
    work.advance(bench.total, facts)
    return items


def _written(row: Row) -> Iterable[tuple[int, float]]:
    """(length, share of the keys written) of each language."""
    return ((cell["tokens"], cell[EXACT]) for cell in row["grid"] if cell["depth"] is None)


def _figures(row: Row) -> Iterable[tuple[str, Figure]]:
    """`<lang>.<tokens>.choice` and `.exact` of a grid's lengths; `<lang>` of the loss."""
    for cell in row.get("grid", []):
        for metric in (CHOICE, EXACT) if cell["depth"] is None else ():
            at = f"{cell['lang']}.{cell['tokens']}.{metric}"
            yield at, Figure(cell[metric], "share right", cell["n"], cell[f"{metric}_stderr"])
    if "positions" in row:
        for lang, mean in (row["parts"] or {row["positions"][0]["lang"]: row}).items():
            yield lang, Figure(mean["score"], unit_of(NATS), mean["n"], mean["stderr"])
