"""Licence texts: which one a file is, whatever its line breaks, and the texts themselves."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import NamedTuple

from zhen.errors import ZhenError

TEXTS = {"apache-2.0": "Apache License, Version 2.0", "cc0-1.0": "CC0 1.0 Universal"}
"""Licences whose text comes with Zhen, by the Hub's name, with the name people use."""

AROUND = 60
"""Most words around the terms of a licence: copyright lines have fewer, an added condition is to be read by people."""

_SHINGLE = 5


class Likeness(NamedTuple):
    """What a text has in common with the licence it is nearest to."""

    license: str
    share: float
    """Of the 5-word shingles of both: the lower one of the two shares, so that neither a part nor more is 1."""
    same: bool
    """Whether the terms stand in it word by word, without interruption, with at most AROUND other words."""


def text_of(license: str) -> str:
    """The text of a licence, by the Hub's name. Raises ZhenError for one whose text is not here."""
    if license not in TEXTS:
        raise ZhenError(f'no text of licence "{license}"', expected="one of " + ", ".join(TEXTS))
    return _read(license).strip("\n") + "\n"


def identify(text: str) -> Likeness:
    """The licence that a text is nearest to. Case, punctuation, line breaks and http or https do not count.

    Of Apache's text the terms up to their END are needed, the appendix may be there, filled in or not.
    """
    mine = _words(text)
    shingles = _shingles(mine)
    best = Likeness("none", 0.0, False)
    for license in TEXTS:
        known = _words(_read(license))
        common = len(shingles & _shingles(known))
        share = min(common / len(_shingles(known)), common / max(len(shingles), 1))
        same = _around(mine, license) <= AROUND
        if (same, share) > (best.same, best.share):
            best = Likeness(license, share, same)
    return best


def _around(words: list[str], license: str) -> float:
    """Words around the terms, infinite without the terms; behind them only what the licence itself lacks counts."""
    whole = _read(license)
    terms = f" {' '.join(_words(whole.split('END OF TERMS AND CONDITIONS')[0]))} "
    before, found, after = f" {' '.join(words)} ".partition(terms)
    return len(before.split()) + len(_shingles(after.split()) - _shingles(_words(whole))) if found else float("inf")


@cache
def _read(license: str) -> str:
    return (resources.files("zhen.audit") / "texts" / f"{license}.txt").read_text(encoding="utf-8")


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower().replace("https://", "http://"))


def _shingles(words: list[str]) -> frozenset[tuple[str, ...]]:
    return frozenset(tuple(words[start : start + _SHINGLE]) for start in range(len(words) - _SHINGLE + 1))
