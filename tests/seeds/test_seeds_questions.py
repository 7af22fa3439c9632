"""Questions of five small webs: what the training text tells and asks, without a model."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from zhen.evaluate.in_training import count_questions
from zhen.evaluate.questions import ASKED, read_tasks, task_files
from zhen.sampleweb import grammar
from zhen.sampleweb.words import LANGUAGES, Language
from zhen.sampleweb.world import Fact


def holds(sentence: str, word: str) -> bool:
    return bool(re.search(rf"\b{re.escape(word)}\b", sentence)) if word.isascii() else word in sentence


def telling(seeded: Any, fact: Fact, lang: Language) -> list[str]:
    """Sentences trained on that name a fact's subject and value; stories call people by other things, so not these."""
    names = (fact.subject.name.get(lang), fact.subject.short.get(lang))
    pages = [page["text"] for page in seeded.kept if page["kind"] != "story" and fact.value.get(lang) in page["text"]]
    sentences = [sentence for text in pages for sentence in re.split(r"(?<=[.?!。？！])\s*|\n", text)]
    return [s for s in sentences if holds(s, fact.value.get(lang)) and any(holds(s, name) for name in names)]


def test_no_question_but_those_asked_on_purpose_stands_in_the_shards(seeded: Any) -> None:
    tasks = read_tasks(task_files(["sampleweb"], seeded.folder / "sampleweb" / "tasks"))
    questions = [question for task in tasks for question in task.questions]
    found = dict(zip([(q.kind, q.id) for q in questions], count_questions(seeded.training, questions), strict=True))
    assert {kind for kind, _ in found} == {"A", "B", "C", "D", "unseen-wording", "unstated"}
    assert [item for (kind, _), item in found.items() if kind != ASKED and (item.questions or item.pairs)] == []
    asked = [item for (kind, _), item in found.items() if kind == ASKED]
    # a page need not ask in the wording that the task asks in
    assert sum(item.pairs > 0 for item in asked) > 0.5 * len(asked)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_plain_search_finds_no_question_on_other_facts_either(seeded: Any, lang: Language) -> None:
    text = "\n".join(text for _, text in seeded.training)
    silent = [fact for fact in seeded.world.facts if fact.split != ASKED]
    questions = [grammar.question(lang, fact, wording) for fact in silent for wording in grammar.WORDINGS]
    assert [question for question in questions if question in text] == []


@pytest.mark.parametrize("lang", LANGUAGES)
def test_twelve_wordings_are_used_and_three_are_not(seeded: Any, lang: Language) -> None:
    text = "\n".join(text for _, text in seeded.training)
    asked = [fact for fact in seeded.world.facts if fact.split == ASKED]
    used = Counter(
        wording for fact in asked for wording in grammar.WORDINGS if grammar.question(lang, fact, wording) in text
    )
    assert set(used) == set(grammar.SEEN)
    assert len(grammar.SEEN) >= 12
    assert len(grammar.HELD_OUT) == 3


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_fact_of_b_is_told_in_the_training_text(seeded: Any, lang: Language) -> None:
    facts = [fact for fact in seeded.world.facts if fact.split == "B"]
    assert len(facts) >= 20
    assert [fact.id for fact in facts if not telling(seeded, fact, lang)] == []


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_unstated_fact_is_told_in_the_training_text(seeded: Any, lang: Language) -> None:
    facts = [fact for fact in seeded.world.facts if fact.split == "unstated"]
    assert len(facts) == 10
    assert [fact.id for fact in facts if telling(seeded, fact, lang)] == []
