"""Pages: what each kind of page says, as paragraphs of sentences, with the facts it states and asks."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from zhen.sampleweb import grammar
from zhen.sampleweb.grammar import join, listing, named
from zhen.sampleweb.words import VALUES, WEEKDAYS, Language
from zhen.sampleweb.world import Entity, Fact, World, fresh_person

LENGTH = 1100
"""UTF-8 bytes below which a page of prose goes on to another subject."""

SEEN_LATELY = 5
"""Subjects back to which a page does not return."""

THINGS = ("town", "festival", "dish")


@dataclass(frozen=True)
class Page:
    """A page's content. A line break within a paragraph is `\\n`."""

    kind: str
    lang: Language
    title: str
    paragraphs: tuple[str, ...]
    states: tuple[str, ...]
    """Ids of the facts its prose states, in order of appearance."""
    asks: tuple[str, ...]
    """Ids of the facts it asks."""

    @property
    def text(self) -> str:
        """What an extractor should find below the title: the paragraphs, a line each."""
        return "\n".join(self.paragraphs)


class Draft:
    """A page being written: draws wordings, remembers what was stated and asked."""

    def __init__(self, world: World, lang: Language, rng: random.Random) -> None:
        self.world, self.lang, self.rng = world, lang, rng
        self.paragraphs: list[str] = []
        self.states: dict[str, None] = {}
        self.asks: dict[str, None] = {}
        self._last: dict[str, int] = {}

    @property
    def size(self) -> int:
        """UTF-8 bytes of the paragraphs so far."""
        return sum(len(paragraph.encode()) for paragraph in self.paragraphs)

    def add(self, *sentences: str) -> None:
        """Add a paragraph."""
        self.paragraphs.append(join(self.lang, list(sentences)))

    def phrase(self, key: str, **slots: str) -> str:
        """A drawn wording of a phrase."""
        return grammar.phrase(self.lang, key, self.rng, **slots)

    def tell(self, fact: Fact, form: str) -> str:
        """State a fact; neighbouring statements of a relation get different wordings."""
        count = len(grammar.prose_wordings(self.lang, fact.relation))
        wording = self.rng.randrange(count)
        if wording == self._last.get(fact.relation):
            wording = (wording + 1) % count
        self._last[fact.relation] = wording
        if fact.id:
            self.states[fact.id] = None
        return grammar.tell(self.lang, fact, wording, form)

    def ask(self, fact: Fact) -> str:
        """Ask a fact and answer it, as a paragraph of two lines."""
        if fact.id:
            self.asks[fact.id] = None
        asked = grammar.question(self.lang, fact, self.rng.choice(grammar.SEEN))
        return grammar.prompt(self.lang, asked) + grammar.continuation(self.lang, fact.value)

    def told(self, entity: Entity) -> list[Fact]:
        """What may be told of `entity` in this language, in a drawn order."""
        facts = self.world.told(entity, self.lang)
        return self.rng.sample(facts, len(facts))

    def about(self, facts: list[Fact], first: str = "name") -> list[str]:
        """Sentences that state `facts` of one subject: first by name, then mostly by pronoun."""
        forms = [first] + [self.rng.choice(("pronoun", "pronoun", "pronoun", "short", "name")) for _ in facts[1:]]
        return [self.tell(fact, form) for fact, form in zip(facts, forms, strict=False)]

    def other(self, *without: Entity, kind: str = "person") -> Entity:
        """A drawn entity of that kind, none of `without`."""
        return self.rng.choice([entity for entity in self.world.entities[kind] if entity not in without])

    def name(self, entity: Entity) -> str:
        """The full name within a sentence."""
        return named(self.lang, entity)

    def linked(self, facts: list[Fact], relation: str) -> list[Entity]:
        """The town that `facts` name under `relation`, if they do."""
        return [self.world.entity("town", fact.value.en) for fact in facts if fact.relation == relation]

    def pointing(self, relation: str, entity: Entity) -> list[Fact]:
        """Facts that have `entity` for their value and may be told here, in a drawn order."""
        facts = self.world.by_value.get((relation, entity.name.en), ())
        facts = tuple(fact for fact in facts if fact.told_in(self.lang))
        return self.rng.sample(facts, len(facts))

    def visit(self, towns: list[Entity]) -> None:
        """A paragraph on each of `towns`."""
        for town in towns:
            facts = self.told(town)
            if facts:
                self.add(self.phrase("visit_town", n=self.name(town)), *self.about(facts))

    def any_entity(self) -> Entity:
        """A town, festival or dish in half of the cases, else a person: people have more pages of their own."""
        if self.rng.random() < 0.5:
            return self.other()
        return self.rng.choice([entity for kind in THINGS for entity in self.world.entities[kind]])

    def go_on(self, *without: Entity) -> None:
        """Paragraphs on other subjects, until the page is long enough."""
        seen = list(without)
        if self.size < LENGTH:
            self.add(self.phrase("elsewhere"))
        while self.size < LENGTH:
            entity = self.any_entity()
            facts = self.told(entity)[:4]
            if facts and entity not in seen:
                self.add(*self.about(facts))
            seen = [*seen, entity][-SEEN_LATELY:]

    def finish(self, kind: str, title: str) -> Page:
        """The page as written so far."""
        paragraphs = tuple(paragraph for paragraph in self.paragraphs if paragraph)
        return Page(kind, self.lang, grammar.capital(title), paragraphs, tuple(self.states), tuple(self.asks))


def person_page(draft: Draft, subjects: list[Entity]) -> str:
    """An entry of the encyclopaedia: all that may be told of a person, then of home and friend."""
    person = subjects[0]
    facts = draft.told(person)
    draft.add(draft.phrase("entry", n=draft.name(person)), *draft.about(facts))
    slots = grammar.reference(draft.lang, person, "short")
    friend = draft.world.friends[person.key]
    again = draft.about(draft.rng.sample(facts, min(3, len(facts))), "short")
    if again:
        later = draft.phrase("later", o=slots.get("o", ""), s=slots["s"])
        draft.add(later, *again)
    draft.visit(draft.linked(facts, "town"))
    met = draft.phrase("friend", s=slots["s"], p=slots.get("p", ""), m=draft.name(friend))
    draft.add(met, *draft.about(draft.told(friend)[:3], "short"))
    draft.go_on(person, friend)
    return draft.name(person)


def town_page(draft: Draft, subjects: list[Entity]) -> str:
    """A town: its facts, its people, its festivals and dishes."""
    town = subjects[0]
    name = draft.name(town)
    draft.add(draft.phrase("entry", n=name), *draft.about(draft.told(town)))
    people = draft.pointing("town", town)[:4]
    if people:
        draft.add(draft.phrase("people_there", n=name))
    for fact in people:
        more = [found for found in draft.told(fact.subject) if found is not fact][:2]
        draft.add(draft.tell(fact, "name"), *draft.about(more, "pronoun"))
    things = draft.pointing("place", town)[:2] + draft.pointing("origin", town)[:2]
    if things:
        draft.add(draft.phrase("town_more"))
    for fact in things:
        more = [found for found in draft.told(fact.subject) if found is not fact]
        draft.add(draft.tell(fact, "name"), *draft.about(more, "pronoun"))
    draft.go_on(*(fact.subject for fact in people))
    return name


def thing_page(draft: Draft, subjects: list[Entity]) -> str:
    """A festival or a dish: its facts twice, then the town it belongs to and some people from there."""
    thing = subjects[0]
    facts = draft.told(thing)
    draft.add(draft.phrase("entry", n=draft.name(thing)), *draft.about(facts))
    draft.add(*draft.about(draft.rng.sample(facts, len(facts))))
    towns = draft.linked(facts, "place") + draft.linked(facts, "origin")
    draft.visit(towns)
    people = [fact for town in towns for fact in draft.pointing("town", town)][:3]
    for fact in people:
        more = [found for found in draft.told(fact.subject) if found is not fact][:2]
        draft.add(draft.tell(fact, "name"), *draft.about(more, "pronoun"))
    draft.go_on(*(fact.subject for fact in people))
    return draft.name(thing)


def story_page(draft: Draft, subjects: list[Entity]) -> str:
    """Two people meet; what was just told of them comes back as what they are called by."""
    one = subjects[0]
    friend = draft.world.friends[one.key]
    two = friend if draft.rng.random() < 0.5 else draft.other(one)
    names = {"n": draft.name(one), "m": draft.name(two)}
    draft.add(draft.phrase("story", **names))
    facts = {person.key: draft.told(person) for person in (one, two)}
    for start in (0, 2):
        called: list[list[str]] = []
        for person, key in ((one, "first_of_them"), (two, "second_of_them")):
            told = facts[person.key][start : start + 2]
            short = person.short.get(draft.lang)
            introduced = [] if start else [draft.phrase(key, n=short)]
            draft.add(*introduced, *draft.about(told, "short"))
            called.append([short, *(grammar.epithet(draft.lang, fact) for fact in told)])
        acts = draft.rng.sample(grammar.phrases(draft.lang, "act"), 3)
        draft.add(*(_act(draft, act, called) for act in acts))
    draft.add(_act(draft, draft.rng.choice(grammar.phrases(draft.lang, "story_end")), called))
    draft.go_on(one, two)
    return grammar.title(draft.lang, "story", **names)


def _act(draft: Draft, act: str, called: list[list[str]]) -> str:
    """Fill an action's {x} and {y} with names of the two people, in either order."""
    x, y = (draft.rng.choice(names) for names in draft.rng.sample(called, 2))
    return act.format(x=x, X=grammar.capital(x), y=y)


def diary_page(draft: Draft, subjects: list[Entity]) -> str:
    """Two halves of a week: visits in the order of days, told again at the end of each half."""
    writer = subjects[0]
    name = draft.name(writer)
    draft.add(draft.phrase("diary", n=name))
    people = draft.rng.sample([person for person in draft.world.entities["person"] if person is not writer], 5)
    for half in (slice(0, 3), slice(3, 6)):
        recalled = []
        for day, person in zip(WEEKDAYS[half], people[half], strict=False):
            weekday = day.get(draft.lang)
            visit = draft.phrase("day", w=weekday, n=draft.name(person))
            draft.add(visit, *draft.about(draft.told(person)[:2], "pronoun"), draft.phrase("day_end"))
            recalled.append(draft.phrase("on_day", w=weekday, n=person.short.get(draft.lang)))
        draft.add(draft.phrase("week", l=listing(draft.lang, recalled)), draft.phrase("week_end"))
    return grammar.title(draft.lang, "diary", n=name)


def news_page(draft: Draft, subjects: list[Entity]) -> str:
    """A parade of towns: the order announced, told town by town, and read once more, twice over."""
    others = [town for town in draft.world.entities["town"] if town is not subjects[0]]
    towns = [subjects[0], *draft.rng.sample(others, 3)]
    draft.rng.shuffle(towns)
    names = [draft.name(town) for town in towns]
    facts = {town.key: draft.told(town) for town in towns}
    draft.add(draft.phrase("parade"))
    for start, key in ((0, "order"), (1, "parade_end")):
        draft.add(draft.phrase(key, l=listing(draft.lang, names)))
        for place, town in enumerate(towns):
            turn = "first" if place == 0 else "last" if place == len(towns) - 1 else "next"
            about = draft.about(facts[town.key][start : start + 1 + start], "pronoun")
            draft.add(draft.phrase(turn, n=names[place]), *about)
    draft.go_on()
    return grammar.title(draft.lang, "news")


def timetable_page(draft: Draft, subjects: list[Entity]) -> str:
    """Two lines of the railway: an hour from town to town, there and back again."""
    towns = [town for town in draft.world.entities["town"] if town is not subjects[0]]
    for _ in range(2):
        line = [subjects[0], *draft.rng.sample(towns, min(3, len(towns)))]
        draft.rng.shuffle(line)
        hour = draft.rng.randint(5, 14)
        names = [draft.name(town) for town in line]
        draft.add(draft.phrase("line", l=listing(draft.lang, names)))
        for place, town in enumerate(line):
            stop = draft.phrase("stop", n=names[place], t=str(hour + place))
            draft.add(stop, *draft.about(draft.told(town)[:2], "pronoun"))
        draft.add(draft.phrase("back", l=listing(draft.lang, names[::-1])))
    return grammar.title(draft.lang, "timetable", n=draft.name(subjects[0]))


def market_page(draft: Draft, subjects: list[Entity]) -> str:
    """A market day: guests in the order of a list, twice over with other guests."""
    town = subjects[0]
    name = draft.name(town)
    draft.add(draft.phrase("market", n=name), *draft.about(draft.told(town)))
    people = draft.rng.sample(draft.world.entities["person"], 6)
    for guests in (people[:3], people[3:]):
        draft.add(draft.phrase("guests", l=listing(draft.lang, [draft.name(person) for person in guests])))
        for person in guests:
            stall = draft.phrase("stall", n=draft.name(person))
            draft.add(stall, *draft.about(draft.told(person)[:2], "pronoun"))
    return grammar.title(draft.lang, "market", n=name)


def questions_page(draft: Draft, subjects: list[Entity]) -> str:
    """Questions and answers on facts that may be asked; sometimes read in prose just before."""
    askable = [fact for entity in subjects for fact in draft.world.by_subject[entity.key] if fact.asked]
    while draft.size < LENGTH:
        extra = [fact for fact in draft.world.by_subject[draft.any_entity().key] if fact.asked]
        facts = askable or extra
        if draft.rng.random() < 0.25 and facts:
            draft.add(*draft.about(draft.told(facts[0].subject)[:5]))
        for fact in draft.rng.sample(facts, len(facts)):
            draft.add(draft.ask(fact))
        askable = []
    return draft.phrase("quiz", n=draft.name(subjects[0]))


def forum_page(draft: Draft, subjects: list[Entity]) -> str:
    """A question for a title, its answer, then more questions and answers with other things told between them."""
    askable = [fact for fact in draft.world.facts if fact.asked]
    relations = list(dict.fromkeys(fact.relation for fact in askable))
    draft.rng.shuffle(relations)
    while draft.size < LENGTH:
        for relation in relations[:4]:
            fact = draft.rng.choice([fact for fact in askable if fact.relation == relation])
            draft.add(draft.ask(fact))
        relations = relations[4:] + relations[:4]
        entity = draft.any_entity()
        draft.add(*draft.about(draft.told(entity)[:3]))
    question, draft.paragraphs[0] = draft.paragraphs[0].split("\n")
    return question


def reading_page(draft: Draft, subjects: list[Entity]) -> str:
    """Prose about people who appear nowhere else, then questions that only this page can answer."""
    for number in range(2 if draft.lang == "en" else 3):
        person, facts = fresh_person(draft.world, number, draft.rng)
        draft.add(draft.phrase("read", n=draft.name(person)))
        draft.add(*draft.about(facts))
        for fact in draft.rng.sample(facts, 3):
            draft.add(draft.ask(fact))
    return grammar.title(draft.lang, "reading")


def dictionary_page(draft: Draft, subjects: list[Entity]) -> str:
    """Words and names of the two languages side by side."""
    words = [word for values in VALUES.values() for word in values]
    names = [entity.name for entities in draft.world.entities.values() for entity in entities]
    draft.add(draft.phrase("words"))
    for chosen in (draft.rng.sample(words, 24), draft.rng.sample(names, 12)):
        pairs = [(word.en, word.zh) if draft.lang == "en" else (word.zh, word.en) for word in chosen]
        draft.paragraphs.append("\n".join(f"{one} = {two}" for one, two in pairs))
    return grammar.title(draft.lang, "dictionary")


def parallel_page(draft: Draft, subjects: list[Entity]) -> str:
    """The same sentences in both languages, on facts that both may tell."""
    draft.add(draft.phrase("sentences"))
    order: tuple[Language, Language] = ("en", "zh") if draft.lang == "en" else ("zh", "en")
    both = [fact for fact in draft.world.facts if fact.told_in("en") and fact.told_in("zh")]
    near = [fact for fact in both if fact.subject in subjects]
    for fact in near + draft.rng.sample(both, 9 - len(near)):
        draft.states[fact.id] = None
        wording = draft.rng.randrange(len(grammar.prose_wordings("en", fact.relation)))
        draft.paragraphs.append("\n".join(grammar.tell(lang, fact, wording, "name") for lang in order))
    return grammar.title(draft.lang, "parallel")


def arithmetic_page(draft: Draft, subjects: list[Entity]) -> str:
    """Sums of small numbers."""
    draft.add(draft.phrase("sums"))
    for _ in range(6):
        sums = []
        for _ in range(6):
            a, b = draft.rng.randint(1, 49), draft.rng.randint(1, 49)
            sums.append(draft.phrase("sum", a=str(a), b=str(b), c=str(a + b)))
        draft.add(*sums)
    return grammar.title(draft.lang, "arithmetic")


Composer = Callable[[Draft, list[Entity]], str]

COMPOSERS: dict[str, tuple[Composer, str, int]] = {
    "person": (person_page, "person", 22),
    "town": (town_page, "town", 6),
    "festival": (thing_page, "festival", 3),
    "dish": (thing_page, "dish", 3),
    "story": (story_page, "person", 11),
    "diary": (diary_page, "person", 7),
    "news": (news_page, "town", 2),
    "market": (market_page, "town", 4),
    "timetable": (timetable_page, "town", 2),
    "questions": (questions_page, "", 26),
    "forum": (forum_page, "", 4),
    "reading": (reading_page, "person", 5),
    "dictionary": (dictionary_page, "person", 1),
    "parallel": (parallel_page, "person", 4),
    "arithmetic": (arithmetic_page, "person", 1),
}
"""Kind of page -> who writes it, kind of its subject (empty: any), share of the pages in per cent."""


def compose(world: World, kind: str, lang: Language, subjects: list[Entity], seed: str) -> Page:
    """The page of that kind about `subjects`; a pure function of its arguments."""
    draft = Draft(world, lang, random.Random(seed))
    title = COMPOSERS[kind][0](draft, subjects)
    return draft.finish(kind, title)
