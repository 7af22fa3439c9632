"""Registers: long pages that tell five-digit numbers of things here and there, and ask for them further down.

The numbers are drawn afresh for every page, so an answer can only be read on the page itself, however far above.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from zhen.sampleweb.composing import Draft, Page
from zhen.sampleweb.words import LANGUAGES, VALUES, Language
from zhen.sampleweb.world import World

KIND = "register"

SHORTEST, LONGEST = 300, 12_000
"""UTF-8 bytes of the prose of a page; sizes between are drawn so that each doubling has as many bytes in all."""

NEAR = 24
"""Times that a number is asked for at most on every second page of a language, at distances of which each doubling is
as frequent: from these pages whole lines are learnt to be said again."""

FAR = 3
"""Times that a number is asked for at most on the other pages, anywhere below: from these it is learnt to find the
right one, however far."""

ASIDE_NEAR, ASIDE_FAR = (400, 1_500), (100, 800)
"""Bytes of prose for each number that is told beside the first, on pages of both kinds; drawn for each page."""

HEADING = 0.25
"""Share of the pages that tell their first number in their heading: what stands first in a text shall be found, too."""

NEAREST = 10
"""Bytes of prose between what tells a number and what asks for it, at least, on pages of the first kind."""


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
    wording, near = WORDINGS[draft.lang], number // len(LANGUAGES) % 2 == 0
    size = 1 / rng.uniform(1 / LONGEST, 1 / SHORTEST)
    aside = _doubling(rng, *(ASIDE_NEAR if near else ASIDE_FAR))
    entries = _entries(wording, draft.lang, 1 + int(size / aside), rng)
    ends = [0]
    while draft.size < size:
        facts = draft.told(draft.any_entity())[: 4 if near else rng.randint(1, 2)]
        if facts:
            draft.add(*draft.about(facts))
            ends.append(draft.size)
    heading = rng.random() < HEADING
    title = wording.told.format(**entries[0]) if heading else wording.title.format(t=entries[0]["t"])
    lines: dict[int, list[str]] = defaultdict(list)  # by the paragraphs of prose above them
    for at, entry in enumerate(entries):
        told = 0.0 if heading and at == 0 else rng.uniform(0, size)
        asked = f"{wording.asked.format(**entry)}\n{wording.answer.format(**entry)}"
        if told:
            lines[bisect_left(ends, told)].append(wording.told.format(**entry))
        for place in _near(told, size, rng) if near else _far(told, size, rng):
            lines[bisect_left(ends, place)].append(asked)
    prose = draft.paragraphs
    draft.paragraphs = [text for at, own in enumerate(prose, start=1) for text in (own, *lines[at])]
    return draft.finish(KIND, title)


def _entries(wording: Wording, lang: Language, count: int, rng: random.Random) -> list[dict[str, str]]:
    """What fills the slots, for each number; no two are told in the same words."""
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    while len(found) < count:
        quantity, thing = rng.choice(wording.quantities), rng.choice(wording.things)
        colour = rng.choice(VALUES["colour"]).get(lang).removesuffix("色")
        key = str(rng.randint(10_000, 99_999))
        found[quantity, colour, thing] = {"q": quantity, "c": colour, "t": thing, "k": key}
    return list(found.values())


def _near(told: float, size: float, rng: random.Random) -> Iterator[float]:
    """Places that ask for a number which is told at the place `told`; a place is the bytes of prose above it."""
    for _ in range(round(_doubling(rng, 1, NEAR))):
        yield min(size, told + _doubling(rng, NEAREST, size))


def _far(told: float, size: float, rng: random.Random) -> Iterator[float]:
    """The same for pages of the second kind."""
    for _ in range(rng.randint(1, FAR)):
        yield rng.uniform(told, size)


def _doubling(rng: random.Random, least: float, most: float) -> float:
    """A number between the two, each doubling as often."""
    return math.exp(rng.uniform(math.log(least), math.log(most)))
