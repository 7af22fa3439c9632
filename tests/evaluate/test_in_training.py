"""Search for questions in training text, against plain `in`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhen.evaluate import in_training
from zhen.evaluate.in_training import find_questions, found_needles
from zhen.evaluate.questions import Question

WORDS = st.text(st.sampled_from("ab鱼 \n"), max_size=40)


@given(st.lists(WORDS, max_size=8), st.lists(WORDS, max_size=8))
def test_finds_what_plain_search_finds(texts: list[str], wanted: list[str]) -> None:
    bare = ["".join(text.split()) for text in texts]
    needles = {"".join(text.split()).encode() for text in wanted} - {b""}
    assert found_needles(texts, needles) == {needle for needle in needles if any(needle.decode() in t for t in bare)}


@pytest.mark.parametrize("piece_bytes", [1, 200, 1 << 22])
def test_questions_and_pairs_are_told_apart_whatever_the_white_space(
    monkeypatch: pytest.MonkeyPatch, piece_bytes: int
) -> None:
    monkeypatch.setattr(in_training, "PIECE_BYTES", piece_bytes)
    texts = [
        "Some questions.\n\nQuestion:  Which animal does Lani keep?\n\nAnswer: goat\n",
        "问：拉尼养了什么宠物？\n答： 山羊",
        "Question: Which animal does Bero keep?\nAnswer: hen. Which animal does Veze keep? Nobody knows",
        "Question: Which animal does",
        "Dugu keep?\nAnswer: duck",
    ]

    def ask(name: str, answer: str) -> Question:
        return Question(prompt=f"Question: Which animal does {name} keep?\nAnswer:", answer=answer, id=name)

    questions = [
        ask("Lani", " goat"), ask("Bero", " goat"), ask("Veze", " cat"), ask("Dugu", " duck"),
        Question(prompt="问：拉尼养了什么宠物？\n答：", answer="山羊", id="zh"),
        Question(prompt="Nobody", answer=" knows", id="line"),
    ]  # fmt: skip
    found = {item.id: (item.question, item.pair) for item in find_questions(texts, questions)}
    assert found == {
        "Lani": (True, True), "Bero": (True, False), "Veze": (False, False), "Dugu": (False, False),
        "zh": (True, True), "line": (True, True),
    }  # fmt: skip


def test_nothing_is_found_in_no_text() -> None:
    assert found_needles([], {b"abc"}) == set()
    assert found_needles(["abc"], set()) == set()
