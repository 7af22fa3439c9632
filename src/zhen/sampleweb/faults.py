"""The faults of the web: how many of each there are, and the pages that have them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from zhen.sampleweb import foreign, grammar, spam
from zhen.sampleweb.composing import Page, compose
from zhen.sampleweb.contacts import plant
from zhen.sampleweb.copies import near_copy
from zhen.sampleweb.sheets import Damage, Sheet
from zhen.sampleweb.sites import DOUBTFUL, MIRRORS, SITES, Site
from zhen.sampleweb.words import LANGUAGES, TOPICS, Language
from zhen.sampleweb.world import World

SHARES: dict[str, float] = {
    "exact-copy": 0.08,
    "near-copy": 0.08,
    "spam": 0.06,
    "garbled": 0.024,
    "big5": 0.004,
    "language": 0.03,
    "leak": 0.013,
    "reworded-leak": 0.007,
    "boilerplate": 0.01,
    "damage": 0.005,
}
"""Kind of fault -> its records for each good page of the web, where `faults` is 1."""

CONTACTS = 0.03
GBK = 0.012
NOTICE = 0.03
"""Shares of the good pages that have contacts on them, come in GBK, or end in a notice; no further records."""

TELLING = ("person", "town", "festival", "dish", "story", "diary", "market", "news")
"""Kinds of pages that faults are made from: prose in one language."""

NEAR = ((0.84, 0.99), (0.84, 0.99), (0.84, 0.99), (0.5, 0.8))
"""Near copies aim at similarities in these ranges, in turn, evenly spread in each."""

LABELS: tuple[tuple[str | None, str | None], ...] = (
    ("gbk", "gbk"),
    (None, "gb2312"),
    ("gb18030", None),
    ("utf-8", "gbk"),
    ("iso-8859-1", "utf-8"),
    ("big5", None),
    (None, None),
)
"""What server and page say of a page in GBK: right, wrong or nothing."""

MOJIBAKE = ("cp1252", "gb18030", "gbk", "mac-roman")
DAMAGES: tuple[Damage, ...] = ("cut-member", "wrong-digest", "wrong-length")


@dataclass(frozen=True)
class Making:
    """What the makers of faulty pages draw on."""

    world: World
    good: list[Sheet]
    items: dict[Language, list[dict[str, Any]]]
    """Question items of `never-asked/`."""
    rng: random.Random
    seed: int

    def source(self, number: int) -> Sheet:
        """A good page of prose with nothing special about it; languages take turns."""
        lang = LANGUAGES[number % 2]
        fitting = [sheet for sheet in self.good if sheet.lang == lang and not sheet.why and sheet.page.kind in TELLING]
        return self.rng.choice(fitting)

    def fresh(self, name: str, number: int) -> Page:
        """A page of prose that is no other's copy; languages take turns."""
        kind = self.rng.choice(TELLING[:4])
        subject = self.rng.choice(self.world.entities[kind])
        return compose(self.world, kind, LANGUAGES[number % 2], [subject], f"sampleweb/{self.seed}/{name}/{number}")

    def site(self, lang: Language) -> Site:
        """One of the usual sites."""
        return self.rng.choice([site for site in SITES if lang in site.langs])

    def doubtful(self, lang: Language) -> Site:
        """One of the sites that have nothing else than what nobody wants."""
        return self.rng.choice([site for site in DOUBTFUL if lang in site.langs])


def mark_good(world: World, sheets: list[Sheet], scale: float, seed: int) -> list[Sheet]:
    """The good pages, some with contacts on them, some in GBK, some with a notice that others have too."""
    rng = random.Random(f"sampleweb/{seed}/marks")
    prose = [place for place, sheet in enumerate(sheets) if sheet.page.kind in TELLING]
    found = list(sheets)
    chosen = rng.sample(prose, min(len(prose), _count(CONTACTS, scale, sheets)))
    for place in chosen:
        found[place] = _with_contacts(sheets[place], rng)
    free = [place for place in prose if place not in set(chosen)]
    chinese = [place for place in free if sheets[place].lang == "zh"]
    for number, place in enumerate(rng.sample(chinese, min(len(chinese), _count(GBK, scale, sheets)))):
        server, declared = LABELS[number % len(LABELS)]
        found[place] = replace(sheets[place], why="gbk", encoding="gb18030", server=server, declared=declared)
    free = [place for place in free if not found[place].why]
    for place in rng.sample(free, min(len(free), _count(NOTICE, scale, sheets))):
        found[place] = replace(sheets[place], why="notice", notice=spam.NOTICES[sheets[place].page.lang])
    return found


def make_faults(
    world: World, good: list[Sheet], items: dict[Language, list[dict[str, Any]]], scale: float, seed: int
) -> Iterator[Sheet]:
    """Further records of the crawl that have faults, `scale` times the usual number of each."""
    page = len(good)
    for name, share in SHARES.items():
        making = Making(world, good, items, random.Random(f"sampleweb/{seed}/{name}"), seed)
        for number in range(_count(share, scale, good)):
            sheet = MAKERS[name](making, number)
            url = sheet.url or f"https://{sheet.site.host}/{sheet.page.lang}/{page:06d}.html"
            yield replace(sheet, url=url, why=sheet.why or name)
            page += 1


def _count(share: float, scale: float, good: list[Sheet]) -> int:
    return round(share * scale * len(good))


def _page(kind: str, lang: Language, title: str, paragraphs: list[str]) -> Page:
    return Page(kind, lang, title, tuple(paragraphs), (), ())


def _with_contacts(sheet: Sheet, rng: random.Random) -> Sheet:
    sentences, found = plant(sheet.page.lang, rng)
    paragraphs = list(sheet.page.paragraphs)
    paragraphs.insert(rng.randrange(1, len(paragraphs) + 1), grammar.join(sheet.page.lang, sentences))
    page = replace(sheet.page, paragraphs=tuple(paragraphs))
    return replace(sheet, page=page, fate="redact", why="contacts", more={"contacts": [asdict(each) for each in found]})


def _exact(making: Making, number: int) -> Sheet:
    source = making.source(number)
    more = {"exact_of": source.url, "jaccard": 1.0}
    page = replace(source.page, kind="copy")
    if number % 4 < 2:
        url = f"{source.url}?from=share-{number}"
        return Sheet(url, source.site, page, source.lang, "drop", "exact-copy", more=more)
    return Sheet("", making.rng.choice(MIRRORS), page, source.lang, "drop", "exact-copy", more=more)


def _near(making: Making, number: int) -> Sheet:
    source = making.source(number)
    target = making.rng.uniform(*NEAR[number // 2 % len(NEAR)])
    paragraphs, similarity = near_copy(making.world, source.page, target, making.rng)
    page = replace(source.page, kind="copy", paragraphs=paragraphs)
    site = making.rng.choice((source.site, *MIRRORS))
    more = {"near_of": source.url, "jaccard": round(similarity, 4)}
    return Sheet("", site, page, source.lang, "drop" if similarity >= 0.8 else "either", "near-copy", more=more)


def _spam(making: Making, number: int) -> Sheet:
    lang = LANGUAGES[number % 2]
    site = making.doubtful(lang) if making.rng.random() < 0.6 else making.site(lang)
    return Sheet("", site, _page("spam", lang, *spam.spam_page(lang, making.rng)), lang, "drop")


def _garbled(making: Making, number: int) -> Sheet:
    kinds = [*spam.GIBBERISH, *MOJIBAKE]
    kind = kinds[number % len(kinds)]
    if kind in spam.GIBBERISH:
        lang = spam.GIBBERISH[kind][0]
        page = _page("garbled", lang, *spam.gibberish_page(kind, making.rng))
        return Sheet("", making.site(lang), page, "und", "drop", f"gibberish-{kind}")
    source = making.source(1).page
    paragraphs = [spam.mojibake(paragraph, kind) for paragraph in source.paragraphs]
    page = _page("garbled", "zh", spam.mojibake(source.title, kind), paragraphs)
    return Sheet("", making.site("zh"), page, "und", "drop", f"mojibake-{kind}")


def _big5(making: Making, number: int) -> Sheet:
    page = _page("traditional", "zh", *foreign.traditional_page(making.rng))
    server, declared = (("big5", "big5"), (None, "big5"), ("big5", None), ("utf-8", "big5"), (None, None))[number % 5]
    return Sheet("", making.site("zh"), page, "zh", encoding="big5", server=server, declared=declared)


def _language(making: Making, number: int) -> Sheet:
    langs = list(foreign.SENTENCES)
    lang = langs[number % len(langs)]
    name = making.rng.choice(making.world.entities["person"]).name.en
    page = _page("foreign", "en", *foreign.foreign_page(lang, name, making.rng))
    site = making.doubtful("en") if making.rng.random() < 0.5 else making.site("en")
    return Sheet("", site, page, lang, "drop")


def _leak(making: Making, number: int) -> Sheet:
    page = making.fresh("leak", number)
    drawn = making.rng.sample(making.items[page.lang], min(3, len(making.items[page.lang])))
    paragraphs = list(page.paragraphs)
    for item in drawn:
        paragraphs.insert(making.rng.randrange(1, len(paragraphs) + 1), item["prompt"] + item["answer"])
    page = replace(page, kind="leak", paragraphs=tuple(paragraphs), states=(), asks=())
    return Sheet("", making.site(page.lang), page, page.lang, "drop", more={"leaks": [item["id"] for item in drawn]})


def _reworded(making: Making, number: int) -> Sheet:
    page = making.fresh("reworded", number)
    facts = making.rng.sample([fact for fact in making.world.facts if fact.split == "B"], 2)
    paragraphs = list(page.paragraphs)
    for fact in facts:
        slots = {"n": fact.subject.name.get(page.lang), "t": TOPICS[fact.relation].get(page.lang)}
        text = grammar.phrase(page.lang, "riddle", making.rng, v=fact.value.get(page.lang), **slots)
        paragraphs.insert(making.rng.randrange(1, len(paragraphs) + 1), text)
    page = replace(page, kind="leak", paragraphs=tuple(paragraphs), states=(), asks=())
    return Sheet("", making.site(page.lang), page, page.lang, "either", more={"leaks": [fact.id for fact in facts]})


def _boilerplate(making: Making, number: int) -> Sheet:
    lang = LANGUAGES[number % 2]
    page = _page("boilerplate", lang, *spam.boilerplate_page(lang, making.rng))
    return Sheet("", making.site(lang), page, lang, "drop", status=(200, 404)[number // 2 % 2])


def _damage(making: Making, number: int) -> Sheet:
    page = replace(making.fresh("damage", number), kind="damaged", states=(), asks=())
    damage = DAMAGES[number % len(DAMAGES)]
    return Sheet("", making.site(page.lang), page, page.lang, "lost", damage, damage=damage)


MAKERS: dict[str, Callable[[Making, int], Sheet]] = {
    "exact-copy": _exact,
    "near-copy": _near,
    "spam": _spam,
    "garbled": _garbled,
    "big5": _big5,
    "language": _language,
    "leak": _leak,
    "reworded-leak": _reworded,
    "boilerplate": _boilerplate,
    "damage": _damage,
}
