"""Planted documents meet the rule that is meant for them, and thresholds are the preset's or the recipe's."""

from __future__ import annotations

from typing import get_args, get_type_hints

import data_run
import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhen.data.dedup import exact_duplicates, place
from zhen.data.rules import PRESETS, RULES
from zhen.data.settings import DataSettings, RulesSettings, Source
from zhen.data.signals import NAMES, Batch, content_hash


def first_rule(text: str, settings: RulesSettings) -> str | None:
    batch = Batch([text])
    columns = {"lang": np.array(batch.langs), **batch.signals}
    removed = (rule.name for rule in RULES if not rule.verdict(columns, settings)[0][0])
    return next(removed, None)


PLANTED = {
    "language": "Der Bäcker der alten Stadt ist für sein Brot bekannt, und die Leute kommen aus den Bergen. " * 3,
    "length": "The baker is known for bread.",
    "word-characters": "The baker said: " + "*** --- ||| +++ === " * 40 + "and went to the market with his friends.",
    "common-words": "Tile design ideas, bathroom tiles designs, luxury bathroom tile design pictures, indoor wood "
    "porcelain plank tiles, home design floor plans, bathroom floor designs, best kitchen tiles, garden tile plans.",
    "spam-words": "The best casino with bonus and jackpot is here, and the players of poker and blackjack take free "
    "spins on the slots of the casino. It is a good place for betting and has a bonus for all.",
    "lures": "县里的一家工厂昨天发生火灾，没有人受伤，原因还在调查之中。澳门老虎机官网提醒您：有关部门已经到了现场。",
    "bare-lines": "\n".join(
        f"{place}营业执照办理流程和所需要的材料"
        for place in ("北京", "上海", "广州", "成都", "重庆", "南京", "武汉", "杭州")
    ),
    "duplicate-line-characters": "The baker of the old town is known for its bread.\n" * 8,
    "duplicated-10-grams": "The baker of the old town in the hills is known to all of us for the bread that he makes. "
    * 8,
    "line-ends": "The\nbaker of\nthe town\nis known\nfor the\nbread that\nhe makes\nin the\nmorning, and\nthe people\n"
    "come from\nthe hills\nto buy\nit from\nhim or\nfrom his\nsister, who\nhas the\nother house.",
    "hashes": "The #baker of the #old town is #known for #bread and the #people come from the #hills to #buy it and to "
    "#eat #it with some of the #good #cheese, which comes from the other side of the river.",
    "ellipses": "The baker… of the old… town is… known for… bread and the… people come… from the hills… to buy it and… "
    "to eat it… with some… of the good… cheese, which… comes from the other… side of the river.",
}


@pytest.mark.parametrize("rule", PLANTED)
def test_a_planted_fault_meets_its_rule(rule: str) -> None:
    assert first_rule(PLANTED[rule], RulesSettings()) == rule
    assert first_rule(PLANTED[rule], RulesSettings(preset="none")) is None


def test_good_texts_are_kept() -> None:
    for text in (
        data_run.english("baker"),
        data_run.chinese("面包师"),
        "法院认为，被告人在网络棋牌平台和博彩网站开设赌场，为赌客投注提供服务，抽头渔利，其行为已构成开设赌场罪。",
        "老虎机是一种赌博机器，十九世纪末出现在美国，百家乐则起源于意大利，人们用纸牌下注。",
        "记者从国家体育总局官网了解到，比赛将在下月举行，观众可以在新浪体育APP下载页面登录后观看直播。",
        "风从山的那一边吹过来\n吹到我们的门前\n你还没有回来\n灯一直亮到天明\n河水慢慢地流\n没有人知道它的名字",
        "35加42是77。1加12是13。18加49是67。5加31是36。24加7是31。60加19是79。",
    ):
        assert first_rule(text, RulesSettings()) is None


def test_chinese_has_a_threshold_of_its_own() -> None:
    text = "老城里的面包师因为面包而出名，山里的人都来买面包，春天孩子们给他送花，他送他们苹果。冬天的河水都结冰。"
    assert 50 <= len(text) < 150
    assert first_rule(text, RulesSettings()) is None
    assert first_rule(text, RulesSettings(min_characters_zh=100)) == "length"
    assert first_rule(text, RulesSettings(min_characters_en=1000)) is None


def test_a_single_threshold_beside_preset_none_decides_alone() -> None:
    settings = RulesSettings(preset="none", max_hashes=0.05)
    assert first_rule(PLANTED["hashes"], settings) == "hashes"
    assert first_rule(PLANTED["length"], settings) is None


def test_every_rule_has_a_preset_and_a_field_for_each_of_its_languages() -> None:
    fields = {field.name for field in msgspec.structs.fields(RulesSettings)}
    for rule in RULES:
        assert rule.presets.keys() <= set(PRESETS) - {"none"}
        assert rule.presets
        assert "*" in rule.fields
        assert rule.signal in NAMES
        assert all(name.startswith(rule.direction) for name in rule.fields.values())
    assert {name for rule in RULES for name in rule.fields.values()} == fields - {"preset", "licenses"}
    assert set(get_args(get_type_hints(RulesSettings)["preset"])) == set(PRESETS)


def test_a_rule_that_is_not_in_a_preset_does_not_apply() -> None:
    lines = PLANTED["duplicate-line-characters"]
    assert first_rule(lines, RulesSettings(preset="c4")) is None
    assert first_rule(lines, RulesSettings(preset="gopher")) == "duplicate-lines"


@given(st.lists(st.sampled_from(["a b", "a  b", "a\nb", "b a", "", " a b "]), max_size=30))
@settings(deadline=None)
def test_of_equal_contents_the_first_is_kept(texts: list[str]) -> None:
    hashes = [content_hash(text) for text in texts]
    keys = pa.table(
        {
            "hash_high": pa.array([high for high, _ in hashes], pa.uint64()),
            "hash_low": pa.array([low for _, low in hashes], pa.uint64()),
            "place": pa.array(place(3, np.arange(len(texts))), pa.uint64()),
        }
    )
    places, firsts, copies = exact_duplicates(keys, None)
    words = [tuple(text.split()) for text in texts]
    expected = [row for row, each in enumerate(words) if words.index(each) < row]
    assert [int(each) & 0xFFFFFFFF for each in places] == expected
    assert [int(each) & 0xFFFFFFFF for each in firsts] == [words.index(words[row]) for row in expected]
    assert copies.tolist() == [words.count(words[row]) for row in expected]


def test_settings_name_what_cannot_be() -> None:
    twice = DataSettings(sources=(Source(name="a", path="x"), Source(name="a", path=" ")))
    assert [field for field, _, _ in twice.problems()] == ["sources.0.name", "sources.1.name", "sources.1.path"]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"rules": {"min_word_characters": 1.5}}, DataSettings)
