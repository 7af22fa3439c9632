"""Question items for evaluation: what pages never ask, and, beside it, what they do ask."""

from __future__ import annotations

import random
from typing import Any

from zhen.sampleweb import grammar
from zhen.sampleweb.grammar import HELD_OUT, SEEN, Wording
from zhen.sampleweb.words import LANGUAGES, Language
from zhen.sampleweb.world import Fact, World

CHOICES = 4
ASKED_FACTS = 100
"""Facts of split A that `asked` takes, a control for `never-asked`."""
UNSEEN_FACTS = 50
"""Facts of split B that `unseen-wording` asks in each language."""

Items = list[dict[str, Any]]


def build_tasks(world: World, seed: int) -> dict[str, Items]:
    """File name below `tasks/` -> its items. `never-asked/` holds only what no page asks."""
    by_split: dict[str, list[Fact]] = {}
    for fact in world.facts:
        by_split.setdefault(fact.split, []).append(fact)
    rng = random.Random(f"sampleweb/{seed}/tasks")
    asked = _some(by_split["A"], ASKED_FACTS, rng)
    unseen = _some(by_split["B"], UNSEEN_FACTS, rng)
    files: dict[str, Items] = {}
    for lang in LANGUAGES:
        build = _Builder(world, lang, random.Random(f"sampleweb/{seed}/tasks/{lang}"))
        files[f"asked/asked.{lang}.jsonl"] = build.items("A", asked, SEEN, 1)
        files[f"never-asked/never-asked.{lang}.jsonl"] = build.items("B", by_split["B"], SEEN, 2)
        files[f"never-asked/unseen-wording.{lang}.jsonl"] = build.items("unseen-wording", unseen, HELD_OUT, 1)
        one, other = ("C", "D") if lang == "en" else ("D", "C")
        files[f"never-asked/one-language.{lang}.jsonl"] = build.items(one, by_split[one], SEEN, 1)
        files[f"never-asked/cross-language.{lang}.jsonl"] = build.items(other, by_split[other], SEEN, 1)
        files[f"never-asked/unstated.{lang}.jsonl"] = build.items("unstated", by_split["unstated"], SEEN, 1)
    return files


def _some(facts: list[Fact], count: int, rng: random.Random) -> list[Fact]:
    chosen = set(rng.sample(range(len(facts)), min(count, len(facts))))
    return [fact for place, fact in enumerate(facts) if place in chosen]


class _Builder:
    """Makes items in one language."""

    def __init__(self, world: World, lang: Language, rng: random.Random) -> None:
        self.world, self.lang, self.rng = world, lang, rng

    def items(self, kind: str, facts: list[Fact], wordings: tuple[Wording, ...], each: int) -> Items:
        """`each` items for every fact, in different wordings."""
        drawn = [(fact, wording) for fact in facts for wording in self.rng.sample(wordings, each)]
        return [self._item(kind, fact, wording) for fact, wording in drawn]

    def _item(self, kind: str, fact: Fact, wording: Wording) -> dict[str, Any]:
        others = [value for value in self.world.values(fact.relation) if value != fact.value]
        values = [fact.value, *self.rng.sample(others, CHOICES - 1)]
        self.rng.shuffle(values)
        core, frame = wording
        return {
            "id": f"{kind}.{fact.id}.{core}{frame}.{self.lang}",
            "lang": self.lang,
            "kind": kind,
            "split": fact.split,
            "relation": fact.relation,
            "cluster": fact.id,
            "prompt": grammar.prompt(self.lang, grammar.question(self.lang, fact, wording)),
            "answer": grammar.continuation(self.lang, fact.value),
            "choices": [grammar.continuation(self.lang, value) for value in values],
            "gold": values.index(fact.value),
        }
