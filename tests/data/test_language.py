"""Characters are counted as Python's own tables say; languages are told apart as people do."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from zhen.data.language import DIGIT, HAN, HANGUL, KANA, LATIN, SPACE, character_counts, identify

SCRIPTS = {
    HAN: ("CJK UNIFIED IDEOGRAPH", "CJK COMPATIBILITY IDEOGRAPH", "IDEOGRAPHIC ITERATION MARK"),
    HANGUL: ("HANGUL SYLLABLE",),
    LATIN: ("LATIN ",),
}


def told(text: str) -> tuple[str, float]:
    return identify(text, character_counts([text])[0])


@given(st.lists(st.text(), max_size=6))
def test_counts_are_the_characters_by_their_unicode_names(texts: list[str]) -> None:
    counts = character_counts(texts)
    for row, text in zip(counts, texts, strict=True):
        assert row.sum() == len(text)
        assert row[SPACE] == sum(character.isspace() for character in text)
        assert row[DIGIT] == sum(character.isdigit() and not character.isalpha() for character in text)


@given(st.text("的一是龘𠀀你〇abcÄßézЖκكกあいアー한글１2 ,。"))
def test_scripts_are_counted_by_name(text: str) -> None:
    counts = character_counts([text])[0]
    for script, names in SCRIPTS.items():
        expected = sum(unicodedata.name(character).startswith(names) for character in text.replace("〇", ""))
        assert counts[script] - (text.count("〇") if script == HAN else 0) == expected
    assert counts[KANA] == sum(character in "あいアー" for character in text)


@given(st.lists(st.text("abc 你好\n1", max_size=30), min_size=2, max_size=5))
def test_a_text_counts_the_same_in_any_company(texts: list[str]) -> None:
    together = character_counts(texts)
    assert np.array_equal(together, np.vstack([character_counts([text]) for text in texts]))


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("The river runs through the middle of the town, and the market is on its banks.", "en"),
        ("这条河从城中间流过，集市就在河岸上。", "zh"),
        ("這條河從城中間流過，集市就在河岸上。", "zh"),
        ("川は町の真ん中を流れ、市場はその岸にあります。", "ja"),
        ("강은 마을 한가운데를 흐르고 시장은 강둑에 있습니다.", "ko"),
        ("Der Fluss fließt mitten durch die Stadt, und der Markt liegt an seinem Ufer.", "de"),
        ("Река протекает через центр города, и рынок находится на её берегу.", "ru"),
        ("在 Python 中，`numpy.zeros(shape)` 返回一个全零数组，见 documentation。", "zh"),
        ("70 minus 37 is 33. 14 plus 19 is 33. 83 minus 37 is 46. 77 minus 45 is 32.", "en"),
        ("12345 67890 !!! ???", "und"),
        ("", "und"),
    ],
)
def test_languages_are_told(text: str, lang: str) -> None:
    assert told(text)[0] == lang


@pytest.mark.parametrize(
    ("path", "lang"), [("en/brown", "en"), ("en/peps", "en"), ("zh/wikipedia-drcd", "zh"), ("zh/poetry", "zh")]
)
def test_real_texts_are_told(shared_data: Path, path: str, lang: str) -> None:
    with zstandard.open(shared_data / "text" / f"{path}.jsonl.zst", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for _, line in zip(range(80), file, strict=False)]
    assert sum(told(text)[0] == lang for text in texts) >= 0.99 * len(texts)
