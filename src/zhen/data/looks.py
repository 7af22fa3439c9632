"""A document under the rules one by one: each rule's value against its threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct


class Look(Struct, frozen=True):
    """One rule's look at one document."""

    rule: str
    unit: str
    direction: str
    """`min`: at least the threshold is kept; `max`: at most."""
    value: float | None
    """None where the signal was not measured."""
    threshold: float | None
    """None where the rule does not apply to the document's language."""
    kept: bool


def looks(rules: Sequence[Mapping[str, Any]], values: Mapping[str, Any], lang: str) -> list[Look]:
    """Each of `rules` (as `funnel.json` lists them) on a document's signals; compared as `decide` compares."""
    found = []
    for rule in rules:
        limits, value = rule["thresholds"], values.get(rule["signal"])
        limit = limits.get(lang, limits.get("*"))
        kept = True
        if limit is not None and value is not None:
            one, other = np.float32(value), np.float32(limit)
            kept = bool(one >= other if rule["direction"] == "min" else one <= other)
        found.append(Look(rule["rule"], rule["unit"], rule["direction"], value, limit, kept))
    return found
