"""Tensor names with the layer's number taken out: which tensors are the same part of each layer."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_DIGITS = re.compile(r"\d+", re.ASCII)


class Template(NamedTuple):
    """The tensors of one part, one a layer in the order of layers; one tensor alone outside of the layers."""

    name: str
    """The tensor's name with N for the layer's number; the name itself outside of the layers."""
    members: tuple[str, ...]
    shape: tuple[int, ...]
    layered: bool


class _Family(NamedTuple):
    """Where a number stands in names that are otherwise equal."""

    before: str
    after: str


def templates(shapes: Mapping[str, tuple[int, ...]]) -> tuple[list[Template], list[Template]]:
    """(parts of a layer, tensors outside of the layers) of a checkpoint, from names and shapes.

    A part is a set of names that differ in one number which counts 0, 1, … L - 1 (or 1 … L), L the same for all parts,
    with the same shape; L is that under which most tensors fall into parts. No other thing is taken from a name.
    """
    families = _families(shapes)
    counted = Counter(_layers(each) for each in families.values())
    covered = {layers: _cover({key: each for key, each in families.items() if _layers(each) == layers})
               for layers in counted}  # fmt: skip
    best = max(covered, key=lambda layers: (sum(map(len, covered[layers].values())), layers), default=0)
    parts = [
        Template(
            key.before + "N" + key.after,
            tuple(each[at] for at in sorted(each)),
            shapes[next(iter(each.values()))],
            True,
        )
        for key, each in covered.get(best, {}).items()
    ]
    inside = {name for part in parts for name in part.members}
    alone = [Template(name, (name,), shape, False) for name, shape in shapes.items() if name not in inside]
    return sorted(parts), sorted(alone)


def _families(shapes: Mapping[str, tuple[int, ...]]) -> dict[_Family, dict[int, str]]:
    """Family -> number -> name, of those that count without gap, whose members have one shape."""
    found: dict[_Family, dict[int, str]] = defaultdict(dict)
    for name in shapes:
        for digits in _DIGITS.finditer(name):
            found[_Family(name[: digits.start()], name[digits.end() :])][int(digits[0])] = name
    return {key: each for key, each in found.items() if _counts(each) and _one_shape(each.values(), shapes)}


def _counts(members: Mapping[int, str]) -> bool:
    first = min(members)
    return first in (0, 1) and max(members) - first + 1 == len(members)


def _one_shape(names: Iterable[str], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return len({shapes[name] for name in names}) == 1


def _layers(members: Mapping[int, str]) -> int:
    return len(members)


def _cover(families: Mapping[_Family, dict[int, str]]) -> dict[_Family, dict[int, str]]:
    """Families that share no name, those first whose beginning, then whose end, most others share."""
    before = Counter(key.before for key in families)
    after = Counter(key.after for key in families)
    order = sorted(families, key=lambda key: (-before[key.before], -after[key.after], key))
    chosen: dict[_Family, dict[int, str]] = {}
    taken: set[str] = set()
    for key in order:
        if taken.isdisjoint(families[key].values()):
            chosen[key] = families[key]
            taken.update(families[key].values())
    return chosen
