"""Shares of right answers, their clustered errors against other ways to get them, and rows of controls."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhen.evaluate import accuracy
from zhen.evaluate.answers import answer_pools, answered, commonest_answers
from zhen.evaluate.in_training import Found, found_rows
from zhen.evaluate.questions import Question, Task, groups_of


def question(name: str, answer: str, **more: object) -> Question:
    return Question(prompt="Who?", answer=answer, id=name, **({"lang": "en", "kind": "B", "cluster": name} | more))  # type: ignore[arg-type]


def test_a_clustered_error_by_hand() -> None:
    """Scores 1, 1 | 0 | 1, 0: mean 0.6; deviations 0.4, 0.4, -0.6, 0.4, -0.6; squares sum to 1.2.

    Independent: 1.2 / (5 · 4) = 0.06. Pairs within clusters, both orders: 2 · 0.16 + 2 · (-0.24) = -0.16; / 25 =
    -0.0064.
    """
    found = accuracy.clustered_error([1, 1, 0, 1, 0], ["a", "a", "b", "c", "c"])
    assert found == pytest.approx(math.sqrt(0.06 - 0.0064), rel=1e-12)


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from("abcd")), min_size=2, max_size=12))
def test_a_clustered_error_is_the_double_sum_over_pairs(items: list[tuple[int, str]]) -> None:
    scores, clusters = [float(score) for score, _ in items], [cluster for _, cluster in items]
    found = accuracy.clustered_error(scores, clusters)
    if len(set(clusters)) < 2:
        assert found is None
        return
    n, mean = len(items), float(np.mean(scores))
    variance = float(np.var(scores, ddof=1)) / n
    for i, j in product(range(n), repeat=2):
        if i != j and clusters[i] == clusters[j]:
            variance += (scores[i] - mean) * (scores[j] - mean) / n**2
    assert found == pytest.approx(math.sqrt(max(variance, 0)), abs=1e-9)


def test_items_that_repeat_their_cluster_are_worth_one_each() -> None:
    once = [float(i % 3 == 0) for i in range(200)]
    names = [str(i) for i in range(200)]
    alone = accuracy.clustered_error(once, names)
    fourfold = accuracy.clustered_error(once * 4, names * 4)
    assert alone is not None
    assert fourfold == pytest.approx(alone, rel=0.01)


def pets() -> list[Task]:
    """Two tasks that share a relation: four of six have a cat, one of them asked twice."""
    animals = ["cat", "cat", "cat", "dog", "goose"]
    first = [question(f"p{i}", f" {animal}", relation="pet") for i, animal in enumerate(animals)]
    choices = {"choices": [" dog", " cat"], "gold": 1}
    second = [
        question("p0 again", " cat", relation="pet", cluster="p0", **choices),
        question("p9", " cat", relation="pet", kind="C", **choices),
    ]
    return [Task("one.en", "one", first), Task("two.en", "two", second)]


def test_guessing_is_one_in_the_answers_of_the_relation_or_in_the_choices() -> None:
    tasks = pets()
    pools = answer_pools(tasks)
    assert pools == {("en", "pet"): {"cat": 4, "dog": 1, "goose": 1}}
    rows = list(accuracy.chance_rows(groups_of(tasks), pools))
    found = [(row["task"], row["kind"], row["metric"], row["score"], row["n"]) for row in rows]
    third = pytest.approx(1 / 3, abs=1e-6)
    assert found == [
        ("one.en", "B", "exact", third, 5),
        ("two.en", "B", "exact", third, 1), ("two.en", "B", "choice", 0.5, 1),
        ("two.en", "C", "exact", third, 1), ("two.en", "C", "choice", 0.5, 1),
    ]  # fmt: skip


def test_the_commonest_answer_is_right_as_often_as_it_is_common() -> None:
    tasks = pets()
    pools = answer_pools(tasks)
    answers = {task.name: list(commonest_answers(task, pools)) for task in tasks}
    rows = list(accuracy.answer_rows("most-frequent", groups_of(tasks), answers, pools))
    assert [(row["metric"], row["score"]) for row in rows[:3]] == [("exact", 0.6), ("exact", 1.0), ("choice", 1.0)]


def test_questions_without_a_relation_are_guessed_from_their_own_task() -> None:
    tasks = [Task(name, name, [question("a", f" {name}"), question("b", " x")]) for name in ("one", "two")]
    assert answer_pools(tasks) == {("en", "one"): {"one": 1, "x": 1}, ("en", "two"): {"two": 1, "x": 1}}


def test_figures_name_sets_models_and_what_training_holds() -> None:
    tasks = pets()
    groups, pools = groups_of(tasks), answer_pools(tasks)
    answers = {task.name: [answered(item, item.answer, None) for item in task.questions] for task in tasks}
    rows = list(accuracy.answer_rows("pretrain", groups, answers, pools))
    rows += accuracy.answer_rows("kneser-ney", groups, answers, pools)
    held = {task.name: [Found(item.id, int(item.id == "p9"), 0) for item in task.questions] for task in tasks}
    figures = accuracy.figures_of(rows, list(found_rows(groups, held)), last="pretrain")
    assert figures["questions.one.en.exact"].value == figures["questions.two.C.en.exact.kneser-ney"].value == 1.0
    assert (figures["questions_in_training"].value, figures["questions_in_training"].n) == (1, 7)
    assert (figures["questions_in_training.two.C.en"].value, figures["pairs_in_training"].value) == (1, 0)
    assert accuracy.sentence(rows, "pretrain") == "exact answer to 100 % of 6 questions never asked (guessing: 33 %)"
