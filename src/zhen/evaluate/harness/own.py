"""Tasks by name: benchmarks, suites of them, and files of one's own that change a benchmark's settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from lm_eval.tasks._yaml_loader import load_yaml

from zhen.errors import ZhenError
from zhen.evaluate.harness.task import Task
from zhen.evaluate.harness.tasks import TASKS, task_named
from zhen.evaluate.settings import LONG_CONTEXT

SUITES = "suites.json"


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task of a suite."""

    task: str
    shots: int
    column: str
    """Tasks of one column are averaged into one number."""


class Suite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table that others publish, as tasks and shots."""

    about: str
    tasks: list[Entry]
    missing: list[str] = []
    """What the published table has and Zhen doesn't."""


def suites() -> dict[str, Suite]:
    """The suites by name."""
    return msgspec.json.decode((Path(__file__).parent / SUITES).read_bytes(), type=dict[str, Suite])


def expand(names: Sequence[str]) -> list[str]:
    """Tasks of `names`, suites taken apart: `task` or `task@shots` each.

    Raises ZhenError for an unknown task, and for one named twice.
    """
    known = suites()
    found: list[str] = []
    for name in names:
        found += [f"{entry.task}@{entry.shots}" for entry in known[name].tasks] if name in known else [name]
    for name in found:
        if name not in LONG_CONTEXT:
            task_of(name)
    bare = [name.partition("@")[0] for name in found]
    if len(set(bare)) < len(bare):
        raise ZhenError(f"tasks {', '.join(found)}", expected="each task once")
    return found


def task_of(name: str) -> Task:
    """The task `mmlu`, `mmlu@0` (with so many shots), or `./mine.yaml`. Raises ZhenError for what is none."""
    if name.endswith((".yaml", ".yml")):
        return _own(Path(name))
    bare, at, shots = name.partition("@")
    task = task_named(bare)
    if not at:
        return task
    if not shots.isdecimal():
        raise ZhenError(f'task "{name}"', expected=f"a number of shots behind the @, as in {bare}@5")
    return dataclasses.replace(task, shots=int(shots))


def _own(path: Path) -> Task:
    """A benchmark with other settings: `base: mmlu`, and any field of the harness's task settings."""
    if not path.is_file():
        raise ZhenError("no such file", expected="the settings of a task", file=path)
    try:
        settings: dict[str, Any] = load_yaml(path)
    # a YAML file of people's own may be wrong in every way
    except Exception as error:
        raise ZhenError(f"cannot be read: {str(error).splitlines()[0]}", file=path) from error
    base = settings.pop("base", None)
    if not isinstance(base, str) or base not in TASKS:
        raise ZhenError(f"base: {base}", expected="one of " + ", ".join(TASKS), file=path)
    task = TASKS[base]
    return dataclasses.replace(
        task,
        name=str(settings.pop("task", path.stem)),
        shots=int(settings.pop("num_fewshot", task.shots)),
        score=str(settings.pop("score", task.score)),
        filter=str(settings.pop("filter", task.filter)),
        own={**task.own, **settings},
    )
