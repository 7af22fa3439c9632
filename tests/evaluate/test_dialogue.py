"""Replies judged by program: the right answer and no other, the end of the turn, language, repetition."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zhen.evaluate.dialogue import in_language, named, repeats, talkers
from zhen.evaluate.settings import EvaluateSettings
from zhen.evaluate.stage import evaluate
from zhen.formats.stage import Context

POOL = {"cat": 1, "owl": 1, "fish": 2, "fish soup": 1}
CHINESE = {"猫": 1, "猫头鹰": 1, "鸭子": 1}


@pytest.mark.parametrize(
    ("reply", "lang", "found"),
    [
        ("Mira keeps a cat.", "en", {"cat"}),
        ("Mira likes fish soup best.", "en", {"fish soup"}),
        ("A cat, or an Owl.", "en", {"cat", "owl"}),
        ("Mira is a fisher of catfish.", "en", set()),
        ("", "en", set()),
        ("家里养了一只猫头鹰。", "zh", {"猫头鹰"}),
        ("家里养了一只猫和鸭子。", "zh", {"猫", "鸭子"}),
    ],
)
def test_named_are_whole_answers_of_the_longest_form(reply: str, lang: str, found: set[str]) -> None:
    assert {answer.lower() for answer in named(reply, lang, CHINESE if lang == "zh" else POOL)} == found


@pytest.mark.parametrize(
    ("reply", "lang", "kept"),
    [
        ("Mira keeps a cat.", "en", True),
        ("米拉养猫。", "zh", True),
        ("米拉养猫。", "en", False),
        ("Mira keeps a cat.", "zh", False),
        ("12, 13.", "en", False),
        ("", "zh", False),
        ("米拉住在 Orlin。", "en", True),
    ],
)
def test_the_language_of_a_reply_is_that_of_most_letters(reply: str, lang: str, kept: bool) -> None:
    assert in_language(reply, lang) == kept


def test_a_reply_repeats_itself_where_four_tokens_stand_three_times() -> None:
    assert repeats([1, 2, 3, 4] * 3)
    assert not repeats([1, 2, 3, 4] * 2)
    assert repeats([7] * 6)
    assert not repeats(list(range(60)))


def test_every_question_is_put_to_the_trained_models_as_a_turn(context: Callable[..., Context], tmp_path: Path) -> None:
    questions = tmp_path / "mine.jsonl"
    items: list[dict[str, Any]] = [
        {"prompt": f"Question: What does {name} sell?\nAnswer:", "answer": " soup", "lang": "en"}
        for name in ("Mira", "Lani", "Tolo")
    ]
    questions.write_text("".join(json.dumps(item) + "\n" for item in items))
    given = context(of=["pretrain:0", "pretrain"], tasks=[str(questions), "dialogue"])
    figures = evaluate(given)
    rows = [
        json.loads(line) for line in (given.folder / "items" / "pretrain" / "dialogue.jsonl").read_text().splitlines()
    ]
    assert [row["question"] for row in rows] == [f"What does {name} sell?" for name in ("Mira", "Lani", "Tolo")]
    assert all(row["right"] == (row["names"] and row["stops"]) for row in rows)
    for name in ("right", "names", "stops", "language", "repeats"):
        share = sum(row[name] for row in rows) / 3
        figure = figures[f"dialogue.mine.en.{name}" if name in ("right", "names") else f"dialogue.{name}"]
        assert (figure.value, figure.n) == (pytest.approx(share), 3)
    assert not [name for name in figures if name.startswith("dialogue.") and name.endswith(":0")]


def test_a_model_before_its_first_step_is_asked_only_where_there_is_no_other() -> None:
    assert talkers(["pretrain:0", "pretrain", "tune"]) == ["pretrain", "tune"]
    assert talkers(["pretrain:0"]) == ["pretrain:0"]


def test_dialogue_needs_questions() -> None:
    assert [field for field, _, _ in EvaluateSettings(tasks=["dialogue"]).problems()] == ["tasks"]
