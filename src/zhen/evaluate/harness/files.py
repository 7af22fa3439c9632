"""Files of benchmarks as people have them: CSV, JSON, JSON Lines, one file a set or one a subject.

A reader takes a task's folder and gives a `Part` a subject: items to ask, items to give as examples, files read.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from zhen.errors import ZhenError

Doc = dict[str, Any]


class Part(NamedTuple):
    """A subject of a benchmark, or the whole of one that has none."""

    name: str
    """Empty for the whole."""
    test: list[Doc]
    shots: list[Doc]
    """Examples come from these; from `test`, but for the item itself, where it is empty."""
    files: list[Path]


Reader = Callable[[Path], Iterator[Part]]


def rows_of(path: Path) -> list[Doc]:
    """The items of a `.csv`, `.json`, `.jsonl` or `.jsonl.gz`. Raises ZhenError for a damaged file, with its line."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
        if path.suffix == ".csv":
            return list(csv.DictReader(io.StringIO(text, newline="")))
        if path.suffix == ".json":
            value = json.loads(text)
            found = value.get("examples", value.get("example")) if isinstance(value, dict) else value
            if not isinstance(found, list):
                raise ZhenError("holds no list of items", expected='a list, or "examples": […]', file=path)
            return found
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ZhenError(f"cannot be read: {error}", file=path) from error
    items = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                items.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ZhenError(f"is not JSON: {error}", file=path, place=f"line {number:,}") from error
    return items


def file_of(folder: Path, *stems: str) -> Path | None:
    """The first file that is there, by the beginnings of names, in this order."""
    for stem in stems:
        for path in sorted(folder.glob(f"{stem}*")):
            if path.name.endswith((".jsonl", ".jsonl.gz", ".json", ".csv")):
                return path
    return None


def single(convert: Callable[[Doc], Doc], *stems: str) -> Reader:
    """A set of one file of items, and one of examples where there is a `train…` or `dev…`."""

    def read(folder: Path) -> Iterator[Part]:
        test = file_of(folder, *(stems or ("test", "validation", "val")))
        if test is None:
            return
        shots = file_of(folder, "train", "dev")
        files = [test] + ([shots] if shots else [])
        items = [
            [_converted(convert, row, path, number) for number, row in enumerate(rows_of(path), 1)] for path in files
        ]
        yield Part("", items[0], items[1] if shots else [], files)

    return read


def subjects(convert: Callable[[Doc], Doc], test: str, shots: str) -> Reader:
    """A folder of CSV files, a subject each: `test/law<_test>.csv`, `dev/law<_dev>.csv`."""

    def read(folder: Path) -> Iterator[Part]:
        for path in sorted((folder / test).glob("*.csv")):
            name = path.stem.removesuffix(f"_{test}")
            others = [folder / shots / f"{name}_{shots}.csv", folder / shots / f"{name}.csv"]
            beside = next((other for other in others if other.exists()), None)
            files = [path] + ([beside] if beside else [])
            items = [[_converted(convert, row, file, at) for at, row in enumerate(_headed(file), 1)] for file in files]
            yield Part(name, items[0], items[1] if beside else [], files)

    return read


def many(convert: Callable[[Doc], Doc | list[Doc]], pattern: str) -> Reader:
    """A folder of files, a subject each, without examples. `convert` may make several items of a row."""

    def read(folder: Path) -> Iterator[Part]:
        for path in sorted(folder.glob(pattern)):
            if path.name.startswith("."):
                continue
            items: list[Doc] = []
            for number, row in enumerate(rows_of(path), 1):
                made = _converted(convert, row, path, number)
                items += made if isinstance(made, list) else [made]
            yield Part(path.name.partition(".")[0], items, [], [path])

    return read


def _headed(path: Path) -> list[Doc]:
    """Rows of a CSV that may lack its head line, as the original MMLU's do."""
    rows = rows_of(path)
    if rows and not {"question", "Question"} & set(rows[0]):
        names = ["question", "A", "B", "C", "D", "answer"]
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [dict(zip(names, line, strict=False)) for line in csv.reader(file)]
    return rows


def _converted(convert: Callable[[Doc], Any], row: Doc, path: Path, number: int) -> Any:
    try:
        return convert(row)
    except (KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
        raise ZhenError(
            f"an item that can't be used: {type(error).__name__} {error}",
            expected="the fields of the published set",
            file=path,
            place=f"item {number:,}",
            hint="docs/benchmarks.md lists them",
        ) from error
