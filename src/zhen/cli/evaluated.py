"""What `zhen evaluate` prints: scores, paired differences, what differs between two results."""

from __future__ import annotations

from typing import Any

from zhen.cli.app import print_json
from zhen.console import out, say, table
from zhen.errors import ANSWER_IS_NO, DONE
from zhen.evaluate.harness.differences import differences, effects
from zhen.evaluate.harness.result import ITEMS, Loaded
from zhen.evaluate.items import NATS, figure
from zhen.evaluate.longcontext.grid import CHOICE, EXACT
from zhen.evaluate.settings import LONG_CONTEXT

METRICS = (CHOICE, EXACT)


def show(loaded: Loaded, as_json: bool) -> int:
    """Print a result."""
    result = loaded.result
    if as_json:
        print_json(_json(loaded))
        return DONE
    several = len(result.models) > 1
    rows = []
    for name, model in result.models.items():
        for task, row in model.results.items():
            macro = figure(row["macro"], row["metric"], 1) if row["parts"] and task not in LONG_CONTEXT else ""
            chance = "" if row["chance"] is None else figure(row["chance"], row["metric"], 1)
            cells = [
                task,
                with_error(row, row["metric"]),
                macro,
                chance,
                str(result.tasks[task].shots),
                f"{row['n']:,}",
                row["metric"],
            ]
            rows.append([name, *cells] if several else cells)
    heads = ["task", "score, %", "by subject", "guessing", "shots", "items", "metric"]
    out.print(table(["model", *heads] if several else heads, rows))
    if result.paired:
        columns = ("task", "difference", "points", "p", "items")
        pairs = [
            (row["task"], f"{row['second']} − {row['first']}", _points(row), _p(row["p"]), f"{row['n']:,}")
            for row in result.paired
        ]
        out.print()
        out.print(table(columns, pairs))
    for name, model in result.models.items():
        for task, row in model.results.items():
            _show_long(name if several else "", task, row)
            _tell(f"{name}: {task}" if several else task, row)
    if result.skipped:
        say(f"left out, no files: {', '.join(result.skipped)}")
    return DONE


def _tell(task: str, row: dict[str, Any]) -> None:
    """What must be known beside a score."""
    if row["truncated"]:
        counted = f"{row['truncated']:,} of {row['n']:,} prompts"
        say(f"{task}: {counted} are longer than the model's context and lost their beginning")
    if "in_training" in row:
        rest = f"; of the others {with_error(row['unseen'], row['metric'])}" if row["unseen"] else ""
        say(f"{task}: the training text has {row['in_training']:,} of {row['n']:,} questions{rest}")


def _show_long(model: str, task: str, row: dict[str, Any]) -> None:
    """A grid by length and depth, and a loss by position, as tables."""
    heading = f"{model} {task}".strip()
    for lang in dict.fromkeys(cell["lang"] for cell in row.get("grid", [])):
        cells = {(cell["tokens"], cell["depth"]): cell for cell in row["grid"] if cell["lang"] == lang}
        lengths = list(dict.fromkeys(length for length, _ in cells))
        depths = [depth for length, depth in cells if length == lengths[0] and depth is not None]
        lines = [
            ["all" if depth is None else f"{depth} %"]
            + [" / ".join(figure(cells[length, depth][metric], metric, 0) for metric in METRICS) for length in lengths]
            for depth in (*depths, None)
        ]
        out.print()
        out.print(
            table([f"{heading} {lang}: {' / '.join(METRICS)}, %", *(f"{each:,} tokens" for each in lengths)], lines)
        )
    if "positions" in row:
        found = [(cell["lang"], _bin(cell), with_error(cell, NATS), f"{cell['n']:,}") for cell in row["positions"]]
        out.print()
        out.print(table([heading, "tokens before", "nats", "documents"], found))


def _bin(cell: dict[str, Any]) -> str:
    """`9 to 12`: the positions of a bin."""
    first, last = cell["first"], cell["last"]
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"


def show_differences(a: Loaded, b: Loaded, *, as_json: bool, again: bool = False) -> int:
    """Print what differs; the exit status. `again`: b is a made again, so that only items count."""
    found, changes = differences(a, b), effects(a, b)
    same = not any(effect.changed for effect in changes) and (again or not found)
    same = same and not any(each.cause in ("items", "data") for each in found)
    if as_json:
        told = {"differences": [each._asdict() for each in found], "items": [each._asdict() for each in changes]}
        print_json({"same": same, **told})
        return DONE if same else ANSWER_IS_NO
    if found:
        several = max(len(each.result.models) for each in (a, b)) > 1
        lines = [[each.model or "all"] * several + [each.cause, each.task or "all", each.text] for each in found]
        out.print(table(["model"] * several + ["differs", "task", "how"], lines))
        out.print()
    rows = [
        (each.model, each.task, f"{each.items:,}", f"{each.changed:,}", f"{each.scores:,}", f"{each.largest:.2g}")
        for each in changes
    ]
    out.print(table(("model", "task", "in both", "answers differ", "scores differ", "largest gap, nats"), rows))
    say("the same, item by item" if same else "not the same")
    return DONE if same else ANSWER_IS_NO


def with_error(row: dict[str, Any], metric: str) -> str:
    """`63.2 ± 0.4`, the standard error behind."""
    return figure(row["score"], metric, 1) + _error(row, metric)


def _points(row: dict[str, Any]) -> str:
    sign = "+" if row["difference"] > 0 else ""
    return sign + figure(row["difference"], row["metric"], 1) + _error(row, row["metric"])


def _error(row: dict[str, Any], metric: str) -> str:
    return "" if row["stderr"] is None else f" ± {figure(row['stderr'], metric, 1)}"


def _p(value: float | None) -> str:
    return "" if value is None else "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _json(loaded: Loaded) -> dict[str, Any]:
    """The first model's results by task, where all items lie; all models; paired differences."""
    result = loaded.result
    results = {name: model.results for name, model in result.models.items()}
    return {
        "results": next(iter(results.values())),
        "records": str(loaded.path.parent / ITEMS),
        "models": results,
        "paired": result.paired,
        "skipped": result.skipped,
    }
