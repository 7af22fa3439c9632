"""The invented world: who and what there is, what is true of them, and which facts are told and asked where."""

from __future__ import annotations

import random
from dataclasses import dataclass

from zhen.sampleweb.settings import SamplewebSettings, counts
from zhen.sampleweb.words import DISH_KINDS, RELATIONS, SYLLABLES, TOWN_ENDINGS, VALUES, Language, Word

SPLIT_PATTERNS: dict[str, str] = {
    "person": "AABACABADAABACABADAB",
    "town": "AACAAADAAA",
    "festival": "AACAAADAAA",
    "dish": "AACAAADAAA",
}
"""Kind of entity -> share of the splits, spread evenly over the facts of each relation. Things are so few
that a small model learns the answers of those asked instead of how to answer, so B is of people alone."""

STATED_IN: dict[str, tuple[Language, ...]] = {
    "A": ("en", "zh"),
    "B": ("en", "zh"),
    "C": ("en",),
    "D": ("zh",),
    "fresh": ("en", "zh"),
    "unstated": (),
}
"""Split -> languages in whose prose its facts are told. Only A (and fresh, a page's own) are asked on pages."""


@dataclass(frozen=True)
class Entity:
    """A person, town, festival or dish. `short` is a person's given name, else the same as `name`."""

    key: str
    kind: str
    name: Word
    short: Word
    gender: str
    """`f`, `m`, or `n` for things."""


@dataclass(frozen=True)
class Fact:
    """One thing that is true of one entity. `split` says where it is told and asked."""

    id: str
    subject: Entity
    relation: str
    value: Word
    split: str

    def told_in(self, lang: Language) -> bool:
        """Whether prose in `lang` may state it."""
        return lang in STATED_IN[self.split]

    @property
    def asked(self) -> bool:
        """Whether pages may ask it."""
        return self.split in ("A", "fresh")


@dataclass(frozen=True)
class World:
    """All entities by kind, all facts in a fixed order, and name parts that no entity bears."""

    entities: dict[str, tuple[Entity, ...]]
    facts: tuple[Fact, ...]
    by_subject: dict[str, tuple[Fact, ...]]
    friends: dict[str, Entity]
    """A person's key -> that person's friend, the same on every page."""
    by_value: dict[tuple[str, str], tuple[Fact, ...]]
    """(relation, English value) -> facts that have it: the people of a town, the festivals held there."""
    families: tuple[Word, ...]
    """Family names, about five people to each; people who appear on one page only bear them too."""
    spare: tuple[Word, ...]
    """Given names left over for people who appear on one page only."""

    def told(self, entity: Entity, lang: Language) -> list[Fact]:
        """Facts of `entity` that prose in `lang` may state, in the order of its relations."""
        return [fact for fact in self.by_subject[entity.key] if fact.told_in(lang)]

    def entity(self, kind: str, name: str) -> Entity:
        """The entity of that kind with that English name; raises StopIteration if there is none."""
        return next(entity for entity in self.entities[kind] if entity.name.en == name)

    def values(self, relation: str) -> tuple[Word, ...]:
        """All values that `relation` can have in this world."""
        if relation in VALUES:
            return VALUES[relation]
        return tuple(town.name for town in self.entities["town"])


def build_world(settings: SamplewebSettings, seed: int) -> World:
    """The world of `settings.people` and `seed`; a pure function of the two."""
    rng = random.Random(f"sampleweb/{seed}/world")
    parts = [Word((a.en + b.en).capitalize(), a.zh + b.zh) for a in SYLLABLES for b in SYLLABLES if a != b]
    rng.shuffle(parts)
    towns, festivals, dishes = counts(settings.people)
    families = tuple(parts.pop() for _ in range(max(3, settings.people // 5)))
    entities = {
        "person": tuple(
            _person(f"person-{number:03d}", parts.pop(), families[number % len(families)], rng)
            for number in range(settings.people)
        ),
        "town": tuple(_thing("town", number, parts, rng) for number in range(towns)),
        "festival": tuple(_thing("festival", number, parts, rng) for number in range(festivals)),
        "dish": tuple(_thing("dish", number, parts, rng) for number in range(dishes)),
    }
    facts = _facts(entities, rng)
    subjects: dict[str, list[Fact]] = {}
    values: dict[tuple[str, str], list[Fact]] = {}
    for fact in facts:
        subjects.setdefault(fact.subject.key, []).append(fact)
        values.setdefault((fact.relation, fact.value.en), []).append(fact)
    circle = rng.sample(entities["person"], settings.people)
    return World(
        entities=entities,
        facts=facts,
        by_subject={key: tuple(found) for key, found in subjects.items()},
        friends={person.key: circle[(place + 1) % len(circle)] for place, person in enumerate(circle)},
        by_value={key: tuple(found) for key, found in values.items()},
        families=families,
        spare=tuple(parts),
    )


def fresh_person(world: World, number: int, rng: random.Random) -> tuple[Entity, list[Fact]]:
    """A person for one page, with made-up attributes; bears no name of the world's people."""
    entity = _person(f"fresh-{number}", rng.choice(world.spare), rng.choice(world.families), rng)
    relations = rng.sample(RELATIONS["person"], 4)
    return entity, [Fact("", entity, relation, rng.choice(world.values(relation)), "fresh") for relation in relations]


def _person(key: str, given: Word, family: Word, rng: random.Random) -> Entity:
    name = Word(f"{given.en} {family.en}", f"{given.zh}·{family.zh}")
    return Entity(key, "person", name, given, rng.choice("fm"))


def _thing(kind: str, number: int, parts: list[Word], rng: random.Random) -> Entity:
    stem = parts.pop()
    if kind == "town":
        ending = rng.choice(TOWN_ENDINGS)
        name = Word(stem.en + ending.en, stem.zh + ending.zh)
    elif kind == "festival":
        name = Word(f"{stem.en} Festival", f"{stem.zh}节")
    else:
        dish = rng.choice(DISH_KINDS)
        name = Word(f"{stem.en} {dish.en}", stem.zh + dish.zh)
    return Entity(f"{kind}-{number:03d}", kind, name, name, "n")


def _facts(entities: dict[str, tuple[Entity, ...]], rng: random.Random) -> tuple[Fact, ...]:
    """One fact for each entity and relation; half of the people have one that no page tells."""
    towns = tuple(town.name for town in entities["town"])
    people = entities["person"]
    silent = {
        (person.key, RELATIONS["person"][place % 6])
        for place, person in enumerate(rng.sample(people, len(people) // 2))
    }
    found: dict[tuple[str, str], Fact] = {}
    for kind, relations in RELATIONS.items():
        for relation in relations:
            pool = _even(VALUES.get(relation, towns), len(entities[kind]), rng)
            told = [entity for entity in entities[kind] if (entity.key, relation) not in silent]
            pattern = SPLIT_PATTERNS[kind]
            turn = rng.randrange(len(pattern))
            splits = {
                entity.key: pattern[(turn + place) % len(pattern)]
                for place, entity in enumerate(rng.sample(told, len(told)))
            }
            for entity, value in zip(entities[kind], pool, strict=True):
                split = splits.get(entity.key, "unstated")
                found[entity.key, relation] = Fact(f"{entity.key}.{relation}", entity, relation, value, split)
    everyone = [entity for group in entities.values() for entity in group]
    return tuple(found[entity.key, relation] for entity in everyone for relation in RELATIONS[entity.kind])


def _even(values: tuple[Word, ...], count: int, rng: random.Random) -> list[Word]:
    """`count` draws in which every value is about equally frequent, so that guessing the commonest gains little."""
    draws = [value for _ in range(-(-count // len(values))) for value in rng.sample(values, len(values))][:count]
    rng.shuffle(draws)
    return draws
