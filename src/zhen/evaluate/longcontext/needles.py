"""Prompts of a grid: keys hidden in a text of so many tokens, one of them at a given depth, and a question for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from zhen.errors import ZhenError
from zhen.evaluate.longcontext.texts import Texts
from zhen.tokenizer.load import Tokenizer

CHOICES = 10
"""Keys between which the model is asked to tell: guessing is right in one of ten."""

DIGITS = 5
"""Of a key."""

TRIES = 6
"""To fill a length with text, up to a few tokens."""

_SENTENCE = re.compile(r"[^.!?。！？\n]*[.!?。！？\n]+[\"'”’』」)）]*[ \n]*|[^.!?。！？\n]+")
_BROKEN = "\ufffd"
_KEYLIKE = re.compile(rf"\d{{{DIGITS}}}")


class Wording(NamedTuple):
    """How keys are told and asked for in a language; `{name}` and `{key}` in them."""

    names: tuple[str, ...]
    told: str
    asked: str
    """In front of `begun`, or alone as a turn of a chat."""
    begun: str
    """The beginning of the answer, which the model goes on from."""
    blank: str
    """In front of the key behind it."""


WORDINGS = {
    "en": Wording(
        ("red", "blue", "green", "white", "black", "yellow", "brown", "grey"),
        "The pass key of the {name} door is {key}.",
        "Question: What is the pass key of the {name} door?",
        "Answer: The pass key of the {name} door is",
        " ",
    ),
    "zh": Wording(
        ("红", "蓝", "绿", "白", "黑", "黄", "棕", "灰"),
        "{name}门的通行码是{key}。",
        # the question must not hold the words that the answer begins with: a model that copies would go on with it
        "问题：哪个数是{name}门的通行码？",
        "回答：{name}门的通行码是",
        "",
    ),
}


class Place(NamedTuple):
    """A prompt's place in the grid."""

    lang: str
    length: int
    """Tokens of the prompt and the room for its answer."""
    depth: int
    """Per cent of the text that stand in front of the key asked for."""
    number: int
    """Which one of its cell."""

    @property
    def cell(self) -> str:
        """`en, 2048 tokens, depth 50 %`."""
        return f"{self.lang}, {self.length} tokens, depth {self.depth} %"


class Prompt(NamedTuple):
    """A prompt of the grid."""

    place: Place
    text: str
    key: str
    choices: list[str]
    """The key and CHOICES - 1 others, those of the other doors among them, in the order of numbers."""
    blank: str
    """In front of a key where the answer has begun."""


@dataclass
class Hiding:
    """Makes prompts: `needles` keys hidden in the texts of each language, one of them asked for."""

    texts: Mapping[str, Texts]
    tokenizer: Tokenizer
    needles: int
    seed: int
    reserved: int
    """Tokens around a prompt: a start token, what a chat template adds, the answer's room beyond the key."""
    begun: bool
    """Whether the prompt begins the answer; not in a chat."""
    _sentences: dict[tuple[str, int], list[tuple[str, int]]] = field(default_factory=dict)

    def prompt(self, place: Place) -> Prompt:
        """The prompt of a place: a function of it and of the seed, the texts, the tokenizer. Raises ZhenError where the
        length has no room for the keys."""
        wording = WORDINGS[place.lang]
        random = np.random.default_rng([self.seed, self.needles, *place.lang.encode(), *place[1:]])
        names = random.permutation(wording.names).tolist()
        start = int(random.integers(1 << 31))
        keys = [str(10 ** (DIGITS - 1) + n) for n in random.permutation(9 * 10 ** (DIGITS - 1))[:CHOICES].tolist()]
        others = random.random(self.needles - 1).tolist()
        budget, fits = place.length, None
        # what stands side by side may be tokenised otherwise than alone
        for _ in range(TRIES):
            pieces = self._haystack(place.lang, start, budget)
            told = [
                wording.told.format(name=name, key=key)
                for name, key in zip(names[: self.needles], keys[: self.needles], strict=True)
            ]
            ending = [wording.asked, wording.begun] if self.begun else [wording.asked]
            question = "\n".join(ending).format(name=names[0])
            text = _hidden(pieces, [place.depth / 100, *others], told) + "\n" + question
            over = len(self.tokenizer.encode(text + wording.blank + keys[0])) + self.reserved - place.length
            if over <= 0:
                fits = Prompt(place, text, keys[0], sorted(keys), wording.blank)
            if -place.length // 64 <= over <= 0 or budget <= over:
                break
            budget -= over
        if fits is None:
            raise ZhenError(
                f"{place.length} tokens have no room for {self.needles} key{'s' * (self.needles > 1)} and a question",
                expected="longer lengths",
                hint="--lengths, or evaluate.lengths in a recipe",
            )
        return fits

    def _haystack(self, lang: str, start: int, budget: int) -> list[tuple[str, int]]:
        """Sentences with their tokens from a place of the texts on, as many as the budget of tokens allows."""
        pieces: list[tuple[str, int]] = []
        left = budget
        for text, count in self._from(lang, start):
            if count > left:
                cut = self.tokenizer.decode(self.tokenizer.encode(text)[:left]).rstrip(_BROKEN)
                return [*pieces, (cut, left)] if cut.strip() else pieces
            pieces.append((text, count))
            left -= count
        return pieces

    def _from(self, lang: str, start: int) -> Iterator[tuple[str, int]]:
        """Sentences from a place on, document behind document, without end. Raises ZhenError where there are none."""
        count = len(self.texts[lang].documents)
        at = start % count
        first = self._split(lang, at)
        yield from first[start // count % max(1, len(first)) :]
        empty = 0
        while empty < count:
            at = (at + 1) % count
            found = self._split(lang, at)
            empty = 0 if found else empty + 1
            yield from found
        raise ZhenError(f"the texts in {lang} have no sentence without a number of {DIGITS} digits", expected="prose")

    def _split(self, lang: str, at: int) -> list[tuple[str, int]]:
        """The sentences of a document with their tokens, but for those with a number as long as a key: the keys that
        are hidden shall be all there are."""
        if (lang, at) not in self._sentences:
            found = _SENTENCE.findall(self.texts[lang].documents[at].strip() + "\n")
            texts = [text for text in found if not _KEYLIKE.search(text)]
            counts = [len(ids) for ids in self.tokenizer.encode_batch(texts)]
            self._sentences[lang, at] = list(zip(texts, counts, strict=True))
        return self._sentences[lang, at]


def _hidden(pieces: Sequence[tuple[str, int]], depths: Sequence[float], told: Sequence[str]) -> str:
    """The text with what is told put in between sentences, each on a line of its own, nearest to its depth."""
    ends = np.cumsum([0, *(count for _, count in pieces)])
    behind: dict[int, list[str]] = {}
    for depth, sentence in zip(depths, told, strict=True):
        behind.setdefault(int(np.abs(ends - depth * ends[-1]).argmin()), []).append(sentence)
    parts: list[str] = []
    for at in range(len(pieces) + 1):
        for sentence in behind.get(at, []):
            line = "" if not parts or parts[-1].endswith("\n") else "\n"
            parts.append(f"{line}{sentence}\n")
        if at < len(pieces):
            parts.append(pieces[at][0])
    return "".join(parts).rstrip("\n")
