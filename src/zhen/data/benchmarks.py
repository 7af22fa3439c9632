"""Benchmark files: what questions they ask and how they answer them, whatever the layout."""

from __future__ import annotations

import csv
import glob
import gzip
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from msgspec import Struct

from zhen.data.settings import SAMPLEWEB
from zhen.data.sources import expand
from zhen.errors import ZhenError
from zhen.formats.files import sha256_file
from zhen.formats.ngrams import without_labels
from zhen.formats.record import Input

PLACE = "data.contamination.against"
KNOWN = (".jsonl", ".json", ".csv", ".tsv", ".parquet")

QUESTIONS = (
    *("prompt", "query", "question", "problem", "input", "instruction", "goal", "sentence", "premise", "passage"),
    *("context", "text", "content"),
)
"""Keys that hold what is asked; the first that is there counts."""
ANSWERS = (
    *("answer", "target", "correct_answer", "solution", "canonical_solution", "output", "completion", "response"),
    *("best answer", "answers", "answers_text", "code", "gold", "label"),
)
"""Keys that hold the answer, or which of the choices it is."""
NAMES = ("id", "task_id", "query_id", "ind", "idx", "index")
_CHOICE = re.compile(r"(?:choice|option|ending|sol|answer|opa)[_ ]?[0-9a-e]|[a-e]")


class File(Struct, frozen=True):
    """A benchmark file: its name in reports and keys, and where it is."""

    name: str
    location: str


class Item(Struct, frozen=True):
    """One question of a benchmark."""

    file: str
    name: str
    question: str
    answer: str


def files(against: Sequence[str], tasks: Path | None) -> list[File]:
    """The benchmark files, in the order of the recipe and of their names. `tasks`: the built-in web's `tasks` folder.

    Raises ZhenError for what is missing or holds nothing that is read.
    """
    found: dict[str, File] = {}
    for path in against:
        at = expand(path, "contamination")
        if at.split("/")[0] == SAMPLEWEB:
            if tasks is None:
                raise ZhenError(
                    f"{path!r} is of the built-in web, which this recipe does not make",
                    place=PLACE,
                    hint="add a section [sampleweb], or leave it out",
                )
            inside = Path(at).parts[1:]
            at = str(tasks.joinpath(*inside[1:])) if inside[:1] == ("tasks",) else at
        for file in _below(at, path):
            found.setdefault(file.location, file)
    return list(found.values())


def _below(at: str, path: str) -> list[File]:
    at = os.path.expanduser(at)
    if os.path.isdir(at):
        paths = [os.path.join(folder, name) for folder, _, names in os.walk(at) for name in names]
    else:
        paths = [at] if os.path.isfile(at) else [each for each in glob.glob(at, recursive=True) if os.path.isfile(each)]
    if not paths:
        raise ZhenError("there is nothing here", file=at, place=PLACE, hint="check the path")
    known = sorted(each for each in paths if _format(each))
    if not known:
        raise ZhenError(
            f"no file that can be read as a benchmark ({len(paths):,} others)",
            expected=" ".join(KNOWN) + ", each also with .gz or .zst",
            file=at,
            place=PLACE,
        )
    base = at if os.path.isdir(at) else os.path.dirname(at)
    top = path.rstrip("/") if os.path.isdir(at) else os.path.dirname(path)
    if glob.has_magic(base):
        base = top = os.path.commonpath([os.path.dirname(each) for each in known])
    name = os.path.basename(top) or "."
    return [File(os.path.normpath(f"{name}/{os.path.relpath(each, base)}"), os.path.abspath(each)) for each in known]


def _format(path: str) -> str | None:
    stem = path.lower().removesuffix(".gz").removesuffix(".zst")
    return next((suffix for suffix in KNOWN if stem.endswith(suffix)), None)


def inputs(against: Sequence[str]) -> list[Input]:
    """The benchmark files from outside, for the key of data.scan."""
    outside = [path for path in against if path.split("/")[0] != SAMPLEWEB]
    found = [(file, sha256_file(Path(file.location))) for file in files(outside, None)]
    return [Input(f"benchmarks/{file.name}", digest.bytes, digest.sha256, None) for file, digest in found]


def items(file: File, columns: Sequence[str]) -> list[Item]:
    """The items of a file. `columns`: the keys that hold the text, in order; none: the keys of QUESTIONS and ANSWERS.

    Raises ZhenError for a damaged file: a benchmark that is not read would clear documents that leak it.
    """
    found = []
    try:
        for number, row in enumerate(_rows(file)):
            keys = {str(key).strip().lower(): value for key, value in row.items()}
            name = next((str(keys[key]) for key in NAMES if isinstance(keys.get(key), str | int)), str(number))
            question, answer = _texts(keys, columns)
            if question.strip():
                found.append(Item(file.name, name, question, answer))
    except (OSError, EOFError, ValueError, csv.Error, pa.ArrowException, zstandard.ZstdError) as error:
        raise ZhenError(f"cannot be read as a benchmark: {error}", file=file.location, place=PLACE) from error
    return found


def _rows(file: File) -> Iterator[Mapping[str, Any]]:
    kind = _format(file.location)
    if kind == ".parquet":
        yield from pq.read_table(file.location).to_pylist()
        return
    text = _read(file.location)
    if kind == ".jsonl":
        values = (json.loads(line) for line in text.split("\n") if line.strip())
        yield from (value for value in values if isinstance(value, dict))
    elif kind == ".json":
        yield from _objects(json.loads(text))
    else:
        yield from csv.DictReader(io.StringIO(text), delimiter="\t" if kind == ".tsv" else ",")


def _read(path: str) -> str:
    data = Path(path).read_bytes()
    if path.lower().endswith(".gz"):
        data = gzip.decompress(data)
    elif path.lower().endswith(".zst"):
        data = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(data)
    return data.decode("utf-8-sig")


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    """The objects of the longest list in a JSON file, or the file's one object."""
    if isinstance(value, list):
        yield from (each for each in value if isinstance(each, dict))
    elif isinstance(value, dict):
        lists = [each for each in value.values() if isinstance(each, list) and each and isinstance(each[0], dict)]
        tables = [each for each in value.values() if isinstance(each, dict)]
        yield from max(lists, key=len) if lists else tables if len(tables) == len(value) else [value]


def _texts(keys: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, str]:
    if columns:
        parts = [_words(keys.get(name.lower())) for name in columns]
        return parts[0], " ".join(part for part in parts[1:] if part)
    question = next((keys[name] for name in QUESTIONS if isinstance(keys.get(name), str) and keys[name].strip()), None)
    if question is None:
        question = max((value for value in keys.values() if isinstance(value, str)), key=len, default="")
    return without_labels(question), _answer(keys)


def _words(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(_words(each) for each in value)
    return "" if value is None or isinstance(value, dict) else str(value)


def _answer(keys: Mapping[str, Any]) -> str:
    """The answer in words; where it is a number or a letter, the choice that it stands for."""
    given = next((keys[name] for name in ANSWERS if keys.get(name) not in (None, "", [])), None)
    listed = next((keys[name] for name in ("choices", "options", "endings") if isinstance(keys.get(name), list)), None)
    choices = listed or [keys[name] for name in sorted(keys) if _CHOICE.fullmatch(name)]
    text = _words(given).strip()
    if not choices:
        return text
    if re.fullmatch(r"\(?[A-Ea-e]\)?\.?", text):
        place = ord(text.strip("().").lower()) - ord("a")
    elif re.fullmatch(r"[0-9]{1,2}", text):
        place = int(text)
    else:
        return text
    return _words(choices[place]) if place < len(choices) else ""
