"""Both grammars say the same things, in enough ways."""

from __future__ import annotations

from string import Formatter
from typing import Any

import pytest

from zhen.sampleweb import chinese, english, grammar
from zhen.sampleweb.words import LANGUAGES, RELATIONS, SYLLABLES, VALUES, Language


def slots(template: str) -> set[str]:
    return {name.lower() for _, name, _, _ in Formatter().parse(template) if name}


def test_both_languages_have_the_same_entries() -> None:
    for table in ("PROSE", "QUESTIONS", "EPITHETS", "PHRASES", "TITLES", "PRONOUNS"):
        assert list(getattr(english, table)) == list(getattr(chinese, table)), table
    assert set(english.PROSE) == {relation for relations in RELATIONS.values() for relation in relations}


@pytest.mark.parametrize("relation", list(english.PROSE))
def test_prose_has_equally_many_wordings_with_subject_and_value(relation: str) -> None:
    ours = english.PROSE[relation], chinese.PROSE[relation]
    assert len(ours[0]) == len(ours[1]) >= 5
    for template in (*ours[0], *ours[1]):
        assert slots(template) & {"v", "a"}, template
        assert slots(template) & {"s", "p", "o"}, template


@pytest.mark.parametrize("lang", LANGUAGES)
def test_twelve_question_wordings_are_used_and_three_kept_back(web: Any, lang: Language) -> None:
    assert len(grammar.SEEN) == 12
    assert len(grammar.HELD_OUT) == 3
    for fact in web.world.facts:
        assert len({grammar.question(lang, fact, wording) for wording in grammar.WORDINGS}) == 15, fact.id


def test_core_and_frame_of_each_held_out_wording_are_used_apart() -> None:
    for core, frame in grammar.HELD_OUT:
        assert core in {seen[0] for seen in grammar.SEEN}
        assert frame in {seen[1] for seen in grammar.SEEN}


def test_values_and_syllables_are_told_apart_in_both_languages() -> None:
    for lang in LANGUAGES:
        for relation, values in VALUES.items():
            assert len({value.get(lang) for value in values}) == len(values), relation
        assert len({syllable.get(lang) for syllable in SYLLABLES}) == len(SYLLABLES)


def test_no_sentence_has_an_empty_slot_or_a_doubled_blank(web: Any) -> None:
    for page in web.pages:
        assert not any(mark in page["text"] for mark in ("{", "}", "  ", "None")), page["url"]
