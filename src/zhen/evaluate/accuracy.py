"""What answers come to: shares of right ones with clustered standard errors, beside chance; rows and figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zhen.evaluate.answers import Answer, Pool, pool_key
from zhen.evaluate.in_training import row_name, training_figures
from zhen.evaluate.questions import Group, Question, Task
from zhen.formats.record import Figure
from zhen.formats.stage import Figures

EXACT = "exact"
CHOICE = "choice"
METRICS = (EXACT, CHOICE)

CHANCE = "chance"
NEVER_ASKED = "B"
"""The kind of the sample web's items about what pages tell and never ask."""

DECIMALS = 6

Row = dict[str, Any]


def clustered_error(scores: Sequence[float], clusters: Sequence[str]) -> float | None:
    """Standard error of the mean of `scores`, of which those of one cluster hang together.

    SE² = 1/(n (n - 1)) Σ_i (s_i - s̄)² + 1/n² Σ_c Σ_i Σ_{j≠i} (s_ic - s̄)(s_jc - s̄): the variance of independent
    items and, within each cluster c, the products of different items (Miller 2024, arXiv 2411.00640, section 2.2).
    None for a single cluster.
    """
    n = len(scores)
    if len(set(clusters)) < 2:
        return None
    mean = math.fsum(scores) / n
    squares = math.fsum((score - mean) ** 2 for score in scores)
    members: dict[str, list[float]] = {}
    for score, cluster in zip(scores, clusters, strict=True):
        members.setdefault(cluster, []).append(score - mean)
    # the sum over pairs i ≠ j is the square of the sum less the squares
    products = math.fsum(math.fsum(some) ** 2 for some in members.values()) - squares
    return math.sqrt(max(0.0, squares / (n * (n - 1)) + products / n**2))


def chance_of(task: Task, question: Question, metric: str, pools: Mapping[tuple[str, str], Pool]) -> float:
    """How often guessing is right: among the choices, or among all right answers of the same relation and language."""
    return 1 / (len(question.choices) if metric == CHOICE else len(pools[pool_key(task, question)]))


def chance_rows(groups: Sequence[Group], pools: Mapping[tuple[str, str], Pool]) -> Iterator[Row]:
    """Rows of guessing. They have no standard error: nothing is drawn."""
    for group in groups:
        for metric in METRICS:
            chosen = _questions(group, metric)
            if chosen:
                chance = _chance(group, metric, pools)
                yield _row(CHANCE, group, metric, chance, None, chosen, chance)


def answer_rows(
    model: str, groups: Sequence[Group], answers: Mapping[str, Sequence[Answer]], pools: Mapping[tuple[str, str], Pool]
) -> Iterator[Row]:
    """Rows of one model's answers, given by task."""
    for group in groups:
        given = [answers[group.task.name][place] for place in group.places]
        for metric in METRICS:
            rights = [answer.exact if metric == EXACT else answer.choice for answer in given]
            scores = [float(right) for right in rights if right is not None]
            if scores:
                chosen = _questions(group, metric)
                error = clustered_error(scores, [question.cluster for question in chosen])
                score = math.fsum(scores) / len(scores)
                yield _row(model, group, metric, score, error, chosen, _chance(group, metric, pools))


def figures_of(rows: Sequence[Row], found: Sequence[Row], last: str) -> Figures:
    """`questions.<set>.<lang>.<metric>` of the model `last`, with `.<model>` behind for the others and the controls;
    and how many of the questions the training text has (`training_figures`).

    Where a set holds several kinds of a language, its name is followed by the kind's: `<set>.<kind>`.
    """
    figures: Figures = {}
    for row in rows:
        name = f"questions.{row_name(row, found)}.{row['lang']}.{row['metric']}"
        model = "" if row["model"] == last else f".{row['model']}"
        figures[name + model] = Figure(row["score"], "share right", row["n"], row["stderr"])
    return figures | training_figures(found)


def sentence(rows: Sequence[Row], last: str) -> str:
    """`exact answer to 93 % of 432 questions never asked (guessing: 8 %)`: of the model `last`, all languages."""
    own = [row for row in rows if (row["model"], row["metric"]) == (last, EXACT)]
    never = [row for row in own if row["kind"] == NEVER_ASKED]
    chosen = never or own
    n = sum(row["n"] for row in chosen)
    right, guessed = (100 * math.fsum(row[name] * row["n"] for row in chosen) / n for name in ("score", "chance"))
    return f"exact answer to {right:.0f} % of {n:,} questions{' never asked' * bool(never)} (guessing: {guessed:.0f} %)"


def _questions(group: Group, metric: str) -> list[Question]:
    questions = [group.task.questions[place] for place in group.places]
    return [question for question in questions if metric == EXACT or question.choices]


def _chance(group: Group, metric: str, pools: Mapping[tuple[str, str], Pool]) -> float:
    chosen = _questions(group, metric)
    return math.fsum(chance_of(group.task, question, metric, pools) for question in chosen) / len(chosen)


def _row(
    model: str, group: Group, metric: str, score: float, error: float | None, chosen: list[Question], chance: float
) -> Row:
    return {
        "model": model,
        "set": group.task.set,
        "task": group.task.name,
        "kind": group.kind,
        "lang": group.lang,
        "metric": metric,
        "score": round(score, DECIMALS),
        "stderr": None if error is None else round(error, DECIMALS),
        "n": len(chosen),
        "clusters": len({question.cluster for question in chosen}),
        "chance": round(chance, DECIMALS),
    }
