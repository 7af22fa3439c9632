"""Registers: long pages that tell numbers and ask for them, beside a web that stays as it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from zhen.sampleweb.registers import NEAR
from zhen.sampleweb.settings import SamplewebSettings, fewest_pages

SMALL = {"people": 6, "pages": fewest_pages(6)}
COUNT = 40


def test_registers_leave_everything_else_as_it_is(tmp_path: Path, remake: Any, added: Any) -> None:
    without = remake(tmp_path / "without", SamplewebSettings(**SMALL))
    with_some = remake(tmp_path / "with", SamplewebSettings(**SMALL, registers=COUNT))
    assert added(without, with_some) == {"crawl/registry.example.warc.gz"}


def test_what_a_register_asks_stands_on_it_before_and_on_no_other(tmp_path: Path, remake: Any) -> None:
    web = remake(tmp_path, SamplewebSettings(**SMALL, registers=COUNT))
    registers = [row for row in web.faulty if row["kind"] == "register"]
    assert len(registers) == COUNT
    assert {row["lang"] for row in registers} == {"en", "zh"}
    assert {row["fate"] for row in registers} == {"keep"}
    for row in registers:
        row["text"] = f"{row['title']}\n{row['text']}"
    everywhere = "\n".join(row["text"] for row in registers)
    asked: list[int] = []
    for row in registers:
        lines = row["text"].split("\n")
        answers = [line for line in lines if line.startswith(("Answer: ", "回答："))]
        for answer in set(answers):
            told = answer.removeprefix("Answer: ").removeprefix("回答：")
            assert lines.count(told) == 1
            assert lines.index(told) < lines.index(answer)
            (key,) = re.findall(r"\d{5}", told)
            asked.append(answers.count(answer))
            assert everywhere.count(key) == row["text"].count(key) == 1 + asked[-1]
    headings = sum(bool(re.search(r"\d{5}", row["title"])) for row in registers)
    assert 2 <= headings <= COUNT // 2
    assert len(asked) > COUNT
    assert min(asked) == 1 < 8 < max(asked) <= NEAR
    sizes = [len(row["text"].encode()) for row in registers]
    assert min(sizes) < 900 < 2_500 < max(sizes)
