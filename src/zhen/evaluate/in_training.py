"""Which questions the training text asks, and which it answers: their n-grams, counted in the decoded shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from zhen.evaluate.held_out import HELD_OUT
from zhen.evaluate.questions import ASKED, Group, Question
from zhen.formats.ngrams import LEAST, SIZE, Table, Tokens, contains, runs, tokens, without_labels, words
from zhen.formats.record import RECORD, Figure, read_record
from zhen.formats.shard import open_shards
from zhen.formats.stage import Figures
from zhen.tokenizer.load import Tokenizer

QUESTIONS = "questions_in_training"
PAIRS = "pairs_in_training"

PIECE = 1 << 22
"""Characters of text searched at a time."""

Row = dict[str, Any]


class Found(msgspec.Struct, frozen=True):
    """What the training text holds of a question."""

    id: str
    questions: int
    """How often it is asked."""
    pairs: int
    """How often its right answer stands close behind it."""
    first: str | None = None
    """Where the first of these pairs stands, or the question where there is no pair."""


def count_questions(documents: Iterable[tuple[str, str]], questions: Sequence[Question]) -> list[Found]:
    """How often each of `questions` is asked in `documents` (where, text), and answered at most SIZE words behind.

    Texts are compared as n-grams of words (formats.ngrams), a question in one n-gram of all its words, within a
    document. Labels around it are left out, but for a question so short that it is said by chance.
    """
    index = _Index(questions)
    asked, answered = [0] * len(questions), [0] * len(questions)
    first: dict[int, str] = {}
    first_pair: dict[int, str] = {}
    for places, texts in _pieces(documents):
        found = tokens(texts)
        for number, text, end in index.find(found):
            asked[number] += 1
            first.setdefault(number, places[text])
            if index.answered(number, found, text, end):
                answered[number] += 1
                first_pair.setdefault(number, places[text])
    return [
        Found(question.id, asked[number], answered[number], first_pair.get(number, first.get(number)))
        for number, question in enumerate(questions)
    ]


def training_texts(shards: Path, tokenizer: Tokenizer, progress: Callable[[int], None]) -> Iterator[tuple[str, str]]:
    """Where (`web/shard-00000, document 17`, from 1 on) and text of every training document; `progress` is told the
    tokens of each."""
    for folder in sorted(path for path in shards.iterdir() if path.is_dir() and path.name != HELD_OUT):
        for shard in open_shards(folder, tokenizer.sha256):
            for number, (ids, _) in enumerate(shard.documents(), start=1):
                yield f"{folder.name}/{shard.path.stem}, document {number}", tokenizer.decode(ids.tolist())
                progress(ids.size)


def training_tokens(shards: Path) -> int:
    """How many tokens `training_texts` decodes, by the shards' headers."""
    folders = (path for path in shards.iterdir() if path.is_dir() and path.name != HELD_OUT)
    return sum(shard.header.tokens for folder in folders for shard in open_shards(folder, None))


def shards_of(checkpoint: Path) -> Path | None:
    """The shards that a run's checkpoint was trained from, by the records of the stages that led to it; None where
    that is not known: no run's, or its shards are gone."""
    place = checkpoint.resolve()
    waiting = [folder for folder in (place, place.parent) if (folder / RECORD).is_file()]
    while waiting:
        folder = waiting.pop()
        if folder.name.startswith("shards-"):
            return folder
        record = read_record(folder)
        if record is not None:
            others = [folder.parent / f"{name}-{key[:8]}" for name, key in record.after.items()]
            waiting += [other for other in others if (other / RECORD).is_file()]
    return None


def found_rows(groups: Sequence[Group], found: Mapping[str, Sequence[Found]]) -> Iterator[Row]:
    """Rows of how many questions the training text asks, and answers."""
    for group in groups:
        own = [found[group.task.name][place] for place in group.places]
        yield {
            "set": group.task.set,
            "task": group.task.name,
            "kind": group.kind,
            "lang": group.lang,
            "n": len(own),
            "questions": sum(item.questions > 0 for item in own),
            "pairs": sum(item.pairs > 0 for item in own),
        }


def training_figures(rows: Sequence[Row]) -> Figures:
    """`questions_in_training.<set>.<lang>` and `pairs_in_training.<set>.<lang>`, and both without a set: of all
    questions but those that are asked on purpose."""
    unasked = [row for row in rows if row["kind"] != ASKED]
    figures: Figures = {}
    for name, column in ((QUESTIONS, "questions"), (PAIRS, "pairs")):
        for row in rows:
            figures[f"{name}.{row_name(row, rows)}.{row['lang']}"] = Figure(row[column], "questions", row["n"])
        figures[name] = Figure(sum(row[column] for row in unasked), "questions", sum(row["n"] for row in unasked))
    return figures


def row_name(row: Row, rows: Sequence[Row]) -> str:
    """A row's set, with its kind behind where the set has several in that language."""
    kinds = {other["kind"] for other in rows if (other["set"], other["lang"]) == (row["set"], row["lang"])}
    return str(row["set"]) if len(kinds) == 1 else f"{row['set']}.{row['kind']}"


class _Index:
    """Questions as n-grams, each found by its rarest run of SIZE words, or by all of them where it has no more."""

    def __init__(self, questions: Sequence[Question]) -> None:
        bare = [without_labels(question.prompt) for question in questions]
        short = words(tokens(bare)) < LEAST
        asked = tokens([q.prompt if few else text for q, text, few in zip(questions, bare, short, strict=True)])
        answers = tokens([question.answer for question in questions])
        self._asked = [asked.of(number) for number in range(len(questions))]
        self._answers = [answers.of(number).tolist() for number in range(len(questions))]
        self._tables = list(self._make_tables(asked))

    def _make_tables(self, asked: Tokens) -> Iterator[tuple[int, Table]]:
        """(words, the runs of so many words, each with its question and its place there)."""
        widths = np.minimum(np.diff(asked.bounds), SIZE)
        for width in sorted({int(width) for width in widths} - {0}):
            hashes, whole = runs(asked, width)
            own = [
                (
                    number,
                    int(asked.bounds[number]) + np.flatnonzero(whole[asked.bounds[number] : asked.bounds[number + 1]]),
                )
                for number in np.flatnonzero(widths == width).tolist()
            ]
            unique, counts = np.unique(hashes[np.concatenate([at for _, at in own])], return_counts=True)
            chosen = [(number, int(at[np.argmin(counts[np.searchsorted(unique, hashes[at])])])) for number, at in own]
            values = np.array([(number, at - asked.bounds[number]) for number, at in chosen], dtype=np.int64)
            yield width, Table(hashes[[at for _, at in chosen]], values)

    def find(self, found: Tokens) -> Iterator[tuple[int, int, int]]:
        """(question, text, where it ends among the tokens) of each copy; of one question in the order of the texts."""
        for width, table in self._tables:
            places, values = table.find(*runs(found, width))
            texts = np.searchsorted(found.bounds, places, side="right") - 1
            for place, text, (number, offset) in zip(places.tolist(), texts.tolist(), values.tolist(), strict=True):
                asked = self._asked[number]
                begin, end = place - offset, place - offset + asked.size
                inside = found.bounds[text] <= begin and end <= found.bounds[text + 1]
                if inside and np.array_equal(found.hashes[begin:end], asked):
                    yield number, text, end

    def answered(self, number: int, found: Tokens, text: int, end: int) -> bool:
        """Whether the answer stands at most SIZE words behind the question that ends there, in the same text."""
        answer = self._answers[number]
        behind = found.hashes[end : min(int(found.bounds[text + 1]), end + SIZE + len(answer))].tolist()
        return bool(answer) and contains(behind, answer)


def _pieces(documents: Iterable[tuple[str, str]]) -> Iterator[tuple[list[str], list[str]]]:
    """Places and texts, PIECE characters and more at a time."""
    places: list[str] = []
    texts: list[str] = []
    size = 0
    for place, text in documents:
        places.append(place)
        texts.append(text)
        size += len(text)
        if size >= PIECE:
            yield places, texts
            places, texts, size = [], [], 0
    if texts:
        yield places, texts
