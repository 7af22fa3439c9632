"""Question items can be scored, and no page gives them away."""

from __future__ import annotations

from collections import Counter
from typing import Any

from zhen.sampleweb.grammar import LABELS
from zhen.sampleweb.words import LANGUAGES


def test_prompts_end_without_white_space_and_answers_go_on(web: Any) -> None:
    for item in web.items("*/*.jsonl"):
        assert item["prompt"] == item["prompt"].rstrip()
        assert item["prompt"].startswith(LABELS[item["lang"]][0])
        blank = " " if item["lang"] == "en" else ""
        assert all(choice.startswith(blank) and choice == blank + choice.strip() for choice in item["choices"])


def test_items_have_four_unlike_choices_and_the_answer_is_the_gold_one(web: Any) -> None:
    values = {(fact["id"], lang): fact["value"][lang] for fact in web.facts for lang in LANGUAGES}
    for item in web.items("*/*.jsonl"):
        assert len(set(item["choices"])) == 4
        assert item["choices"][item["gold"]] == item["answer"]
        assert item["answer"].strip() == values[item["cluster"], item["lang"]]


def test_no_page_holds_a_prompt_of_never_asked(web: Any) -> None:
    text = web.text()
    questions = {item["prompt"].split("\n")[0] for item in web.items("never-asked/*.jsonl")}
    assert [question for question in questions if question in text] == []


def test_pages_answer_as_the_items_of_asked_expect(web: Any) -> None:
    text = web.text() + "\n"
    items = web.items("asked/*.jsonl")
    shown = [item for item in items if item["prompt"] in text]
    assert len(shown) > len(items) / 4
    assert all(f"{item['prompt']}{item['answer']}\n" in text for item in shown)


def test_each_kind_of_item_takes_facts_of_its_split(web: Any) -> None:
    split_of = {fact["id"]: fact["split"] for fact in web.facts}
    for item in web.items("*/*.jsonl"):
        assert item["split"] == split_of[item["cluster"]]
        assert item["split"] == ("B" if item["kind"] == "unseen-wording" else item["kind"])
    files = {path.name for path in web.folder.glob("tasks/never-asked/*")}
    groups = ("never-asked", "unseen-wording", "one-language", "cross-language", "unstated")
    assert files == {f"{group}.{lang}.jsonl" for group in groups for lang in LANGUAGES}


def test_cross_language_items_are_asked_in_the_language_that_does_not_tell(web: Any) -> None:
    told = {fact["id"]: fact["told_in"] for fact in web.facts}
    assert all(item["lang"] not in told[item["cluster"]] for item in web.items("never-asked/cross-language.*"))
    assert all(told[item["cluster"]] == [item["lang"]] for item in web.items("never-asked/one-language.*"))


def test_ids_are_unlike_and_the_gold_place_tells_nothing(web: Any) -> None:
    items = web.items("*/*.jsonl")
    assert len({item["id"] for item in items}) == len(items)
    counts = Counter(item["gold"] for item in items)
    assert min(counts.values()) > len(items) / 8
