"""Licence texts: which one a file is, whatever its line breaks, and the texts themselves."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from zhen.errors import ZhenError

TEXTS = {"apache-2.0": "Apache License, Version 2.0", "cc0-1.0": "CC0 1.0 Universal"}
"""Licences whose text comes with Zhen, by the Hub's name, with the name people use."""

SAME = 0.95
"""Share of shingles from which on two texts are one licence: a filled-in copyright line or a cut appendix stays
above, a changed condition is for a lawyer and is reported with its share."""

_SHINGLE = 5


def text_of(license: str) -> str:
    """The text of a licence, by the Hub's name. Raises ZhenError for one whose text is not here."""
    if license not in TEXTS:
        raise ZhenError(f'no text of licence "{license}"', expected="one of " + ", ".join(TEXTS))
    return _read(license).strip("\n") + "\n"


def identify(text: str) -> tuple[str, float]:
    """The licence that a text is nearest to and how near: the share of the licence's 5-word shingles that it has.

    Case, punctuation and line breaks do not count, nor does what stands after Apache's `END OF TERMS`. The share is
    taken of both texts and the lower one given, so that neither a part nor a text with conditions added is 1.
    """
    best = ("none", 0.0)
    mine = _shingles(text)
    for license in TEXTS:
        known = _shingles(_read(license))
        common = len(mine & known)
        share = min(common / len(known), common / max(len(mine), 1))
        if share > best[1]:
            best = (license, share)
    return best


@cache
def _read(license: str) -> str:
    return (resources.files("zhen.audit") / "texts" / f"{license}.txt").read_text(encoding="utf-8")


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    terms = text.split("END OF TERMS AND CONDITIONS")[0]
    words = re.findall(r"[a-z0-9]+", terms.lower())
    return frozenset(tuple(words[start : start + _SHINGLE]) for start in range(len(words) - _SHINGLE + 1))
