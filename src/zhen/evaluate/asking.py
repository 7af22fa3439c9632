"""Question tasks in the stage: who is asked, what is looked up in the training text, and the results of it all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

from zhen.evaluate import accuracy
from zhen.evaluate.answers import (
    Answer,
    Encoded,
    NgramAnswers,
    answer_pools,
    commonest_answers,
    encode,
    line_ends,
    model_answers,
    most_tokens,
)
from zhen.evaluate.in_training import Found, count_questions, found_rows, training_texts
from zhen.evaluate.questions import Task, groups_of
from zhen.evaluate.work import KNESER_NEY, LoadedEngine, Part, Work, items_file, make_items
from zhen.formats.stage import Figures

MOST_FREQUENT = "most-frequent"
TRAINING = "training"
"""Stands for a model where items say what the training text holds."""

PART_QUESTIONS = 256
"""Questions in a piece: what a stop can cost. Fixed: the shapes of batches decide the last bits of a score."""

TOLD_TOKENS = 1 << 18
"""Training tokens looked through between two words about it."""

Answers = dict[str, list[Answer]]
"""Task -> answers to its questions, in their order."""

Files = dict[str, dict[str, str]]
"""Model -> task -> its file of items."""


class Asking:
    """The question tasks of a stage."""

    def __init__(self, work: Work, tasks: Sequence[Task]) -> None:
        self._work, self.tasks = work, tasks
        self.pools = answer_pools(tasks)
        self.groups = groups_of(tasks)
        self.total = sum(len(task.questions) for task in tasks)
        self._encoded: dict[str, list[Encoded]] = {}

    def ask_model(self, name: str, engine: LoadedEngine) -> Answers:
        """The answers of a model."""

        def compute(task: Task, begin: int, end: int) -> Iterable[Answer]:
            facts, encoded = f"{name} · {task.name}", self._encode(task)
            return model_answers(
                engine(),
                task.questions[begin:end],
                encoded[begin:end],
                most_tokens(encoded),
                lambda answered: self._work.advance(answered, facts),
            )

        return self._make(name, compute)

    def ask_kneser_ney(self) -> Answers:
        """The answers of the n-gram model."""

        def compute(task: Task, begin: int, end: int) -> Iterable[Answer]:
            encoded = self._encode(task)
            answers = self._ngram.answer(task.questions[begin:end], encoded[begin:end], most_tokens(encoded))
            self._work.advance(end - begin, f"{KNESER_NEY} · {task.name}")
            return answers

        return self._make(KNESER_NEY, compute)

    def ask_most_frequent(self) -> Answers:
        """The answers of the control that knows what is right most often."""

        def compute(task: Task) -> Iterator[Answer]:
            self._work.advance(len(task.questions), f"{MOST_FREQUENT} · {task.name}")
            return commonest_answers(task, self.pools)

        parts = {task.name: [("all", len(task.questions), partial(compute, task))] for task in self.tasks}
        return {name: make_items(self._work, MOST_FREQUENT, name, Answer, some) for name, some in parts.items()}

    def find_in_training(self) -> dict[str, list[Found]]:
        """Which questions the training text asks, and which it answers."""

        def compute(task: Task) -> Iterable[Found]:
            self._work.advance(len(task.questions), f"{TRAINING} text · {task.name}")
            return self._found[task.name]

        parts = {task.name: [("all", len(task.questions), partial(compute, task))] for task in self.tasks}
        return {name: make_items(self._work, TRAINING, name, Found, some) for name, some in parts.items()}

    def _make(self, model: str, compute: Callable[[Task, int, int], Iterable[Answer]]) -> Answers:
        made = {}
        for task in self.tasks:
            cuts = range(0, len(task.questions), PART_QUESTIONS)
            ends = [min(begin + PART_QUESTIONS, len(task.questions)) for begin in cuts]
            parts: list[Part] = [
                (f"{begin:08d}", end - begin, partial(compute, task, begin, end))
                for begin, end in zip(cuts, ends, strict=True)
            ]
            made[task.name] = make_items(self._work, model, task.name, Answer, parts)
        return made

    def _encode(self, task: Task) -> list[Encoded]:
        if task.name not in self._encoded:
            self._encoded[task.name] = encode(task.questions, self._work.tokenizer)
        return self._encoded[task.name]

    @cached_property
    def _ngram(self) -> NgramAnswers:
        return NgramAnswers(self._work.reference, self._work.tokenizer, line_ends(self._work.tokenizer))

    @cached_property
    def _found(self) -> dict[str, list[Found]]:
        read = told = 0

        def progress(tokens: int) -> None:
            nonlocal read, told
            read += tokens
            if read - told >= TOLD_TOKENS:
                told = read
                self._work.advance(0, f"looking for the questions in the {TRAINING} text · {read:,} tokens")

        texts = training_texts(self._work.context.after["shards"], self._work.tokenizer, progress)
        found = iter(count_questions(texts, [question for task in self.tasks for question in task.questions]))
        return {task.name: [next(found) for _ in task.questions] for task in self.tasks}


def ask(asking: Asking, engines: dict[str, LoadedEngine]) -> tuple[Files, dict[str, Any], Figures, str]:
    """Ask every model and control; files of items, more for `results.json`, figures, a sentence for the console."""
    answers = {KNESER_NEY: asking.ask_kneser_ney(), MOST_FREQUENT: asking.ask_most_frequent()}
    answers |= {name: asking.ask_model(name, engine) for name, engine in engines.items()}
    groups, pools, last = asking.groups, asking.pools, list(engines)[-1]
    order = (*engines, KNESER_NEY, MOST_FREQUENT)
    rows = [row for name in order for row in accuracy.answer_rows(name, groups, answers[name], pools)]
    rows += accuracy.chance_rows(groups, pools)
    found = list(found_rows(groups, asking.find_in_training()))
    files = {name: {task.name: items_file(name, task.name) for task in asking.tasks} for name in (*order, TRAINING)}
    results = {"questions": rows, "questions-in-training": found}
    return files, results, accuracy.figures_of(rows, found, last), accuracy.sentence(rows, last)
