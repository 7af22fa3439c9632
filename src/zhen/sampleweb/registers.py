"""Registers: long pages that tell five-digit numbers of things here and there, and ask for them further down.

The numbers are drawn afresh for every page, so an answer can only be read on the page itself, however far above.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

from zhen.sampleweb.composing import Draft, Page
from zhen.sampleweb.words import LANGUAGES, VALUES, Language
from zhen.sampleweb.world import World

KIND = "register"

SHORTEST, LONGEST = 300, 8_000
"""UTF-8 bytes of the prose of a page; sizes between are drawn so that each doubling has as many bytes in all."""

ASIDE = 600, 3_000
"""Bytes of prose for each number that is told beside the first; drawn for each page. Where several numbers stand close
together, looking at any of them is right too seldom to be learnt, and looking at the right one is not learnt either
(measured with two layers: after three million tokens digits were still guessed)."""

ASKED = 16
"""Times that a number is asked for at most. Often once; where it is more, distances are short, which is learnt first."""

NEAREST = 10
"""Bytes of prose between what tells a number and what asks for it, at least."""


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
    entries = _entries(wording, draft.lang, 1 + int(size / _doubling(rng, *ASIDE)), rng)
    lines = sorted(line for entry in entries for line in _placed(wording, entry, size, rng))
    while draft.size < size:
        facts = draft.told(draft.any_entity())[:4]
        if facts:
            draft.add(*draft.about(facts))
    prose, draft.paragraphs, above = draft.paragraphs, [], 0
    for paragraph in prose:
        while lines and lines[0][0] <= above:
            draft.paragraphs.append(lines.pop(0)[1])
        draft.paragraphs.append(paragraph)
        above += len(paragraph.encode())
    draft.paragraphs += [line for _, line in lines]
    return draft.finish(KIND, wording.title.format(t=entries[0]["t"]))


def _entries(wording: Wording, lang: Language, count: int, rng: random.Random) -> list[dict[str, str]]:
    """What fills the slots, for each number; no two are told in the same words."""
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    while len(found) < count:
        quantity, thing = rng.choice(wording.quantities), rng.choice(wording.things)
        colour = rng.choice(VALUES["colour"]).get(lang).removesuffix("色")
        key = str(rng.randint(10_000, 99_999))
        found[quantity, colour, thing] = {"q": quantity, "c": colour, "t": thing, "k": key}
    return list(found.values())


def _placed(wording: Wording, entry: dict[str, str], size: float, rng: random.Random) -> list[tuple[float, str]]:
    """What tells a number and what asks for it, each with the bytes of prose above it; the asking is never above."""
    told = rng.uniform(0, size)
    places = [told + _doubling(rng, NEAREST, size) for _ in range(round(_doubling(rng, 1, ASKED)))]
    asked = f"{wording.asked.format(**entry)}\n{wording.answer.format(**entry)}"
    return [(told, wording.told.format(**entry)), *((min(place, size), asked) for place in places)]


def _doubling(rng: random.Random, least: float, most: float) -> float:
    """A number between the two, each doubling as often."""
    return math.exp(rng.uniform(math.log(least), math.log(most)))
