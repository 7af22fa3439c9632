"""The points of an ablation: a recipe each, checked before anything runs."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from zhen.errors import ManyErrors, ZhenError
from zhen.recipe import Recipe, load_recipe
from zhen.sections import AblateSettings, MixtureSettings

Shares = Mapping[str, float]


@dataclass(frozen=True)
class Point:
    """One of the runs that are compared: its recipe for every seed."""

    name: str
    set: Mapping[str, Any]
    """What it changes: dotted key -> value."""
    recipes: Mapping[int, Recipe]

    @property
    def shares(self) -> Shares:
        """The mixture that it is trained on; empty where the recipe gives none."""
        pretrain = next(iter(self.recipes.values())).pretrain
        return dict((pretrain.mixture if pretrain else None) or {})


class Source:
    """A recipe file with what the command line changes in it: points are made of it."""

    def __init__(self, path: Path, sets: Sequence[str], data: Sequence[str]) -> None:
        """Raises ZhenError for a recipe without [ablate] or [pretrain], ManyErrors for its mistakes."""
        self._path, self._sets, self._data = path, list(sets), list(data)
        self.recipe = load_recipe(path, sets, data)
        if self.recipe.ablate is None or self.recipe.pretrain is None:
            raise ZhenError(
                "nothing to compare", expected="the sections [ablate] and [pretrain]", file=path, hint="docs/ablate.md"
            )
        self.settings: AblateSettings = self.recipe.ablate

    def points(self) -> list[Point]:
        """All points, in the order of the recipe. Raises ZhenError naming the first that is no recipe."""
        if self.settings.mixture is not None:
            proxies = self._proxies(self.settings.mixture)
            return [self.mixed(f"mix-{number:02d}", shares, one=True) for number, shares in enumerate(proxies, 1)]
        named = [(point.name, point.set) for point in self.settings.points] or list(_combinations(self.settings.grid))
        for name, count in Counter(name for name, _ in named).items():
            if count > 1:
                found = f'{count} points called "{name}"'
                raise ZhenError(found, expected="other values for each", file=self._path, place="ablate.grid")
        return [self.point(name, changes) for name, changes in named]

    def mixed(self, name: str, shares: Shares, one: bool = False) -> Point:
        """A point with this mixture; `one`: for the first seed only."""
        rounded = {source: round(share, 4) for source, share in shares.items()}
        last = next(reversed(rounded))
        rounded[last] = round(1 - sum(share for source, share in rounded.items() if source != last), 4)
        return self.point(name, {"pretrain.mixture": rounded}, self.settings.seeds[:1] if one else None)

    def point(self, name: str, changes: Mapping[str, Any], seeds: Sequence[int] | None = None) -> Point:
        """The point that changes this in the recipe."""
        recipes = {seed: self._changed(name, changes, seed) for seed in (seeds or self.settings.seeds)}
        return Point(name, changes, recipes)

    def _changed(self, name: str, changes: Mapping[str, Any], seed: int) -> Recipe:
        sets = [f"{key}={toml(value)}" for key, value in {**changes, "pretrain.seed": seed}.items()]
        try:
            recipe = load_recipe(self._path, [*self._sets, *sets], self._data)
        except ManyErrors as many:
            raise ManyErrors([self._at_point(name, each) for each in many.errors]) from many
        except ZhenError as error:
            raise self._at_point(name, error) from error
        return msgspec.structs.replace(recipe, ablate=None, tune=None, quantize=None)

    def _at_point(self, name: str, error: ZhenError) -> ZhenError:
        """The mistake that a point makes of the recipe, at its place."""
        place = f'point "{name}"'
        return ZhenError(error.found, expected=error.expected, file=self._path, place=place, hint=error.hint)

    def _proxies(self, settings: MixtureSettings) -> list[Shares]:
        names = [source.name for source in self.recipe.data.sources] if self.recipe.data else []
        if len(names) < 2 or settings.least * len(names) >= 1:
            raise ZhenError(
                f"{len(names)} sources, each with a share of at least {settings.least:g}",
                expected="two sources or more, and room between them",
                place="ablate.mixture",
                file=self._path,
            )
        if settings.proxies < len(names) + 2:
            found, least = f"{settings.proxies} for {len(names)} sources", f"at least {len(names) + 2}"
            raise ZhenError(found, expected=least, place="ablate.mixture.proxies", file=self._path)
        return [dict(zip(names, row, strict=True)) for row in spread(len(names), settings.proxies, settings.least)]


def spread(sources: int, count: int, least: float) -> list[list[float]]:
    """`count` mixtures spread evenly over those whose shares are all `least` or more. Each sums to 1.

    A Kronecker sequence in the unit cube (Roberts 2018, "The unreasonable effectiveness of quasirandom sequences"),
    mapped to the simplex by its sorted coordinates, which keeps volumes.
    """
    dimensions = sources - 1
    root = 2.0
    for _ in range(60):  # the generalised golden ratio: x^(d+1) = x + 1
        root = (1 + root) ** (1 / (dimensions + 1))
    steps = root ** -np.arange(1, dimensions + 1)
    cube = np.sort((0.5 + np.outer(np.arange(1, count + 1), steps)) % 1, axis=1)
    edges = np.hstack([np.zeros((count, 1)), cube, np.ones((count, 1))])
    shares = least + (1 - sources * least) * np.diff(edges, axis=1)
    return [[float(share) for share in row] for row in shares]


def _combinations(grid: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every combination of the grid's values, named after them."""
    keys = list(grid)
    for values in itertools.product(*grid.values()):
        words = [f"{key.rpartition('.')[2]}={value}" for key, value in zip(keys, values, strict=True)]
        yield ",".join(words).replace("/", "_"), dict(zip(keys, values, strict=True))


def toml(value: Any) -> str:
    """A value as TOML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else repr(value)
