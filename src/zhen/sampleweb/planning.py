"""Which pages there are: kind, language, subjects and address of each, before any is written."""

from __future__ import annotations

import random
from dataclasses import dataclass

from zhen.sampleweb.composing import COMPOSERS
from zhen.sampleweb.settings import SamplewebSettings
from zhen.sampleweb.sites import SITES, Site
from zhen.sampleweb.words import LANGUAGES, Language
from zhen.sampleweb.world import Entity, World

SUBJECTS_A_QUIZ = 4


@dataclass(frozen=True)
class Plan:
    """One page to be written: `number` counts all pages from 0, `subjects` come first in it."""

    number: int
    kind: str
    lang: Language
    subjects: tuple[Entity, ...]
    site: Site
    url: str


def plan_pages(settings: SamplewebSettings, world: World, seed: int) -> list[Plan]:
    """All pages in order. The first ones cover every fact; the rest follow the shares of the kinds."""
    rng = random.Random(f"sampleweb/{seed}/plan")
    wanted = _covering(world, rng)
    wanted += _by_share(world, rng, settings.pages - len(wanted))
    plans = []
    for number, (kind, lang, subjects) in enumerate(wanted):
        sites = [site for site in SITES if kind in site.kinds and lang in site.langs]
        site = rng.choice(sites)
        url = f"https://{site.host}/{site.folder(lang, kind)}/{number:06d}.html"
        plans.append(Plan(number, kind, lang, subjects, site, url))
    return plans


def _covering(world: World, rng: random.Random) -> list[tuple[str, Language, tuple[Entity, ...]]]:
    """A page about each entity, and question pages about all, in each language."""
    everyone = [entity for entities in world.entities.values() for entity in entities]
    wanted: list[tuple[str, Language, tuple[Entity, ...]]] = []
    for lang in LANGUAGES:
        wanted += [(entity.kind, lang, (entity,)) for entity in everyone]
        shuffled = rng.sample(everyone, len(everyone))
        groups = range(0, len(shuffled), SUBJECTS_A_QUIZ)
        wanted += [("questions", lang, tuple(shuffled[start : start + SUBJECTS_A_QUIZ])) for start in groups]
    return wanted


def _by_share(world: World, rng: random.Random, count: int) -> list[tuple[str, Language, tuple[Entity, ...]]]:
    """`count` more pages, each kind by its share; subjects come up equally often."""
    kinds = list(COMPOSERS)
    drawn = rng.choices(kinds, [COMPOSERS[kind][2] for kind in kinds], k=count)
    decks: dict[str, list[Entity]] = {}

    def deal(kind: str) -> Entity:
        deck = decks.setdefault(kind, [])
        if not deck:
            pool = world.entities.get(kind) or [entity for group in world.entities.values() for entity in group]
            deck.extend(rng.sample(pool, len(pool)))
        return deck.pop()

    wanted: list[tuple[str, Language, tuple[Entity, ...]]] = []
    for place, kind in enumerate(drawn):
        lang = LANGUAGES[place % 2]
        about = COMPOSERS[kind][1]
        many = rng.randint(1, 3) if kind == "questions" else 1
        wanted.append((kind, lang, tuple(deal(about or f"any-{lang}") for _ in range(many))))
    return wanted
