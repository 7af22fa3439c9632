"""The kernels that measure texts: against plain Python, against datatrove, on cases counted by hand."""

from __future__ import annotations

import os
import random
import runpy
from pathlib import Path

import pytest
import text_statistics
from hypothesis import given, settings
from hypothesis import strategies as st

from zhen.data.gate import clean
from zhen.data.statistics import COLUMNS, measure
from zhen.data.words import code_points, sentences, words

ROOT = Path(__file__).parents[2]


def measured(*texts: str) -> list[dict[str, float]]:
    columns = measure(*code_points(texts))
    return [{name: float(columns[name][row]) for name in COLUMNS} for row in range(len(texts))]


PIECES = (
    *("the", "of", "cat", "don't", "x1", "2024", "A", "'", "’", "#", "...", "…", "-", "•", "{", "[3]", "[edit]", " "),
    *("\n", "\n\n", ". ", ".", "? ", "! ", ".\n", '."\n', "汉", "字", "的", "。", "！", "？”", "，", "(", ")", "\n- "),
    *(
        "lorem ipsum dolor",
        "\n一行没有标点的标题及关键词\n" * 5,
        "JavaScript is off.",
        "We use cookies here.",
        "the cat of the cat ",
        "的字的字",
        "....\n",
    ),
)


@given(st.lists(st.sampled_from(PIECES), max_size=60))
@settings(max_examples=400, deadline=None)
def test_a_text_is_measured_as_plain_python_does(pieces: list[str]) -> None:
    text = clean("".join(pieces))[0]
    found = measured(text)[0]
    assert words(text) == text_statistics.split(text)
    for name, value in text_statistics.statistics(text).items():
        assert found[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name


@given(st.lists(st.sampled_from("ab c.\n汉"), max_size=40), st.lists(st.sampled_from("ab c.\n汉"), max_size=40))
@settings(max_examples=50, deadline=None)
def test_texts_do_not_disturb_each_other(one: list[str], two: list[str]) -> None:
    texts = ["".join(one), "".join(two)]
    assert measured(*texts) == [measured(text)[0] for text in texts]


def test_every_character_that_is_not_blank_is_in_one_word() -> None:
    rng = random.Random(4)
    text = "".join(
        chr(rng.choice([rng.randrange(32, 0x250), rng.randrange(0x3000, 0xD7FF), 0x1F600])) for _ in range(999)
    )
    assert "".join(words(text)) == "".join(text.split())


def test_words_and_sentences_of_both_languages() -> None:
    assert words("It isn’t 3.5%, he said... 我用Python写字。") == [
        *("It", "isn’t", "3", ".", "5", "%", ",", "he", "said", "...", "我", "用", "Python", "写", "字", "。")
    ]
    assert sentences('He said "Why?" and left. It cost 3.5 dollars. 你好。“是吗？”他说！ …') == 6


def test_a_case_counted_by_hand() -> None:
    found = measured("a b a b a b\n\na b a b a b")[0]
    assert found["duplicate_lines"] == found["duplicate_paragraphs"] == 0.5
    assert found["duplicate_line_characters"] == pytest.approx(11 / 24)
    assert found["top_2_grams"] == pytest.approx(3 * 6 / 24)  # "a b" six times
    assert found["duplicated_5_grams"] == pytest.approx(10 / 24)  # a b a b a | b | … : two of five characters
    assert found["entropy"] == pytest.approx(0.693147)
    assert found["line_ends"] == pytest.approx(2 / 12)


def test_spam_and_common_words_are_counted_in_both_languages() -> None:
    spam, plain, chinese, named = measured(
        "Casino and BETTING bonus", "we went to the other side of it", "澳门赌场百家乐返水", "澳门赌场百家乐的"
    )
    assert spam["spam_words"] == 0.75
    assert plain["common_words"] >= 0.75
    assert plain["spam_words"] == 0
    assert chinese["spam_words"] == pytest.approx(7 / 9)
    assert named["spam_words"] == pytest.approx(5 / 8 / 3)  # nothing is offered


@pytest.mark.parametrize(
    ("text", "lures"),
    [
        ("登录老虎机官网，还有bet365手机版。", 2),
        ("华体会与YABO。", 2),
        ("老虎机是赌博机器。Bet365 赞助了球队，网址见官网。", 0),
        ("中国体育官网登录入口，新浪体育APP下载。", 1),
        ("体育app官网；体育官网；国际登录；棋牌 官网", 1),
        ("不必威胁我，老虎机app", 0),
    ],
)
def test_a_lure_is_a_name_of_the_trade_with_a_way_in(text: str, lures: int) -> None:
    proper = sum(any(character.isalnum() for character in word) for word in words(text))
    assert measured(text)[0]["lures"] == pytest.approx(lures / proper)


def test_stop_words_are_different_ones_in_small_letters() -> None:
    assert [row["stop_words"] for row in measured("the the THE of", "The OF", "的的在the of")] == [2, 0, 2]


def test_datatrove_decides_the_same_on_real_documents(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datatrove", reason="datatrove is not installed", exc_type=ImportError)
    pytest.importorskip("spacy", reason="spacy is not installed", exc_type=ImportError)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark = runpy.run_path(str(ROOT / "benchmarks/data.py"))
    for lang in ("en", "zh"):
        texts = [text[:5000] for text in benchmark["documents"](shared_data / "text", lang)[::15]]
        for row in benchmark["compare"](texts, lang):
            assert float(row[5].rstrip("%")) >= 99.5, row
