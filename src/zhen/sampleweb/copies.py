"""Copies of pages: near ones at a known similarity, without a sentence that would be untrue."""

from __future__ import annotations

import random
import re

from zhen.sampleweb import grammar
from zhen.sampleweb.composing import Page
from zhen.sampleweb.words import Language
from zhen.sampleweb.world import World, fresh_person

SHINGLE = 5
"""Words (en) or characters (zh) of a shingle."""


def shingles(lang: str, text: str) -> set[tuple[str, ...]]:
    """The different runs of 5 words (en) or 5 characters (zh), lower case, punctuation and blanks left out."""
    words = re.findall(r"\w" if lang == "zh" else r"\w+", text.lower())
    return {tuple(words[start : start + SHINGLE]) for start in range(max(1, len(words) - SHINGLE + 1))}


def jaccard(lang: str, one: str, two: str) -> float:
    """Shingles in common over shingles in either."""
    a, b = shingles(lang, one), shingles(lang, two)
    return len(a & b) / len(a | b)


def near_copy(world: World, page: Page, target: float, rng: random.Random) -> tuple[tuple[str, ...], float]:
    """Paragraphs whose Jaccard similarity to the page's is just under `target`, and that similarity.

    Last sentences of paragraphs are left out, or sentences about people who occur nowhere else are put behind them:
    what a pronoun stands for stays.
    """
    paragraphs = [_sentences(page.lang, paragraph) for paragraph in page.paragraphs]
    grow = rng.random() < 0.5
    whole = f"{page.title}\n{page.text}"
    similarity = 1.0
    while similarity > target:
        long = [paragraph for paragraph in paragraphs if len(paragraph) > 1]
        if grow or not long:
            rng.choice(paragraphs).append(_stranger(world, page.lang, rng))
        else:
            rng.choice(long).pop()
        now = tuple(grammar.join(page.lang, sentences) for sentences in paragraphs)
        similarity = jaccard(page.lang, whole, "\n".join((page.title, *now)))
    return now, similarity


def _stranger(world: World, lang: Language, rng: random.Random) -> str:
    fact = fresh_person(world, 0, rng)[1][0]
    return grammar.tell(lang, fact, rng.randrange(len(grammar.prose_wordings(lang, fact.relation))), "name")


def _sentences(lang: Language, paragraph: str) -> list[str]:
    """Its sentences; a paragraph of several lines (a question and its answer) is one."""
    if "\n" in paragraph:
        return [paragraph]
    pattern = r"(?<=[.?!]) " if lang == "en" else r"(?<=[。？！])(?=.)"
    return re.split(pattern, paragraph)
