"""The plan of units: which files, or parts of files, are gone through together. A pure function of the sources."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from msgspec import Struct

from zhen.data.read import Window
from zhen.data.sources import SourceFile, file_format

UNIT_BYTES = 128_000_000
"""Input bytes of a unit, about. Less where the whole input is small, so that several processes have work."""

LEAST_BYTES = 2_000_000
_LEAST_UNITS = 32


class Part(Struct, frozen=True):
    """A file in a unit, or the lines of it that begin in `window`. `source` counts the sources of the recipe."""

    source: int
    path: str
    location: str
    bytes: int
    window: Window | None = None


class Unit(Struct, frozen=True):
    """What one worker goes through in one go."""

    index: int
    parts: list[Part]

    @property
    def name(self) -> str:
        """The stem of its files."""
        return f"unit-{self.index:05d}"


def plan_units(sources: Sequence[Sequence[SourceFile]]) -> list[Unit]:
    """The units of all sources, in order. Files are grouped up to a unit's size within their source; a large file
    is a unit, but for plain JSON lines, which are cut."""
    total = sum(file.bytes or 0 for files in sources for file in files)
    size = min(UNIT_BYTES, max(LEAST_BYTES, total // _LEAST_UNITS))
    groups: list[list[Part]] = []
    for source, files in enumerate(sources):
        open_group: list[Part] = []
        for file in files:
            for part in _parts(source, file, size):
                if open_group and sum(each.bytes for each in open_group) + part.bytes > size:
                    groups.append(open_group)
                    open_group = []
                open_group.append(part)
        groups.append(open_group)
    return [Unit(index, parts) for index, parts in enumerate(group for group in groups if group)]


def _parts(source: int, file: SourceFile, size: int) -> list[Part]:
    length = file.bytes or 0
    if file.remote or length <= size or file_format(file.path) != ("jsonl", None):
        return [Part(source, file.path, file.location, length)]
    bounds = [*range(0, length - size // 2, size), length]
    return [Part(source, file.path, file.location, end - begin, Window(begin, end)) for begin, end in pairwise(bounds)]


def plan_table(units: Sequence[Unit], names: Sequence[str], others: Sequence[dict[str, int]]) -> dict[str, Any]:
    """The plan as it is written to units.json: paths below their sources, nothing of this machine."""
    return {
        "units": [
            {
                "unit": unit.name,
                "files": [
                    {"source": names[part.source], "path": part.path, "bytes": part.bytes}
                    | ({"begin": part.window.begin, "end": part.window.end} if part.window else {})
                    for part in unit.parts
                ],
            }
            for unit in units
        ],
        "other_files": {name: found for name, found in zip(names, others, strict=True) if found},
    }
