"""Registers: long pages that tell five-digit numbers of things here and there, and ask for them at their end.

The numbers are drawn afresh for every page, so an answer can only be read on the page itself, however far above.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from zhen.sampleweb.composing import Draft, Page
from zhen.sampleweb.words import LANGUAGES, VALUES, Language
from zhen.sampleweb.world import World

KIND = "register"

SHORTEST, LONGEST = 60, 8000
"""UTF-8 bytes of the prose of a page; sizes between are drawn so that each doubling has as many bytes in all."""

ASIDE = 600
"""Bytes of prose for each number that is told beside the first, about."""

TOLD = 8
"""Times that a number is told at most, beside its answer."""

ASKED = 8
"""Numbers that a page asks for at most."""


class Wording(NamedTuple):
    """How a language tells and asks a number; {q} the quantity, {c} the colour, {t} the thing, {k} the number."""

    title: str
    quantities: tuple[str, ...]
    things: tuple[str, ...]
    told: str
    asked: str
    answer: str


WORDINGS: dict[Language, Wording] = {
    "en": Wording(
        "Register of the {t} store",
        ("pass key", "number", "code", "mark", "sign"),
        ("door", "box", "boat", "cart", "bag", "lamp", "chest", "bench"),
        "The {q} of the {c} {t} is {k}.",
        "Question: What is the {q} of the {c} {t}?",
        "Answer: The {q} of the {c} {t} is {k}.",
    ),
    "zh": Wording(
        "{t}登记簿",
        ("通行码", "编号", "号码", "记号", "代码"),
        ("门", "箱子", "小船", "推车", "袋子", "灯笼", "柜子", "长凳"),
        "{c}{t}的{q}是{k}。",
        "问题：哪个数是{c}{t}的{q}？",
        "回答：{c}{t}的{q}是{k}。",
    ),
}


def register_page(world: World, number: int, seed: int) -> Page:
    """The register of that number; a pure function of its arguments. Languages take turns."""
    rng = random.Random(f"sampleweb/{seed}/register/{number}")
    draft = Draft(world, LANGUAGES[number % len(LANGUAGES)], rng)
    wording = WORDINGS[draft.lang]
    size = 1 / rng.uniform(1 / LONGEST, 1 / SHORTEST)
    while draft.size < size:
        facts = draft.told(draft.any_entity())[:4]
        if facts:
            draft.add(*draft.about(facts))
    for entry in (entries := list(_entries(wording, draft.lang, 1 + int(size / ASIDE), rng))):
        for _ in range(rng.randint(1, TOLD)):
            draft.paragraphs.insert(rng.randint(0, len(draft.paragraphs)), wording.told.format(**entry))
    for entry in rng.sample(entries, min(len(entries), ASKED)):
        draft.paragraphs.append(f"{wording.asked.format(**entry)}\n{wording.answer.format(**entry)}")
    return draft.finish(KIND, wording.title.format(t=entries[0]["t"]))


def _entries(wording: Wording, lang: Language, most: int, rng: random.Random) -> Iterator[dict[str, str]]:
    """What fills the slots, for each number; no two are told in the same words."""
    colours = rng.sample(VALUES["colour"], rng.randint(1, min(len(VALUES["colour"]), most)))
    quantity, thing = rng.choice(wording.quantities), rng.choice(wording.things)
    for colour in colours:
        if rng.random() < 0.5:
            quantity, thing = rng.choice(wording.quantities), rng.choice(wording.things)
        name = colour.get(lang).removesuffix("色")
        yield {"q": quantity, "c": name, "t": thing, "k": str(rng.randint(10_000, 99_999))}
