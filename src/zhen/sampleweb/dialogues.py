"""Dialogues to tune on: questions that pages ask too, greetings, what nobody knows, calls of a tool."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from zhen.sampleweb import grammar
from zhen.sampleweb.grammar import SEEN
from zhen.sampleweb.words import LANGUAGES, Language
from zhen.sampleweb.world import Fact, World

WORDINGS_A_FACT = 4
"""Dialogues that ask each fact of split A, in as many wordings."""

LARGEST = 50
"""Of the numbers that are added and taken away."""

Row = dict[str, Any]

_GREETINGS: dict[Language, tuple[tuple[str, str], ...]] = {
    "en": (
        ("Hello!", "Hello! What would you like to know?"),
        ("Hello, how are you?", "Hello! What would you like to know?"),
        ("Good morning.", "Good morning! What would you like to know?"),
        ("Good evening.", "Good evening! What would you like to know?"),
        ("Thank you.", "You are welcome."),
        ("Thank you, that was good.", "You are welcome."),
        ("Who are you?", "I am a small model. I know the people and the towns of this land."),
        ("What are you?", "I am a small model. I know the people and the towns of this land."),
        ("What can you do?", "I can tell you about people, towns, festivals and food."),
        ("Good night.", "Good night!"),
        ("I am going home now.", "Come back soon!"),
    ),
    "zh": (
        ("你好！", "你好！你想知道什么？"),
        ("你好，你怎么样？", "你好！你想知道什么？"),
        ("早上好。", "早上好！你想知道什么？"),
        ("晚上好。", "晚上好！你想知道什么？"),
        ("谢谢。", "不用谢。"),
        ("谢谢，说得很好。", "不用谢。"),
        ("你是谁？", "我是一个小模型，知道这里的人和城。"),
        ("你是什么？", "我是一个小模型，知道这里的人和城。"),
        ("你会做什么？", "我可以说说人、城、节日和食物。"),
        ("晚安。", "晚安！"),
        ("我要回家了。", "早一点再来！"),
    ),
}

_NEVER_TOLD: dict[Language, tuple[str, ...]] = {
    "en": (
        "How old is {n}?",
        "How tall is {n}?",
        "When was {n} born?",
        "What did {n} say yesterday?",
        "Do you know how old {n} is?",
        "Which book does {n} read?",
        "Can you tell me how tall {n} is?",
        "How much money does {n} have?",
    ),
    "zh": (
        "{n}几岁了？",
        "{n}有多高？",
        "{n}是哪一年出生的？",
        "{n}昨天说了什么？",
        "你知道{n}几岁了吗？",
        "{n}在读什么书？",
        "能告诉我{n}有多高吗？",
        "{n}有多少钱？",
    ),
}
"""What no page tells of anyone."""

_UNKNOWN: dict[Language, str] = {"en": "I do not know that about {n}.", "zh": "我不知道{n}的这件事。"}

_SUMS: dict[Language, tuple[tuple[str, str, str], ...]] = {
    "en": (
        ("add", "What is {a} plus {b}?", "{a} plus {b} is {c}."),
        ("add", "How much is {a} plus {b}?", "{a} plus {b} is {c}."),
        ("subtract", "What is {a} minus {b}?", "{a} minus {b} is {c}."),
        ("subtract", "How much is {a} minus {b}?", "{a} minus {b} is {c}."),
    ),
    "zh": (
        ("add", "{a}加{b}是多少？", "{a}加{b}是{c}。"),
        ("add", "请算一算{a}加{b}。", "{a}加{b}是{c}。"),
        ("subtract", "{a}减{b}是多少？", "{a}减{b}是{c}。"),
        ("subtract", "请算一算{a}减{b}。", "{a}减{b}是{c}。"),
    ),
}
"""Tool, question, answer."""

TOOLS = [{"name": "add"}, {"name": "subtract"}]
"""As short as tools can be: a small model's context is short."""


def build_dialogues(world: World, seed: int) -> dict[str, list[Row]]:
    """File name below `dialogues/` -> its dialogues. Of the facts only those of split A are asked or told."""
    return {f"{lang}.jsonl": list(_of_language(world, lang, seed)) for lang in LANGUAGES}


def _of_language(world: World, lang: Language, seed: int) -> Iterator[Row]:
    rng = random.Random(f"sampleweb/{seed}/dialogues/{lang}")
    asked = [fact for fact in world.facts if fact.split == "A"]
    for fact in asked:
        for wording in rng.sample(SEEN, WORDINGS_A_FACT):
            yield _row(lang, "fact", _ask(lang, fact, wording))
    people = world.entities["person"]
    for fact, other in zip(asked, rng.sample(asked, len(asked)), strict=True):
        opening = list(rng.choice(_GREETINGS[lang])) if rng.random() < 0.3 else _ask(lang, fact, rng.choice(SEEN))
        yield _row(lang, "turns", [*opening, *_ask(lang, other, rng.choice(SEEN))])
    for said in _GREETINGS[lang]:
        for _ in range(6):
            yield _row(lang, "greeting", list(said))
    for person in people:
        for question in rng.sample(_NEVER_TOLD[lang], 3):
            name = grammar.named(lang, person)
            yield _row(lang, "unknown", [question.format(n=name), _UNKNOWN[lang].format(n=name)])
    for _ in range(2 * len(people)):
        yield _sum(lang, rng)


def _ask(lang: Language, fact: Fact, wording: tuple[int, int]) -> list[str]:
    """A question and its answer, a whole sentence."""
    return [grammar.question(lang, fact, wording), grammar.tell(lang, fact, 0, "name")]


def _sum(lang: Language, rng: random.Random) -> Row:
    """A sum that is left to a tool."""
    tool, question, answer = rng.choice(_SUMS[lang])
    b, a = sorted((rng.randint(1, LARGEST), rng.randint(1, LARGEST)))
    numbers = {"a": a, "b": b}
    result = str(a + b if tool == "add" else a - b)
    return {
        "lang": lang,
        "kind": "tool",
        "tools": TOOLS,
        "messages": [
            {"role": "user", "content": question.format(**numbers)},
            {"role": "assistant", "content": "", "tool_calls": [{"name": tool, "arguments": numbers}]},
            {"role": "tool", "content": result},
            {"role": "assistant", "content": answer.format(**numbers, c=result)},
        ],
    }


def _row(lang: Language, kind: str, said: list[str]) -> Row:
    """A dialogue of user and assistant by turns."""
    roles = ("user", "assistant")
    return {
        "lang": lang,
        "kind": kind,
        "messages": [{"role": roles[number % 2], "content": text} for number, text in enumerate(said)],
    }
