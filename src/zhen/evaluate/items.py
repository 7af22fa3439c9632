"""A benchmark's items: what was asked, what came of it, how it was scored; and the scores that they come to."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence, Set
from typing import Any

import msgspec

from zhen.evaluate.accuracy import DECIMALS, clustered_error

Row = dict[str, Any]

NATS = "nats"
"""The one metric that is no share of right answers: a loss a token, lower is better."""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One question of a benchmark, put to one model."""

    task: str
    part: str
    """The subject; empty where the task has none."""
    id: int
    """Its number in the part, from 0."""
    cluster: str
    """Items of one cluster hang together."""
    doc_hash: str
    """SHA-256 of the item as it was read, of the prompt and of the target: those of the harness."""
    prompt_hash: str
    target_hash: str
    shots: list[str]
    """The examples in the prompt, in their order: the beginnings of their SHA-256."""
    prompts: list[str]
    """The context of each choice; only one where all have the same."""
    choices: list[str]
    """What was scored behind it; empty where the model wrote."""
    logprobs: list[float]
    """Of each choice, nats."""
    greedy: list[bool]
    """Of each choice: whether the model itself would have gone on so."""
    output: str
    """What the model wrote."""
    extracted: dict[str, str]
    """What each filter of the harness took as the answer."""
    target: str
    """What is right."""
    scores: dict[str, float]
    """By metric; `metric, filter` where there are several filters."""
    chance: float | None
    context_tokens: int
    """Of the longest prompt."""
    truncated: bool
    """Whether a prompt lost its beginning."""

    @property
    def name(self) -> str:
        """The same for the same question put to another model."""
        return item_name(self.task, self.part, self.id)


def item_name(task: str, part: str, number: int) -> str:
    """`virology:17`."""
    return f"{part or task}:{number}"


def digest(text: str, letters: int = 12) -> str:
    """The beginning of a text's SHA-256, hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:letters]


def metric_name(metric: str, filter: str, filters: int) -> str:
    """How a metric is called in `scores`."""
    return f"{metric}, {filter}" if filters > 1 else metric


def unit_of(metric: str) -> str:
    """The unit of a metric in records."""
    return "nats/token" if metric == NATS else "mean"


def figure(value: float, metric: str, decimals: int = 2) -> str:
    """A value of a metric as it is shown: in per cent, a loss in nats."""
    return f"{value:.{decimals + 1}f}" if metric == NATS else f"{100 * value:.{decimals}f}"


def summary(items: Sequence[Item], score: str) -> Row:
    """What a task's items come to, by the metric `score`: mean over items with a clustered standard error, mean over
    parts (macro), the mean of each part, all other metrics."""
    parts = list(dict.fromkeys(item.part for item in items))
    by_part = {part: [item for item in items if item.part == part] for part in parts}
    rows = {part: mean_of(some, score) for part, some in by_part.items()}
    errors = [row["stderr"] for row in rows.values()]
    macro = math.fsum(row["score"] for row in rows.values()) / len(rows)
    known = [error for error in errors if error is not None]
    macro_error = math.sqrt(math.fsum(error**2 for error in known)) / len(rows) if len(known) == len(rows) else None
    chances = [item.chance for item in items if item.chance is not None]
    return {
        **mean_of(items, score),
        "metric": score,
        "clusters": len({(item.part, item.cluster) for item in items}),
        "macro": _rounded(macro),
        "macro_stderr": _rounded(macro_error),
        "chance": _rounded(math.fsum(chances) / len(chances)) if len(chances) == len(items) else None,
        "truncated": sum(item.truncated for item in items),
        "metrics": {name: mean_of(items, name) for name in items[0].scores},
        "parts": rows if len(parts) > 1 else {},
    }


def beside_training(items: Sequence[Item], score: str, found: Set[str]) -> Row:
    """How many items have their question in the training text, and the score of the others (None without any)."""
    others = [item for item in items if item.name not in found]
    return {"in_training": len(items) - len(others), "unseen": mean_of(others, score) if others else None}


def mean_of(items: Sequence[Item], metric: str) -> Row:
    """Mean of a metric over items, with its clustered standard error."""
    scores = [item.scores[metric] for item in items]
    error = clustered_error(scores, [f"{item.part} {item.cluster}" for item in items])
    return {"score": _rounded(math.fsum(scores) / len(scores)), "stderr": _rounded(error), "n": len(items)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS)
