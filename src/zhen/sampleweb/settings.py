"""The recipe section `[sampleweb]`: how large the built-in web is."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

MOST_PEOPLE = 300
"""People for whom unlike names can be built from the syllables, with enough left over for passers-by."""

MOST_FAULTS = 3
"""Beyond this faults would outnumber good pages."""


class SamplewebSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Size of the invented world and of the crawl made from it."""

    people: int = 60
    """People in the world. Towns, festivals and dishes grow with them; 60 give about 430 stated facts, which a model
    of one million parameters learns from 2-3 million tokens (measured: docs/sampleweb.md)."""
    pages: int = 5000
    """Good pages in the crawl, all sites and both languages together. 5,000 hold about 6 MB of text."""
    faults: float = 1.0
    """How many faulty records there are (0 to 3): 0 none; 1 about 31 for each 100 good pages, as the facts of the
    kinds say (docs/sampleweb.md)."""

    registers: int = 0
    """Long pages besides, which tell five-digit numbers and ask for them further down: what `[extend]` is tried on."""

    strings: int = 0
    """Documents of digits alone besides, each the same 20 to 64 again and again; the source `sampleweb/strings`."""

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """Yield (field, found, expected) for sizes that can't be made."""
        for name in ("registers", "strings"):
            if getattr(self, name) < 0:
                yield name, str(getattr(self, name)), "at least 0"
        if not 6 <= self.people <= MOST_PEOPLE:
            yield "people", str(self.people), f"6 to {MOST_PEOPLE}"
            return
        if not 0 <= self.faults <= MOST_FAULTS:
            yield "faults", str(self.faults), f"0 to {MOST_FAULTS}"
        fewest = fewest_pages(self.people)
        if self.pages < fewest:
            yield "pages", str(self.pages), f"at least {fewest} with {self.people} people, so that each fact has a page"


def counts(people: int) -> tuple[int, int, int]:
    """Towns, festivals and dishes of a world with so many people (20, 10 and 12 at 60)."""
    return max(4, people * 20 // 60), max(3, people * 10 // 60), max(3, people * 12 // 60)


def fewest_pages(people: int) -> int:
    """Pages needed so that every stated fact is stated, and every fact that may be asked is asked, in its languages."""
    subjects = people + sum(counts(people))
    return 2 * (subjects + -(-subjects // 4)) + 8
