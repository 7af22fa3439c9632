"""Sentences from the two grammars: telling a fact, asking it, filling a phrase; which questions are held out."""

from __future__ import annotations

import random

from zhen.sampleweb import chinese, english
from zhen.sampleweb.words import Language, Word
from zhen.sampleweb.world import Entity, Fact

CORES = 3
FRAMES = 5
WORDINGS = tuple((core, frame) for core in range(CORES) for frame in range(FRAMES))
HELD_OUT = tuple((core, core + 1) for core in range(CORES))
"""Wordings (core, frame) that no page uses. Their core and their frame are each used, never the two together."""
SEEN = tuple(wording for wording in WORDINGS if wording not in HELD_OUT)

Wording = tuple[int, int]

LABELS: dict[Language, tuple[str, str]] = {"en": ("Question: ", "Answer:"), "zh": ("问：", "答：")}


def phrases(lang: Language, key: str) -> tuple[str, ...]:
    """The wordings of a phrase."""
    return english.PHRASES[key] if lang == "en" else chinese.PHRASES[key]


def prose_wordings(lang: Language, relation: str) -> tuple[str, ...]:
    """The templates by which `relation` is told."""
    return english.PROSE[relation] if lang == "en" else chinese.PROSE[relation]


def title(lang: Language, kind: str, **names: str) -> str:
    """A page's title."""
    return (english.TITLES if lang == "en" else chinese.TITLES)[kind].format(**names)


def capital(text: str) -> str:
    """`text` with its first letter in upper case, the rest as it is."""
    return text[:1].upper() + text[1:]


def reference(lang: Language, entity: Entity, form: str) -> dict[str, str]:
    """What the slots for a subject are filled with; `form` is `name`, `short` or `pronoun`."""
    if lang == "zh":
        subject = {"name": entity.name.zh, "short": entity.short.zh, "pronoun": chinese.PRONOUNS[entity.gender]}[form]
        return {"s": subject}
    pronoun, possessive, object_ = english.PRONOUNS[entity.gender]
    if form == "pronoun":
        s, p, o = pronoun, possessive, object_
    else:
        s = o = definite(entity, form)
        p = f"{s}'s"
    return {"s": s, "S": capital(s), "p": p, "P": capital(p), "o": o, "h": possessive}


def definite(entity: Entity, form: str = "name") -> str:
    """The English name as it stands in a sentence: festivals take an article."""
    name = entity.name.en if form == "name" else entity.short.en
    return f"the {name}" if entity.kind == "festival" else name


def named(lang: Language, entity: Entity) -> str:
    """The full name as it stands within a sentence."""
    return definite(entity) if lang == "en" else entity.name.zh


def with_article(noun: str) -> str:
    """`noun` behind `a` or `an`; the world's nouns all follow their first letter."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def tell(lang: Language, fact: Fact, wording: int, form: str) -> str:
    """The sentence that states `fact` by the template number `wording`."""
    value = fact.value.get(lang)
    slots = reference(lang, fact.subject, form)
    return prose_wordings(lang, fact.relation)[wording].format(v=value, a=with_article(value), **slots)


def epithet(lang: Language, fact: Fact) -> str:
    """The fact's subject, called by the fact (`the owner of the goat`)."""
    table = english.EPITHETS if lang == "en" else chinese.EPITHETS
    return table[fact.relation].format(v=fact.value.get(lang))


def question(lang: Language, fact: Fact, wording: Wording) -> str:
    """The question that `fact` answers, in the given wording."""
    core, frame = wording
    name = fact.subject.name.get(lang)
    if lang == "zh":
        inside, after = chinese.QUESTIONS[fact.relation][core]
        return chinese.FRAMES[frame].format(i=inside.format(n=name), t=after, n=name)
    direct, indirect, after = english.QUESTIONS[fact.relation][core]
    return english.FRAMES[frame].format(
        D=capital(direct.format(n=name)), i=indirect.format(n=name), t=after, n=definite(fact.subject)
    )


def prompt(lang: Language, asked: str) -> str:
    """A question up to where its answer goes on; never ends in white space."""
    before, behind = LABELS[lang]
    return f"{before}{asked}\n{behind}"


def continuation(lang: Language, value: Word) -> str:
    """An answer as it stands behind the prompt: English sets a blank before it."""
    return f" {value.en}" if lang == "en" else value.zh


def phrase(lang: Language, key: str, rng: random.Random, **slots: str) -> str:
    """One wording of a phrase, drawn by `rng`. Upper-case slots are added for English."""
    upper = {name.upper(): capital(text) for name, text in slots.items() if name.islower()}
    return rng.choice(phrases(lang, key)).format(**{**upper, **slots})


def listing(lang: Language, names: list[str]) -> str:
    """Names one after another."""
    return (", " if lang == "en" else "、").join(names)


def join(lang: Language, sentences: list[str]) -> str:
    """Sentences as a paragraph."""
    return (" " if lang == "en" else "").join(sentences)
