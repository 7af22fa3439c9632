"""What a benchmark is: where its files lie, how they are read, its settings in lm-evaluation-harness."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhen.errors import ZhenError
from zhen.evaluate.harness.files import Doc, Part, Reader

Config = dict[str, Any]

EN, ZH = "en", "zh"


@dataclass(frozen=True)
class Task:
    """A benchmark. `{part}` in `yaml` is the subject's name."""

    name: str
    lang: str
    folder: str
    """Below the data folder."""
    files: str
    """What must lie there, for people."""
    read: Reader
    score: str
    """The metric that is the task's score; the others are given beside it."""
    yaml: str = ""
    """The harness's settings, below its `tasks/`; empty where Zhen has its own."""
    own: Mapping[str, Any] = field(default_factory=dict)
    """Settings that replace the harness's."""
    shots: int = 0
    filter: str = "none"
    """Whose output the score is made of, where a task has several ways to extract an answer."""
    cluster: Callable[[Doc], str] | None = None
    """Items with the same value share a passage and are right or wrong together."""
    chance: Callable[[Doc], float] | None = None
    """How often guessing is right."""


_STEMS = ("text", "question", "Question", "query", "goal", "sentence", "problem", "input", "prompt", "context")
_CHOICES = re.compile(r"\n\s*\(?A\s*[).．、]| Answer Choices: | 选项：")


def stem(doc: Doc) -> str:
    """What an item asks, without its choices."""
    text = next((doc[name] for name in _STEMS if isinstance(doc.get(name), str)), "")
    return _CHOICES.split(text, maxsplit=1)[0]


class MissingFiles(ZhenError):
    """A task whose files are not there."""


def parts_of(task: Task, data: Path) -> list[Part]:
    """A task's items from the data folder. Raises MissingFiles where its files are not there."""
    folder = data / task.folder
    parts = [part for part in task.read(folder) if part.test] if folder.is_dir() else []
    if not parts:
        raise MissingFiles(
            f"the files of `{task.name}` are not there",
            expected=f"{task.files}",
            file=folder,
            hint="docs/benchmarks.md says where each set comes from; --data or ZHEN_EVAL_DATA names their folder",
        )
    return parts


def spread(parts: Sequence[Part], limit: int | None) -> list[int]:
    """How many items of each part are asked: all, or `limit` in all, spread evenly."""
    sizes = [len(part.test) for part in parts]
    if limit is None or limit >= sum(sizes):
        return sizes
    level = 0
    while sum(min(size, level + 1) for size in sizes) <= limit:
        level += 1
    counts = [min(size, level) for size in sizes]
    for at, size in enumerate(sizes):
        if sum(counts) < limit and counts[at] < size:
            counts[at] += 1
    return counts
