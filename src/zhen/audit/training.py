"""Check of what a release says about questions in its training text: counted again, in the token shards of its run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import msgspec

from zhen.audit.finding import Finding, Severity, counted, fails, holds, unchecked
from zhen.audit.folder import Folder
from zhen.errors import ZhenError
from zhen.evaluate.held_out import HELD_OUT
from zhen.evaluate.in_training import (
    PAIRS,
    QUESTIONS,
    Found,
    count_questions,
    found_rows,
    training_figures,
    training_texts,
)
from zhen.evaluate.questions import ASKED, Question, Task, groups_of, task_of
from zhen.formats.files import sha256_file
from zhen.formats.record import Record
from zhen.tokenizer.load import load_tokenizer

ITEMS = "items/training/"
"""Where the stage `evaluate` keeps what it found of each question, a file a task."""

BENCHMARKS = "benchmarks.json"
"""Where `data.scan` names the files whose questions `data` keeps out."""

SHOWN = 3
"""Items named in a finding."""

_COUNT = "the training text holds the questions as often as the record of the evaluation says"
_LEAKS = "no question that is scored is in the training text, but for those asked there on purpose"
_KEY = re.compile(r"[0-9a-f]{64}")

Row = TypeVar("Row")


class _NotHere(Exception):
    """What the count needs is not at hand: a release away from its run."""


@dataclass(frozen=True)
class _Stage:
    """A stage of the run that the release lies in."""

    name: str
    at: Path
    record: Record

    def file(self, path: str) -> Path:
        """A file that it made. Raises _NotHere where it is missing, ZhenError where it is not the recorded one."""
        if not (self.at / path).is_file():
            raise _NotHere(f"{self.name}'s {path} is not beside the release")
        if sha256_file(self.at / path).sha256 != self.record.output(path).sha256:
            raise ZhenError(f"is not the one that records/{self.name}.json names", file=f"{self.name}/{path}")
        return self.at / path


@dataclass(frozen=True)
class _Count:
    """What was recorded and what is there, task by task."""

    tasks: list[Task]
    recorded: dict[str, list[Found]]
    counted: dict[str, list[Found]]
    tokens: int

    @property
    def size(self) -> str:
        """`1,016 questions of 12 files, 1,602,054 training tokens`."""
        questions = counted(sum(len(task.questions) for task in self.tasks), "question")
        return f"{questions} of {counted(len(self.tasks), 'file')}, {self.tokens:,} training tokens"


def check_training(folder: Folder) -> Iterator[Finding]:
    """Count every question that the evaluation asked in the run's training shards, and compare.

    Without a record of questions in the training text nothing is claimed, and nothing found.
    """
    if not folder.has("records/evaluate.json"):
        return
    try:
        record = _record(folder, "evaluate")
        if not any(name.startswith((QUESTIONS, PAIRS)) for name in record.figures):
            return
        count = _count(folder, record)
        kept_out = _kept_out(folder)
    except _NotHere as reason:
        why = f"not checkable here: {reason}"
        yield unchecked("training.count", _COUNT, why, fix="audit it in the folder of its run", severity="note")
        return
    except ZhenError as error:
        yield unchecked("training.count", _COUNT, error.text(), severity="error")
        return
    yield from _as_recorded(record, count)
    yield from _leaks(count, kept_out)


def _record(folder: Folder, stage: str) -> Record:
    """The released record of a stage. Raises ZhenError, and _NotHere where there is none."""
    name = f"records/{stage}.json"
    if not folder.has(name):
        raise _NotHere(f"there is no {name}")
    try:
        return msgspec.convert(folder.object(name), Record)
    except msgspec.ValidationError as error:
        raise ZhenError(f"is not a record: {error}", file=name) from error


def _stage(folder: Folder, name: str) -> _Stage:
    record = _record(folder, name)
    if not _KEY.fullmatch(record.key):
        raise ZhenError(f"key {record.key[:80]!r}", expected="64 hexadecimal digits", file=f"records/{name}.json")
    at = folder.root.resolve().parent / f"{name}-{record.key[:8]}"
    if not at.is_dir():
        raise _NotHere(f"the stage `{name}` of its run is not beside the release")
    return _Stage(name, at, record)


def _count(folder: Folder, record: Record) -> _Count:
    """Read the questions, and count them. Raises ZhenError where something is not as recorded, and _NotHere."""
    evaluate, shards = _stage(folder, "evaluate"), _stage(folder, "shards")
    if record.after.get("shards") != shards.record.key:
        found = f"the evaluation read shards {record.after.get('shards', 'of none')[:16]}"
        raise ZhenError(found, expected=shards.record.key[:16], file="records/evaluate.json")
    tasks, recorded = [], {}
    for path in (output.path for output in evaluate.record.outputs if output.path.startswith(ITEMS)):
        name = path.removeprefix(ITEMS).removesuffix(".jsonl")
        tasks.append(task_of(name, _read(evaluate, _asked(evaluate.record, path), Question)))
        recorded[name] = _read(evaluate, path, Found)
    for output in shards.record.outputs:
        if not output.path.startswith(f"{HELD_OUT}/"):
            shards.file(output.path)
    if not folder.inside("tokenizer.model") and not folder.inside("tokenizer.json"):
        raise _NotHere("the release has no tokenizer")
    try:
        tokenizer = load_tokenizer(folder.root)
    except ZhenError as error:
        if isinstance(error.__cause__, ImportError):
            raise _NotHere(error.found) from error
        raise
    lengths: list[int] = []
    texts = training_texts(shards.at, tokenizer, lengths.append)
    all_found = iter(count_questions(texts, [question for task in tasks for question in task.questions]))
    by_task = {task.name: [next(all_found) for _ in task.questions] for task in tasks}
    return _Count(tasks, recorded, by_task, sum(lengths))


def _asked(record: Record, path: str) -> str:
    """The file of a model's answers to the task of `path`; it has the questions as they were asked."""
    name = PurePosixPath(path).name
    for output in record.outputs:
        if output.path != path and PurePosixPath(output.path).match(f"items/*/{name}"):
            return output.path
    raise ZhenError(f"names no answers to {name}", file="records/evaluate.json")


def _read(stage: _Stage, path: str, kind: type[Row]) -> list[Row]:
    try:
        return msgspec.json.Decoder(kind).decode_lines(stage.file(path).read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ZhenError(f"is not what this version writes: {error}", file=f"{stage.name}/{path}") from error


def _kept_out(folder: Folder) -> set[str]:
    """Names of the task files whose questions `data` was told to keep out."""
    if not folder.has("records/data.scan.json"):
        return set()
    scan = _stage(folder, "data.scan")
    if not any(output.path == BENCHMARKS for output in scan.record.outputs):
        return set()
    named = json.loads(scan.file(BENCHMARKS).read_bytes())
    return {PurePosixPath(each["file"]).name.partition(".jsonl")[0] for each in named}


def _as_recorded(record: Record, count: _Count) -> Iterator[Finding]:
    """Every item and every figure as recorded."""
    faults = 0
    for task in count.tasks:
        recorded = {item.id: item for item in count.recorded[task.name]}
        others = [
            f"item {found.id}: recorded: {_copies(recorded.get(found.id))}; counted: {_copies(found)}"
            for found in count.counted[task.name]
            if found != recorded.get(found.id)
        ]
        if others:
            faults += 1
            yield _fails("training.count", _COUNT, f"{task.name}.jsonl", others, "run the stage `evaluate` again")
    due = training_figures(list(found_rows(groups_of(count.tasks), count.counted)))
    named = [name for name in record.figures if name.startswith((QUESTIONS, PAIRS))]
    for name in dict.fromkeys([*due, *named]):
        values = [
            None if figure is None else (figure.value, figure.n) for figure in (record.figures.get(name), due.get(name))
        ]
        if values[0] != values[1]:
            faults += 1
            said, there = ("nothing" if value is None else f"{value[0]} of {value[1]}" for value in values)
            evidence = f"{name}: the record says {said}, counted are {there}"
            yield fails(
                "training.count",
                _COUNT,
                evidence,
                fix="write the figure that was counted",
                file="records/evaluate.json",
            )
    if not faults:
        yield holds("training.count", _COUNT, f"{count.size}; {counted(len(due), 'figure')} as recorded")


def _leaks(count: _Count, kept_out: set[str]) -> Iterator[Finding]:
    """What is scored and not asked on purpose is not there. An error where `data` was to keep it out."""
    faults = number = 0
    for task in count.tasks:
        pairs = list(zip(task.questions, count.counted[task.name], strict=True))
        unasked = [(question, found) for question, found in pairs if question.kind != ASKED]
        number += len(unasked)
        leaked = [
            f"item {found.id} ({_prompt(question)}): {_copies(found)}" for question, found in unasked if found.questions
        ]
        if leaked:
            faults += 1
            promised = task.name in kept_out
            fix = "run the recipe again" if promised else f"name {task.name}.jsonl in data.contamination.against"
            yield _fails(
                "training.leaks", _LEAKS, f"{task.name}.jsonl", leaked, fix, severity="error" if promised else "warning"
            )
    if not faults:
        yield holds("training.leaks", _LEAKS, f"{count.size}; of the {number:,} not asked on purpose none was found")


def _fails(
    check: str, claim: str, file: str, lines: Sequence[str], fix: str, *, severity: Severity = "error"
) -> Finding:
    more = f"; and {len(lines) - SHOWN:,} more" if len(lines) > SHOWN else ""
    return fails(check, claim, f"{file}: {'; '.join(lines[:SHOWN])}{more}", fix=fix, severity=severity)


def _copies(found: Found | None) -> str:
    """`2 copies, 1 with the answer, first in web/shard-00000, document 17`."""
    if found is None:
        return "none"
    copies = f"{found.questions:,} {'copy' if found.questions == 1 else 'copies'}"
    return f"{copies}, {found.pairs:,} with the answer" + (f", first in {found.first}" if found.first else "")


def _prompt(question: Question) -> str:
    text = " ".join(question.prompt.split())
    return repr(text if len(text) <= 80 else text[:77] + "…")
