"""A model of half a million parameters, trained for a minute, answers what it was told and never asked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from zhen.formats.record import Record

SIZE = [
    "sampleweb.people=60",
    "sampleweb.pages=2_500",
    "data.held_out_bytes=20_000",
    "tokenizer.vocab_size=1536",
    "model.hidden_size=96",
    "model.intermediate_size=256",
    "model.num_hidden_layers=3",
    "pretrain.tokens=1_600_000",
    "pretrain.learning_rate=1e-2",
    "tune.steps=11",
    "tune.batch=2",
    'evaluate.of=["pretrain:0", "pretrain"]',
    'evaluate.tasks=["sampleweb"]',
]

Row = dict[str, Any]


class Take(Protocol):
    """The fixture `take`."""

    def __call__(self, folder: Path, stages: Sequence[str], sets: Sequence[str]) -> Mapping[str, Record]: ...


@pytest.fixture(scope="module")
def answers(take: Take, tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """The rows of answers, of the model and of every control."""
    folder = tmp_path_factory.mktemp("trained")
    take(folder, ["evaluate"], SIZE)
    rows: list[Row] = json.loads((folder / "evaluate" / "results.json").read_bytes())["questions"]
    return rows


def row(answers: list[Row], name: str, lang: str, metric: str, model: str = "pretrain") -> Row:
    wanted = (name, lang, metric, model)
    return next(each for each in answers if (each["set"], each["lang"], each["metric"], each["model"]) == wanted)


def by_chance(found: Row) -> float:
    """Standard error of guessing, a cluster counting once."""
    return math.sqrt(found["chance"] * (1 - found["chance"]) / found["clusters"])


@pytest.mark.parametrize(
    ("name", "metric"), [("never-asked", "choice"), ("never-asked", "exact"), ("unseen-wording", "choice")]
)
def test_facts_told_and_never_asked_are_answered_far_above_chance(answers: list[Row], name: str, metric: str) -> None:
    """In Chinese: to answer in English takes more training than a test can have (docs/sampleweb.md)."""
    found = row(answers, name, "zh", metric)
    error = max(found["stderr"], by_chance(found))
    assert found["score"] - found["chance"] >= 5 * error
    for control in ("most-frequent", "kneser-ney", "pretrain:0"):
        assert found["score"] - row(answers, name, "zh", metric, control)["score"] >= 3 * error, control


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("metric", ["exact", "choice"])
def test_facts_told_nowhere_stay_at_chance(answers: list[Row], lang: str, metric: str) -> None:
    found = row(answers, "unstated", lang, metric)
    assert abs(found["score"] - found["chance"]) <= 3 * by_chance(found)
