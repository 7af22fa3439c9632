"""Sizes that can be made, and those that are refused with what is expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zhen.sampleweb.settings import SamplewebSettings, fewest_pages


def test_the_smallest_web_states_and_asks_every_fact(tmp_path: Path, remake: Any) -> None:
    web = remake(tmp_path, SamplewebSettings(people=6, pages=fewest_pages(6)))
    assert all(bool(fact["stated_on"]) == bool(fact["told_in"]) for fact in web.facts)
    assert all(fact["asked_on"] for fact in web.facts if fact["split"] == "A")


def test_a_web_can_be_larger_than_the_usual_one(tmp_path: Path, remake: Any) -> None:
    web = remake(tmp_path, SamplewebSettings(people=300, pages=fewest_pages(300)))
    assert web.figures["people"].value == 300
    assert web.figures["facts"].value > 2_000


@pytest.mark.parametrize(
    ("people", "pages", "field"), [(5, 500, "people"), (301, 9999, "people"), (60, 100, "pages"), (8, -1, "pages")]
)
def test_impossible_sizes_are_problems_that_name_the_value(people: int, pages: int, field: str) -> None:
    problems = list(SamplewebSettings(people=people, pages=pages).problems())
    assert [problem[0] for problem in problems] == [field]
    assert str(people if field == "people" else pages) in problems[0][1]


@pytest.mark.parametrize("size", [(6, 60), (8, 60), (60, 5000), (300, 5000)])
def test_possible_sizes_have_no_problems(size: tuple[int, int]) -> None:
    assert list(SamplewebSettings(people=size[0], pages=size[1]).problems()) == []
