"""Questions with one right answer, read from JSONL: the sample web's own, or anyone's files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from zhen.errors import ZhenError
from zhen.evaluate.settings import SAMPLEWEB, TASKS, question_files
from zhen.formats.record import Figure
from zhen.formats.stage import Figures

UNDETERMINED = "und"

ASKED = "A"
"""The kind of the items that the training text asks on purpose."""

_LABEL = re.compile(r"[^:：\n]{1,20}[:：] ?")
"""What stands in front of a question."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a task's file; `prompt`, and `answer` or `choices` with `gold`, are all it needs."""

    prompt: str
    """Ends without white space: a blank there can't be continued by pieces that begin with one."""
    answer: str = ""
    """As it goes on behind the prompt, in English with a blank in front; `choices[gold]` if left out."""
    choices: list[str] = []
    """Candidates, the answer among them; without them there is no score of choices."""
    gold: int | None = None
    """The answer's place among the choices; found by the answer if left out."""
    id: str = ""
    """Names the item within its file; the line's number if left out."""
    lang: str = UNDETERMINED
    kind: str = ""
    """Rows of results are made a kind; the set's name if left out."""
    relation: str = ""
    """What is asked for: the answers of one relation and language are what can be guessed from."""
    cluster: str = ""
    """Items about the same thing are not independent; the item's id if left out."""


@dataclass(frozen=True)
class Task:
    """The questions of one file."""

    name: str
    """The file's name without its ending: what its files of items are called."""
    set: str
    """`name` without the language at its end."""
    questions: list[Question]


@dataclass(frozen=True)
class Group:
    """The questions of a task that share kind and language; places among the task's."""

    task: Task
    kind: str
    lang: str
    places: list[int]


def groups_of(tasks: Sequence[Task]) -> list[Group]:
    """Every task's groups, in the order of their first questions."""
    groups: list[Group] = []
    for task in tasks:
        places: dict[tuple[str, str], list[int]] = {}
        for place, question in enumerate(task.questions):
            places.setdefault((question.kind, question.lang), []).append(place)
        groups += [Group(task, kind, lang, some) for (kind, lang), some in places.items()]
    return groups


def task_files(tasks: Sequence[str], sampleweb: Path | None) -> dict[str, Path]:
    """Name -> file of the question tasks among `tasks`: those of the sample web by name, then the recipe's own files.

    Raises ZhenError where there is no sample web, a file is missing, or two have the same name.
    """
    paths: list[Path] = []
    if SAMPLEWEB in tasks:
        if sampleweb is None:
            raise ZhenError(f'the task "{SAMPLEWEB}" without a sample web', expected="a section [sampleweb]")
        paths += sorted(sampleweb.glob("*/*.jsonl"))
    paths += [Path(os.path.expanduser(name)) for name in question_files(tasks)]
    files: dict[str, Path] = {}
    for path in paths:
        name = path.name.removesuffix(".jsonl")
        if name in TASKS or name in files:
            other = files.get(name, f'the task "{name}"')
            raise ZhenError(f"has the same name as {other}", file=path, hint="give the file another name")
        if not path.is_file():
            raise ZhenError("no such file of questions", file=path, hint="evaluate.tasks names it")
        files[name] = path
    return files


def read_tasks(files: Mapping[str, Path]) -> list[Task]:
    """The tasks of `files`, in their order. Raises ZhenError with file and line for what is no question."""
    return [task_of(name, read_questions(path, name)) for name, path in files.items()]


def task_of(name: str, questions: Sequence[Question]) -> Task:
    """The task of that name; questions that have no kind get the set's name."""
    langs = {question.lang for question in questions}
    base = name.removesuffix(f".{next(iter(langs))}" if len(langs) == 1 else "")
    named = [question if question.kind else msgspec.structs.replace(question, kind=base) for question in questions]
    return Task(name, base, named)


def read_questions(path: Path, name: str) -> list[Question]:
    """The questions of a JSONL file, complete; empty lines are passed over."""
    questions: list[Question] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            question = _complete(msgspec.json.decode(line, type=Question), str(number))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ZhenError(f"is no question: {error}", file=path, place=place) from error
        except _Wrong as error:
            raise ZhenError(error.found, expected=error.expected, file=path, place=place) from error
        if question.id in seen:
            raise ZhenError(f'id "{question.id}" again (line {seen[question.id]})', file=path, place=place)
        seen[question.id] = number
        questions.append(question)
    if not questions:
        raise ZhenError(f'no question in the task "{name}"', file=path)
    return questions


class _Wrong(Exception):
    """What is wrong with a question, without its place."""

    def __init__(self, found: str, expected: str) -> None:
        self.found, self.expected = found, expected
        super().__init__(found)


def _complete(question: Question, number: str) -> Question:
    """The question with everything that may be left out. Raises _Wrong."""
    if not question.prompt.strip():
        raise _Wrong("an empty prompt", "a prompt to go on from")
    if question.prompt != question.prompt.rstrip():
        raise _Wrong(
            f"the prompt ends in white space: {question.prompt[-20:]!r}",
            "none there; put it in front of the answer and the choices",
        )
    answer, gold = _answer(question)
    if not answer.strip() or "\n" in answer.strip():
        raise _Wrong(f"the answer {answer!r}", "one line of text")
    name = question.id or number
    return msgspec.structs.replace(
        question, id=name, cluster=question.cluster or name, answer=answer, gold=gold if question.choices else None
    )


def _answer(question: Question) -> tuple[str, int | None]:
    """Answer and gold, each from the other where it is left out."""
    choices, gold, answer = question.choices, question.gold, question.answer
    if not choices:
        return answer, None
    if len(choices) < 2 or len(set(choices)) < len(choices) or not all(choice.strip() for choice in choices):
        raise _Wrong(f"choices {choices!r}", "two or more, all different, none empty")
    if gold is None:
        if answer not in choices:
            raise _Wrong(f"the answer {answer!r} is none of the choices {choices!r}", "the answer among them, or gold")
        return answer, choices.index(answer)
    if not 0 <= gold < len(choices):
        raise _Wrong(f"gold {gold}", f"0 to {len(choices) - 1}, a place among the choices")
    if answer and answer != choices[gold]:
        raise _Wrong(f"gold {gold} is the choice {choices[gold]!r}", f"the answer, {answer!r}")
    return choices[gold], gold


def prompt_forms(tasks: Sequence[Task]) -> dict[str, str]:
    """Language -> how its questions are put, `{}` for the question: what all its prompts begin with, up to a colon, and
    end with, from a line's end on. Languages whose prompts have neither in common are left out."""
    prompts: dict[str, list[str]] = {}
    for task in tasks:
        for question in task.questions:
            prompts.setdefault(question.lang, []).append(question.prompt)
    forms = {}
    for lang, some in sorted(prompts.items()):
        front = _LABEL.match(_common(some))
        behind = _common([prompt[::-1] for prompt in some])[::-1]
        label, line, rest = front[0] if front else "", *behind.partition("\n")[1:]
        if (label or line) and len(set(some)) > 1:
            forms[lang] = f"{label}{{}}{line}{rest}"
    return forms


def form_figures(tasks: Sequence[Task]) -> Figures:
    """The forms as figures, JSON strings on one line: what chats with the model put questions in."""
    forms = {lang: json.dumps(form, ensure_ascii=False) for lang, form in prompt_forms(tasks).items()}
    # cards show figures in tables
    return {
        f"prompt_form.{lang}": Figure(form.replace("|", "\\u007c").replace("<", "\\u003c"), "a JSON string")
        for lang, form in forms.items()
    }


def _common(texts: Sequence[str]) -> str:
    """What all texts begin with."""
    low, high = min(texts), max(texts)
    return low[: next((at for at, (one, other) in enumerate(zip(low, high, strict=False)) if one != other), len(low))]
