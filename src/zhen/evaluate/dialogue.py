"""The task `dialogue`: the questions of the other tasks put as turns of a chat; all judged by program."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from zhen.evaluate.accuracy import DECIMALS, clustered_error
from zhen.evaluate.answers import Pool, answer_pools, pool_key
from zhen.evaluate.questions import Question, Task, groups_of, prompt_forms
from zhen.evaluate.settings import DIALOGUE
from zhen.evaluate.work import LoadedEngine, Part, Work, make_items
from zhen.formats.record import Figure
from zhen.formats.stage import Figures
from zhen.infer.requests import Completion, Request
from zhen.infer.template import load_template
from zhen.tokenizer.chat import CHATML, TURN_END

PART_QUESTIONS = 256
"""Questions in a piece: what a stop can cost. Fixed, as the shapes of batches decide the last bits of a logit."""

REPLY_TOKENS = 64
"""Tokens of a reply at most; one that is longer has not stopped."""

REPEATED, TIMES = 4, 3
"""A reply repeats itself where some sequence of so many tokens stands in it so many times."""

METRICS = ("right", "names", "stops", "language", "repeats")
BY_SET = ("right", "names")
"""What is a figure by set and language; the others are figures over all questions."""

Row = dict[str, Any]


class Reply(msgspec.Struct, frozen=True):
    """A question and what was replied."""

    task: str
    id: str
    lang: str
    kind: str
    cluster: str
    question: str
    answer: str
    reply: str
    right: bool
    """Whether it names the answer and ends: text that just goes on and comes by the answer is no reply."""
    names: bool
    """Whether the reply names the answer and none of the other answers that this relation has."""
    stops: bool
    """Whether the turn was ended, by its token or the end of the text."""
    language: bool
    """Whether the reply is in the question's language."""
    repeats: bool
    """Whether it says the same over and over."""


class Talking:
    """The questions as first turns."""

    def __init__(self, work: Work, tasks: Sequence[Task]) -> None:
        self._work, self._tasks = work, tasks
        forms, self._pools = prompt_forms(tasks), answer_pools(tasks)
        self.asked = [(task, question, _bare(question, forms)) for task in tasks for question in task.questions]
        template = load_template(work.tokenizer.folder, CHATML)
        assert template is not None
        self._template = template

    def ask(self, engines: Mapping[str, LoadedEngine]) -> tuple[dict[str, list[Reply]], list[Row], Figures]:
        """Replies by model, rows of results, figures (of the last model; the others' with `.<model>` behind)."""
        names = talkers(engines)
        replies = {name: self._make(name, engines[name]) for name in names}
        rows = [row for name in names for row in self._rows(name, replies[name])]
        return replies, rows, _figures(rows, replies, names[-1])

    def _make(self, name: str, engine: LoadedEngine) -> list[Reply]:
        parts: list[Part] = []
        for begin in range(0, len(self.asked), PART_QUESTIONS):
            end = min(begin + PART_QUESTIONS, len(self.asked))
            parts.append((f"{begin:08d}", end - begin, partial(self._replies, name, engine, begin, end)))
        return make_items(self._work, name, DIALOGUE, Reply, parts)

    def _replies(self, name: str, engine: LoadedEngine, begin: int, end: int) -> Iterable[Reply]:
        model, tokenizer = engine(), self._work.tokenizer
        # a base model's checkpoint doesn't name the end of a turn
        ends = frozenset({self._template.special.get(TURN_END, tokenizer.end_of_text), tokenizer.end_of_text})
        some = self.asked[begin:end]
        requests = [
            Request(
                # one that is too long loses its beginning, as everywhere
                prompt=self._template.encode([{"role": "user", "content": text}], tokenizer)[-model.context_length :],
                max_tokens=REPLY_TOKENS,
                stop_ids=ends,
            )
            for _, _, text in some
        ]
        made: dict[int, Completion] = {}
        for place, completion in model.completed(requests):
            made[place] = completion
            self._work.advance(1, f"{name} · {DIALOGUE}")
        for place, (task, question, text) in enumerate(some):
            said, answer = made[place].text, question.answer.strip()
            names = named(said, question.lang, self._pools[pool_key(task, question)]) == {answer}
            stops = made[place].finish == "stop"
            yield Reply(
                task=task.name,
                id=question.id,
                lang=question.lang,
                kind=question.kind,
                cluster=question.cluster,
                question=text,
                answer=answer,
                reply=said,
                right=names and stops,
                names=names,
                stops=stops,
                language=in_language(said, question.lang),
                repeats=repeats(made[place].tokens),
            )

    def _rows(self, model: str, replies: Sequence[Reply]) -> list[Row]:
        by_task: dict[str, list[Reply]] = {}
        for reply in replies:
            by_task.setdefault(reply.task, []).append(reply)
        rows = []
        for group in groups_of(self._tasks):
            given = [by_task[group.task.name][place] for place in group.places]
            head = {"model": model, "set": group.task.set, "task": group.task.name, "kind": group.kind}
            rows += [{**head, "lang": group.lang, **_score(given, metric)} for metric in METRICS]
        return rows


def talkers(models: Iterable[str]) -> list[str]:
    """The models that are asked: not the one before its first step, which says nothing, if there is any other."""
    names = list(models)
    return [name for name in names if ":" not in name] or names


def named(reply: str, lang: str, pool: Pool) -> set[str]:
    """The answers of a pool that a reply names; of one inside another (cat in a Chinese owl) the longer."""
    if lang == "zh":
        found = {answer for answer in pool if answer in reply}
    else:
        found = {answer for answer in pool if re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", reply, re.IGNORECASE)}
    return {answer for answer in found if not any(answer != other and answer in other for other in found)}


def in_language(reply: str, lang: str) -> bool:
    """Whether more than half of the letters are Han, for `zh`; not Han, for other languages."""
    letters = [char for char in reply if char.isalpha()]
    han = sum("\u3400" <= char <= "\u9fff" for char in letters)
    return bool(letters) and (2 * han > len(letters)) == (lang == "zh")


def repeats(ids: Sequence[int]) -> bool:
    """Whether some REPEATED tokens in a row stand there TIMES times or more."""
    grams = Counter(tuple(ids[at : at + REPEATED]) for at in range(len(ids) - REPEATED + 1))
    return max(grams.values(), default=0) >= TIMES


def _bare(question: Question, forms: Mapping[str, str]) -> str:
    """The question without the form that its prompt puts it in."""
    front, _, behind = forms.get(question.lang, "{}").partition("{}")
    return question.prompt.removeprefix(front).removesuffix(behind)


def _score(replies: Sequence[Reply], metric: str) -> Row:
    scores = [float(getattr(reply, metric)) for reply in replies]
    error = clustered_error(scores, [reply.cluster for reply in replies])
    score = math.fsum(scores) / len(scores)
    stderr = None if error is None else round(error, DECIMALS)
    return {"metric": metric, "score": round(score, DECIMALS), "stderr": stderr, "n": len(scores)}


def _figures(rows: Sequence[Row], replies: Mapping[str, Sequence[Reply]], last: str) -> Figures:
    """`dialogue.<set>.<lang>.right` and `.names`; `dialogue.stops`, `.language`, `.repeats` over all questions."""
    figures: Figures = {}
    for row in rows:
        if row["metric"] in BY_SET:
            model = "" if row["model"] == last else f".{row['model']}"
            name = f"{DIALOGUE}.{row['set']}.{row['lang']}.{row['metric']}{model}"
            figures[name] = Figure(row["score"], "share", row["n"], row["stderr"])
    for name, some in replies.items():
        model = "" if name == last else f".{name}"
        for metric in METRICS[len(BY_SET) :]:
            whole = _score(some, metric)
            figures[f"{DIALOGUE}.{metric}{model}"] = Figure(whole["score"], "share", whole["n"], whole["stderr"])
    return figures


def sentence(figures: Figures) -> str:
    """`in chat 92 % of … right`: of the last model, over the sets that are asked."""
    right = [
        (figure.value, figure.n or 0)
        for name, figure in figures.items()
        if name.startswith(f"{DIALOGUE}.never-asked.") and name.endswith(".right")
    ]
    n = sum(count for _, count in right)
    stops = f"ends {100 * float(figures[f'{DIALOGUE}.stops'].value or 0):.0f} % of its replies by itself"
    if not n:
        return f"in chat: {stops}"
    share = math.fsum(float(value or 0) * count for value, count in right) / n
    return f"in chat: right about {100 * share:.0f} % of {n:,} facts never asked, {stops}"
