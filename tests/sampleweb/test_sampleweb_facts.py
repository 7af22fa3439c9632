"""What the key promises of the facts holds in the text of the pages."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from zhen.sampleweb import grammar
from zhen.sampleweb.words import LANGUAGES, Language
from zhen.sampleweb.world import Fact


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.?!。？！])\s*|\n", text)


def holds(sentence: str, word: str) -> bool:
    """Whether the word stands in the sentence; English words only whole."""
    return bool(re.search(rf"\b{re.escape(word)}\b", sentence)) if word.isascii() else word in sentence


def together(web: Any, fact: Fact, lang: Language) -> list[str]:
    """Sentences in `lang` with the fact's subject and its value; stories call people by other things, so not these."""
    subject, value = fact.subject, fact.value.get(lang)
    names = (subject.name.get(lang), subject.short.get(lang))
    texts = (page["text"] for page in web.pages if page["kind"] != "story")
    found = (sentence for text in texts for sentence in sentences(text))
    return [s for s in found if holds(s, value) and any(holds(s, name) for name in names)]


def test_splits_have_their_shares_in_every_kind_of_fact(web: Any) -> None:
    told = [fact for fact in web.facts if fact["split"] != "unstated"]
    for shares, people in (({"A": 0.55, "B": 0.25, "C": 0.1, "D": 0.1}, True), ({"A": 0.8, "C": 0.1, "D": 0.1}, False)):
        splits = [fact["split"] for fact in told if fact["id"].startswith("person") == people]
        found = {split: count / len(splits) for split, count in Counter(splits).items()}
        assert found == pytest.approx(shares, abs=0.1)
    assert sum(fact["split"] == "unstated" for fact in web.facts) == len(web.world.entities["person"]) // 2


def test_every_stated_fact_has_pages_in_exactly_its_languages(web: Any) -> None:
    lang_of = {page["url"]: page["lang"] for page in web.pages if page["kind"] != "parallel"}
    for fact in web.facts:
        langs = {lang_of[url] for url in fact["stated_on"] if url in lang_of}
        assert langs == set(fact["told_in"]), fact["id"]


def test_only_facts_of_split_a_are_asked_and_all_of_them_in_both_languages(web: Any) -> None:
    lang_of = {page["url"]: page["lang"] for page in web.pages}
    for fact in web.facts:
        langs = {lang_of[url] for url in fact["asked_on"]}
        assert langs == (set(LANGUAGES) if fact["split"] == "A" else set()), fact["id"]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_question_on_other_facts_stands_anywhere(web: Any, lang: Language) -> None:
    text = web.text()
    for fact in web.world.facts:
        questions = [grammar.question(lang, fact, wording) for wording in grammar.WORDINGS]
        assert any(question in text for question in questions) == (fact.split == "A"), fact.id


@pytest.mark.parametrize("lang", LANGUAGES)
def test_sentences_with_subject_and_value_exist_only_where_the_fact_may_be_told(web: Any, lang: Language) -> None:
    silent = [fact for fact in web.world.facts if not fact.told_in(lang)]
    assert [fact.id for fact in silent if together(web, fact, lang)] == []
    told = [fact for fact in web.world.facts if fact.told_in(lang)][:40]
    assert all(together(web, fact, lang) for fact in told)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_pages_state_no_other_value_than_the_true_one(web: Any, lang: Language) -> None:
    text = web.text()
    for fact in web.world.facts[:60]:
        wordings = range(len(grammar.prose_wordings(lang, fact.relation)))
        for value in web.world.values(fact.relation):
            if value != fact.value:
                other = type(fact)(fact.id, fact.subject, fact.relation, value, fact.split)
                assert not any(grammar.tell(lang, other, wording, "name") in text for wording in wordings)


def test_people_have_names_of_their_own_and_spare_names_are_no_ones(web: Any) -> None:
    entities = [entity for group in web.world.entities.values() for entity in group]
    for lang in LANGUAGES:
        assert len({entity.name.get(lang) for entity in entities}) == len(entities)
    given = {entity.short for entity in web.world.entities["person"]}
    assert len(given) == len(web.world.entities["person"])
    assert given.isdisjoint(web.world.spare)


def test_a_value_is_about_as_frequent_as_any_other(web: Any) -> None:
    counts = Counter(fact.value.en for fact in web.world.facts if fact.relation == "job")
    assert max(counts.values()) <= 2
