"""How questions are answered: by a model, by the Kneser-Ney model, and by the commonest answer of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import numpy as np

from zhen.evaluate.kneser_ney import KneserNey
from zhen.evaluate.questions import Question, Task
from zhen.infer.engine import Engine
from zhen.infer.requests import Request
from zhen.tokenizer.load import Tokenizer

LOGPROB_DECIMALS = 6
"""Of a choice's log-probability; the choice is made by the rounded values, so that anyone can make it again."""

LINE_END = "\n"
"""Ends an answer."""

MORE_TOKENS = 4
"""Tokens that an answer may be longer than the longest right one of its task."""


class Answer(msgspec.Struct, frozen=True):
    """A question and what was answered."""

    id: str
    lang: str
    kind: str
    cluster: str
    prompt: str
    answer: str
    output: str
    """The greedy continuation up to a line's end or the end of the text, white space at both ends taken off."""
    exact: bool
    """Whether the output is the answer, white space at both ends aside."""
    choices: list[str]
    logprobs: list[float] | None
    """Of each choice behind the prompt, nats; None where there are no choices, or they were chosen otherwise."""
    gold: int | None
    chosen: int | None
    """The likeliest choice, the first of equal ones."""
    choice: bool | None
    """Whether `chosen` is `gold`."""


def answered(question: Question, output: str, logprobs: list[float] | None, chosen: int | None = None) -> Answer:
    """The record of a question; `chosen` follows from `logprobs` where there are any."""
    if logprobs is not None:
        logprobs = [round(value, LOGPROB_DECIMALS) for value in logprobs]
        chosen = logprobs.index(max(logprobs))
    output = output.strip()
    return Answer(
        question.id, question.lang, question.kind, question.cluster, question.prompt, question.answer, output,
        output == question.answer.strip(), question.choices, logprobs, question.gold, chosen,
        None if chosen is None else chosen == question.gold,
    )  # fmt: skip


class Encoded(msgspec.Struct, frozen=True):
    """A question in tokens. Prompt and choice are encoded together, as in the texts a model learns from."""

    prompt: list[int]
    """Of the prompt alone, for the greedy answer."""
    context: list[int]
    """What prompt and all choices begin with: up to the end of the prompt, or the last token that none joins over."""
    continuations: list[list[int]]
    """The rest of prompt and choice, a choice."""
    answer_tokens: int
    """Tokens of the right answer behind the prompt."""


def encode(questions: Sequence[Question], tokenizer: Tokenizer) -> list[Encoded]:
    """Each question in tokens."""
    texts = [question.prompt + ending for question in questions for ending in ("", question.answer, *question.choices)]
    ids = iter(tokenizer.encode_batch(texts))
    encoded = []
    for question in questions:
        prompt, whole = next(ids), next(ids)
        candidates = [next(ids) for _ in question.choices]
        common = min((_common(prompt, candidate) for candidate in candidates), default=len(prompt))
        encoded.append(
            Encoded(
                prompt, prompt[:common], [some[common:] for some in candidates], len(whole) - _common(prompt, whole)
            )
        )
    return encoded


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of what both begin with."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))


def most_tokens(encoded: Sequence[Encoded]) -> int:
    """Tokens that a greedy answer to any of these may have."""
    return max(item.answer_tokens for item in encoded) + MORE_TOKENS


def line_ends(tokenizer: Tokenizer) -> frozenset[int]:
    """The tokens that hold a line's end."""
    return frozenset(token for token in range(tokenizer.vocab_size) if LINE_END in tokenizer.decode([token]))


def first_line(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """The text of an answer up to the end of its line; ids beyond the tokenizer's have no text."""
    return tokenizer.decode([token for token in ids if token < tokenizer.vocab_size]).partition(LINE_END)[0]


def model_answers(
    engine: Engine,
    questions: Sequence[Question],
    encoded: Sequence[Encoded],
    max_tokens: int,
    progress: Callable[[int], None],
) -> list[Answer]:
    """A model's answers; `progress` is told how many questions were just answered (0: choices were scored)."""
    tokenizer = engine.tokenizer
    # documents begin behind an end-of-text token in training
    start = [tokenizer.end_of_text]
    logprobs: list[list[float] | None] = []
    for at in range(0, len(questions), engine.batch):
        some = encoded[at : at + engine.batch]
        pairs = [(start + item.context, continuation) for item in some for continuation in item.continuations]
        scores = iter(engine.score(pairs))
        logprobs += [[next(scores).total for _ in item.continuations] or None for item in some]
        progress(0)
    room = max(1, engine.context_length - max_tokens + 1)
    requests = [
        Request(prompt=(start + item.prompt)[-room:], max_tokens=max_tokens, stop=(LINE_END,)) for item in encoded
    ]
    outputs: dict[int, str] = {}
    for place, answer in engine.completed(requests):
        outputs[place] = answer.text
        progress(1)
    return [answered(question, outputs[i], logprobs[i]) for i, question in enumerate(questions)]


class NgramAnswers:
    """Answers of a Kneser-Ney model; what follows a context is worked out once."""

    def __init__(self, model: KneserNey, tokenizer: Tokenizer, stops: frozenset[int]) -> None:
        """`stops`: tokens that end an answer beside the end of the text, as `line_ends` has them."""
        self._model, self._tokenizer = model, tokenizer
        self._stops = stops | {tokenizer.end_of_text}
        self._next: dict[tuple[int, ...], int] = {}

    def answer(self, questions: Sequence[Question], encoded: Sequence[Encoded], max_tokens: int) -> list[Answer]:
        """Answers to `questions`, by the rules that hold for a model."""
        logprobs = self._choices(encoded)
        return [
            answered(question, first_line(self._greedy(item.prompt, max_tokens), self._tokenizer), some)
            for question, item, some in zip(questions, encoded, logprobs, strict=True)
        ]

    def _choices(self, encoded: Sequence[Encoded]) -> list[list[float] | None]:
        # a document each, all scored in one stream
        documents = [[*item.context, *ids, self._model.end_of_text] for item in encoded for ids in item.continuations]
        lengths = [len(ids) for item in encoded for ids in item.continuations]
        if not documents:
            return [None for _ in encoded]
        logs = self._model.logprobs(np.concatenate([np.array(ids) for ids in documents]))
        ends = np.cumsum([len(ids) for ids in documents]) - 1
        totals = iter([float(logs[end - length : end].sum()) for end, length in zip(ends, lengths, strict=True)])
        return [[next(totals) for _ in item.continuations] or None for item in encoded]

    def _greedy(self, prompt: Sequence[int], max_tokens: int) -> list[int]:
        ids = [self._model.end_of_text, *prompt]
        for _ in range(max_tokens):
            context = tuple(ids[-(self._model.order - 1) :])
            if context not in self._next:
                self._next[context] = int(self._model.distribution(context).argmax())
            ids.append(self._next[context])
            if ids[-1] in self._stops:
                break
        return ids[1 + len(prompt) :]


Pool = Mapping[str, int]
"""The answers of one relation in one language -> how many things have them."""


def answer_pools(tasks: Sequence[Task]) -> dict[tuple[str, str], Pool]:
    """By language and relation, the right answers of all tasks; the items of one cluster count once.

    Items without a relation are one by task.
    """
    found: dict[tuple[str, str], dict[tuple[str, str], None]] = {}
    for task in tasks:
        for question in task.questions:
            found.setdefault(pool_key(task, question), {})[question.cluster, question.answer.strip()] = None
    return {key: Counter(answer for _, answer in pairs) for key, pairs in found.items()}


def pool_key(task: Task, question: Question) -> tuple[str, str]:
    """Which answers a question's own is one of."""
    return question.lang, question.relation or task.name


def commonest_answers(task: Task, pools: Mapping[tuple[str, str], Pool]) -> Iterator[Answer]:
    """The most frequent right answer of each question's pool, for every question; of equal ones the first by its text.

    This control sees the right answers, as no model does: it is the best that a constant answer can do.
    """
    for question in task.questions:
        pool = pools[pool_key(task, question)]
        best = min(pool, key=lambda answer: (-pool[answer], answer))
        counts = [pool.get(choice.strip(), 0) for choice in question.choices]
        yield answered(question, best, None, counts.index(max(counts)) if counts else None)
