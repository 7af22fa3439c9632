"""What `zhen evaluate` prints: scores, paired differences, what differs between two results."""

from __future__ import annotations

from typing import Any

from zhen.cli.app import print_json
from zhen.console import out, say, table
from zhen.errors import ANSWER_IS_NO, DONE
from zhen.evaluate.harness.differences import differences, effects
from zhen.evaluate.harness.result import ITEMS, Loaded


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
            macro = percent(row["macro"]) if row["parts"] else ""
            chance = "" if row["chance"] is None else percent(row["chance"])
            cells = [
                task,
                with_error(row),
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
    for task, row in next(iter(result.models.values())).results.items():
        if row["truncated"]:
            counted = f"{row['truncated']:,} of {row['n']:,} prompts"
            say(f"{task}: {counted} are longer than the model's context and lost their beginning")
        if "in_training" in row:
            rest = f"; of the others {with_error(row['unseen'])}" if row["unseen"] else ""
            say(f"{task}: the training text has {row['in_training']:,} of {row['n']:,} questions{rest}")
    if result.skipped:
        say(f"left out, no files: {', '.join(result.skipped)}")
    return DONE


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
        out.print(table(("differs", "task", "how"), [(each.cause, each.task or "all", each.text) for each in found]))
        out.print()
    rows = [
        (each.model, each.task, f"{each.items:,}", f"{each.changed:,}", f"{each.scores:,}", f"{each.largest:.2g}")
        for each in changes
    ]
    out.print(table(("model", "task", "in both", "answers differ", "scores differ", "largest gap, nats"), rows))
    say("the same, item by item" if same else "not the same")
    return DONE if same else ANSWER_IS_NO


def percent(share: float) -> str:
    """`63.2`."""
    return f"{100 * share:.1f}"


def with_error(row: dict[str, Any]) -> str:
    """`63.2 ± 0.4`, the standard error behind."""
    return percent(row["score"]) + ("" if row["stderr"] is None else f" ± {100 * row['stderr']:.1f}")


def _points(row: dict[str, Any]) -> str:
    error = "" if row["stderr"] is None else f" ± {100 * row['stderr']:.1f}"
    return f"{100 * row['difference']:+.1f}{error}"


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
