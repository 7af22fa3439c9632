"""Dialogues tell and ask only what pages ask too; tools are called rightly; both languages have as much."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from zhen.sampleweb import grammar
from zhen.sampleweb.grammar import WORDINGS
from zhen.sampleweb.words import LANGUAGES, Language


def dialogues(web: Any, lang: Language) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (web.folder / "dialogues" / f"{lang}.jsonl").read_text().splitlines()]


def holds(text: str, word: str) -> bool:
    """Whether the word stands in the text; English words only whole."""
    return bool(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text)) if word.isascii() else word in text


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_fact_is_told_or_asked_that_pages_do_not_ask(web: Any, lang: Language) -> None:
    texts = [turn["content"] for each in dialogues(web, lang) for turn in each["messages"]]
    others = [fact for fact in web.world.facts if fact.split != "A"]
    questions = {grammar.question(lang, fact, wording) for fact in others for wording in WORDINGS}
    assert questions.isdisjoint(texts)
    for fact in others:
        name, value = fact.subject.name.get(lang), fact.value.get(lang)
        assert not [text for text in texts if holds(text, name) and holds(text, value)], fact.id


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_asked_fact_is_answered_rightly(web: Any, lang: Language) -> None:
    pairs = [
        (each["messages"][at]["content"], each["messages"][at + 1]["content"])
        for each in dialogues(web, lang)
        if each["kind"] in ("fact", "turns")
        for at in range(0, len(each["messages"]), 2)
    ]
    asked = {
        grammar.question(lang, fact, wording): fact
        for fact in web.world.facts
        if fact.split == "A"
        for wording in grammar.SEEN
    }
    facts = [(asked[question], answer) for question, answer in pairs if question in asked]
    assert {fact.id for fact, _ in facts} == {fact.id for fact in asked.values()}
    assert all(holds(answer, fact.value.get(lang)) for fact, answer in facts)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_calls_give_the_sum_that_is_told(web: Any, lang: Language) -> None:
    found = [each for each in dialogues(web, lang) if each["kind"] == "tool"]
    assert {call["name"] for each in found for call in each["messages"][1]["tool_calls"]} == {"add", "subtract"}
    for each in found:
        asked, call, result, told = each["messages"]
        (only,) = call["tool_calls"]
        numbers = only["arguments"]
        sign = {"add": 1, "subtract": -1}[only["name"]]
        assert result["content"] == str(numbers["a"] + sign * numbers["b"])
        assert re.findall(r"\d+", asked["content"]) == [str(numbers["a"]), str(numbers["b"])]
        assert re.findall(r"\d+", told["content"]) == [*re.findall(r"\d+", asked["content"]), result["content"]]


def test_the_languages_have_as_many_of_each_kind(web: Any) -> None:
    one, other = (sorted(each["kind"] for each in dialogues(web, lang)) for lang in LANGUAGES)
    assert one == other
    assert set(one) == {"fact", "turns", "greeting", "unknown", "tool"}
