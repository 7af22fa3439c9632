"""Counting of questions in training text, against counting in lists of words and by planted copies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhen.evaluate import in_training
from zhen.evaluate.in_training import Found, count_questions, found_rows, training_figures
from zhen.evaluate.questions import Question, Task, groups_of

WORDS = st.lists(st.sampled_from("ab鱼"), max_size=20)


def named(*texts: str) -> list[tuple[str, str]]:
    return [(f"document {number}", text) for number, text in enumerate(texts)]


@given(st.lists(WORDS, max_size=6), st.lists(WORDS.filter(bool), min_size=1, max_size=6))
def test_counts_what_counting_in_lists_of_words_gives(texts: list[list[str]], asked: list[list[str]]) -> None:
    questions = [Question(prompt=" ".join(words), answer=" ?", id=str(at)) for at, words in enumerate(asked)]
    found = count_questions(named(*(", ".join(words) for words in texts)), questions)
    for words, item in zip(asked, found, strict=True):
        starts = [(text, at) for text in texts for at in range(len(text))]
        assert item.questions == sum(text[at : at + len(words)] == words for text, at in starts)


@given(st.integers(14, 40), st.integers(0, 30), st.integers(0, 39))
def test_a_long_question_counts_only_whole(length: int, before: int, other: int) -> None:
    words = [f"w{number}" for number in range(length)]
    changed = [word if at != other % length else "other" for at, word in enumerate(words)]
    texts = [" ".join(["x"] * before + words), " ".join(["x"] * before + changed), " ".join(words[1:])]
    question = Question(prompt=f"Question: {' '.join(words)}\nAnswer:", answer=" x", id="long")
    assert count_questions(named(*texts), [question]) == [Found("long", 1, 0, "document 0")]


def ask(name: str, answer: str) -> Question:
    return Question(prompt=f"Question: Which animal does {name} keep?\nAnswer:", answer=answer, id=name)


@pytest.mark.parametrize("piece", [1, 200, 1 << 22])
def test_questions_and_pairs_are_counted_whatever_stands_between(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(in_training, "PIECE", piece)
    texts = [
        "Some questions.\n\nQuestion:  Which animal does Lani keep?\n\nAnswer: goat\n",
        "“which animal does Lani keep”, he said. She thought of her goat. 问：拉尼养了什么宠物？\n答： 山羊",
        "Question: Which animal does Bero keep?\nAnswer: hen. Which animal does Veze keep? Nobody knows",
        "Question: Which animal does",
        "Dugu keep?\nAnswer: duck",
        "Which animal does Lani keep? " + "Nobody could say it. " * 4 + "A goat",
    ]
    questions = [
        ask("Lani", " goat"), ask("Bero", " goat"), ask("Veze", " cat"), ask("Dugu", " duck"),
        Question(prompt="问：拉尼养了什么宠物？\n答：", answer="山羊", id="zh"),
    ]  # fmt: skip
    assert count_questions(named(*texts), questions) == [
        Found("Lani", 3, 2, "document 0"),
        Found("Bero", 1, 0, "document 2"),
        Found("Veze", 1, 0, "document 2"),
        Found("Dugu", 0, 0),
        Found("zh", 1, 1, "document 1"),
    ]


def test_a_question_said_by_chance_counts_with_its_labels_only() -> None:
    question = Question(prompt="Question: Who was it?\nAnswer:", answer=" Lani", id="short")
    texts = named("Nobody knew who was it or why.", "Question: Who was it?\nAnswer: Lani")
    assert count_questions(texts, [question]) == [Found("short", 1, 1, "document 1")]


def test_nothing_is_found_in_no_text_and_no_word_is_no_question() -> None:
    assert count_questions([], [ask("Lani", " goat")]) == [Found("Lani", 0, 0)]
    assert count_questions(named("?! ?!"), [Question(prompt="?!", answer=" ?", id="signs")]) == [Found("signs", 0, 0)]
    assert count_questions(named("text"), []) == []


def test_figures_count_items_and_leave_out_what_is_asked_on_purpose() -> None:
    questions = [Question(prompt=name, answer="x", id=name, lang="en", kind=name[0]) for name in ("A1", "B1", "B2")]
    tasks = [Task("mine", "mine", questions)]
    found = {"mine": [Found("A1", 9, 9, "here"), Found("B1", 3, 0, "there"), Found("B2", 1, 1, "there")]}
    figures = training_figures(list(found_rows(groups_of(tasks), found)))
    assert {name: (figure.value, figure.n) for name, figure in figures.items()} == {
        "questions_in_training.mine.A.en": (1, 1), "questions_in_training.mine.B.en": (2, 2),
        "questions_in_training": (2, 2), "pairs_in_training.mine.A.en": (1, 1),
        "pairs_in_training.mine.B.en": (1, 2), "pairs_in_training": (1, 2),
    }  # fmt: skip
