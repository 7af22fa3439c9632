"""Each preset meets texts that are made for its rules, and the documentation shows its thresholds as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zhen.data.rules import PRESETS, RULES
from zhen.data.settings import RulesSettings
from zhen.data.signals import Batch

PROSE = (
    "The old town lies on a river that comes down from the hills, and nobody knows who built its walls.",
    "In the winter the people walk over the ice to the market, where bread and apples are sold in the morning.",
    "A miller once had his house there; of his wheel there is not much to see, but children still look for it.",
    "When spring comes the water is high, and all that was left on the banks has to be brought to the barns.",
    "Those who stay for longer than a week have usually heard the story of the bell that rang by itself.",
)
CHINESE = (
    "老城在一条河的边上，河水是从山里来的，没有人知道城墙是谁修的。",
    "冬天的时候，人们从冰上走到对岸的集市去，早上那里有面包和苹果卖。",
    "以前有个磨坊主在这里住过，他的水车现在看不到多少了，可是孩子们还在找。",
    "春天到来以后水位很高，留在岸边的东西都要搬进仓库里去。",
    "住上一个星期的客人，大都听说过那口自己会响的钟的故事。",
)


def removed_by(text: str, preset: str) -> set[str]:
    batch = Batch([text])
    columns = {"lang": np.array(batch.langs), **batch.signals}
    settings = RulesSettings(preset=preset)
    return {rule.name for rule in RULES if not rule.verdict(columns, settings)[0][0]}


@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset != "map-zh"])
def test_english_prose_passes(preset: str) -> None:
    expected = {"chinese"} if preset == "fineweb2-zh" else set()
    assert removed_by("\n".join(PROSE), preset) - {"stop-words", "words-with-letters"} == expected


@pytest.mark.parametrize("preset", ["bilingual", "fineweb2-zh", "map-zh"])
def test_chinese_prose_passes(preset: str) -> None:
    assert removed_by("\n".join(CHINESE), preset) == set()


def test_a_preset_of_one_language_keeps_no_other() -> None:
    assert "english" in removed_by("\n".join(CHINESE), "fineweb-en")
    assert "chinese" in removed_by("\n".join(PROSE), "map-zh")


def test_the_chinese_rules_of_repetition_do_drop() -> None:
    """The reference code of MAP-NEO asks `if not` of a tuple, which drops nothing."""
    again = "老城在河边。" * 20
    assert {"top-2-grams", "duplicated-5-grams", "distinct-words"} <= removed_by(again, "map-zh")
    assert "duplicated-10-grams" in removed_by(again, "fineweb2-zh")


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("There is { in this line of text.", "c4-banned"),
        ("Lorem ipsum dolor sit amet.", "c4-banned"),
    ],
)
def test_c4_drops_the_page_for_a_line(line: str, rule: str) -> None:
    assert removed_by("\n".join((*PROSE, line)), "c4") == {rule}


def test_c4_counts_sentences_only_in_lines_that_it_keeps() -> None:
    assert removed_by("\n".join(PROSE), "c4") == set()
    for line in ("It has no end mark", "JavaScript must be on.", "We use cookies on this page.", "Too short."):
        assert removed_by("\n".join((*PROSE[:4], line)), "c4") == {"c4-sentences"}
    assert removed_by("\n".join((*PROSE[:4], "It has an end mark.[12]")), "c4") == set()


def test_gopher_and_fineweb_look_at_lines() -> None:
    bullets = "\n".join(f"- {line}" for line in PROSE)
    assert removed_by(bullets, "gopher") == {"bullet-lines"}
    cut = "\n".join(f"{line}…" for line in PROSE)
    assert {"ellipsis-lines"} <= removed_by(cut, "gopher")
    menu = "\n".join(" ".join(PROSE).replace(".", "").replace(",", "").split())
    assert {"ended-lines", "short-lines", "line-ends"} <= removed_by(menu, "fineweb-en")


def test_the_documentation_has_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `")
    ]
    columns = [preset for preset in PRESETS if preset != "none"]
    assert [row[0].strip("`") for row in rows] == [rule.name for rule in RULES]
    for row, rule in zip(rows, RULES, strict=True):
        assert row[1] == rule.direction
        for cell, preset in zip(row[3:], columns, strict=True):
            shown = dict(part.split(" ") if " " in part else ("*", part) for part in cell.split(", ") if part)
            shown = {"*" if lang == "others" else lang: float(value.replace(",", "")) for lang, value in shown.items()}
            assert shown == rule.thresholds(preset), rule.name
