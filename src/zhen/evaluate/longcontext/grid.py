"""The tasks `passkey` and `needles`: keys in texts of several lengths, at several depths, in each language."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhen.errors import ZhenError
from zhen.evaluate.answers import MORE_TOKENS
from zhen.evaluate.items import Item, Row, digest, mean_of
from zhen.evaluate.longcontext.needles import CHOICES, DIGITS, WORDINGS, Hiding, Place, Prompt
from zhen.evaluate.longcontext.reading import read_beyond
from zhen.evaluate.longcontext.texts import Texts
from zhen.infer.engine import Engine
from zhen.infer.requests import Request
from zhen.infer.template import ChatTemplate

NEEDLES = {"passkey": 1, "needles": 4}
"""Task -> keys hidden in a text."""

DEPTHS = (0, 25, 50, 75, 100)
"""Per cent."""

A_CELL = 10
"""Prompts of each length, depth and language, where no limit is given."""

CHOICE, EXACT = "choice", "exact"

IN_CHAT = 32
"""Tokens that an answer may have in a chat, beyond the key: it is a sentence of its own."""


@dataclass(frozen=True)
class Grid:
    """A grid ready to be put to models."""

    name: str
    texts: Sequence[Texts]
    lengths: Sequence[int]
    limit: int | None = None
    """Prompts in all, spread evenly over the cells."""
    seed: int = 0

    def places(self) -> list[Place]:
        """All prompts' places, cell by cell."""
        cells = [(t.lang, length, depth) for t in self._told() for length in self.lengths for depth in DEPTHS]
        total = len(cells) * A_CELL if self.limit is None else self.limit
        counts = [total // len(cells) + (at < total % len(cells)) for at in range(len(cells))]
        return [Place(*cell, number) for cell, count in zip(cells, counts, strict=True) for number in range(count)]

    def _told(self) -> list[Texts]:
        known = [texts for texts in self.texts if texts.lang in WORDINGS]
        if not known:
            found = ", ".join(texts.lang for texts in self.texts)
            raise ZhenError(f"{self.name}: texts in {found}", expected=f"in {' or '.join(WORDINGS)}")
        return known

    @property
    def total(self) -> int:
        """Prompts that are asked."""
        return len(self.places())

    def inputs(self) -> dict[str, Path]:
        """The files of the texts, by name."""
        return {name: path for texts in self._told() for name, path in texts.files.items()}

    def how(self) -> dict[str, Any]:
        """The settings that decide what is asked and how it is scored, as a benchmark has them."""
        settings = {
            "lengths": ", ".join(map(str, self.lengths)),
            "depths": ", ".join(map(str, DEPTHS)),
            "keys": f"{NEEDLES[self.name]} of {DIGITS} digits, {CHOICES} to choose from",
            "seed": str(self.seed),
            "doc_to_text": json.dumps({lang: words[1:] for lang, words in WORDINGS.items()}, ensure_ascii=False),
        }
        return {"shots": 0, "sampler": "none", "version": "2", "score": CHOICE, "settings": settings}

    def put_to(
        self,
        engine: Engine,
        front: Sequence[int] = (),
        template: ChatTemplate | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Item]:
        """The items, cell by cell. `front`: tokens before each prompt; `template`: prompts as turns of a chat;
        `progress` is told the prompts done, of how many."""
        chat = len(template.encode([{"role": "user", "content": "."}], engine.tokenizer)) if template else 0
        room = (IN_CHAT if template else MORE_TOKENS) + DIGITS
        hiding = Hiding(
            {texts.lang: texts for texts in self.texts},
            engine.tokenizer,
            NEEDLES[self.name],
            self.seed,
            reserved=len(front) + chat + room - DIGITS,
            begun=template is None,
        )
        places = self.places()
        items: list[Item] = []
        with read_beyond(engine, max(self.lengths)):
            for at in range(0, len(places), engine.batch):
                prompts = [hiding.prompt(place) for place in places[at : at + engine.batch]]
                items += self._answered(engine, prompts, front, template, room)
                progress(len(items), len(places))
        return items

    def _answered(
        self,
        engine: Engine,
        prompts: Sequence[Prompt],
        front: Sequence[int],
        template: ChatTemplate | None,
        room: int,
    ) -> Iterator[Item]:
        encoded = [_encoded(prompt, engine, front, template) for prompt in prompts]
        scores = iter(engine.score([pair for _, pairs in encoded for pair in pairs]))
        logprobs = [[next(scores).total for _ in pairs] for _, pairs in encoded]
        requests = [Request(prompt=ids, max_tokens=room, stop=("\n",)) for ids, _ in encoded]
        outputs = engine.generate(requests)
        for prompt, (ids, _), some, output in zip(prompts, encoded, logprobs, outputs, strict=True):
            yield self._item(prompt, len(ids), [round(value, 6) for value in some], output.text)

    def _item(self, prompt: Prompt, tokens: int, logprobs: list[float], output: str) -> Item:
        place, gold = prompt.place, prompt.choices.index(prompt.key)
        best = max(logprobs)
        written = re.search(rf"\d{{{DIGITS},}}", output)
        return Item(
            task=self.name,
            part=place.cell,
            id=place.number,
            cluster=str(place.number),
            doc_hash=digest(json.dumps([*place, *prompt.choices, prompt.key]), 64),
            prompt_hash=digest(prompt.text, 64),
            target_hash=digest(prompt.key, 64),
            shots=[],
            prompts=[prompt.text],
            choices=[prompt.blank + key for key in prompt.choices],
            logprobs=logprobs,
            greedy=[],
            output=output,
            extracted={"number": written[0] if written else ""},
            target=prompt.key,
            scores={
                # keys that are equally likely share what is right, so that a model that sees nothing is at guessing
                CHOICE: (logprobs[gold] == best) / logprobs.count(best),
                EXACT: float(written is not None and written[0] == prompt.key),
            },
            chance=1 / CHOICES,
            context_tokens=tokens,
            truncated=False,
        )

    def more(self, items: Sequence[Item]) -> Row:
        """What stands beside the task's score: `grid`, a row a cell and a row a length (depth None)."""
        return {"grid": list(_grid_rows(items, self.places()))}


def _encoded(
    prompt: Prompt, engine: Engine, front: Sequence[int], template: ChatTemplate | None
) -> tuple[list[int], list[tuple[list[int], list[int]]]]:
    """The prompt's ids, and (context, continuation) of each choice."""
    encode = engine.tokenizer.encode
    if template is not None:
        ids = template.encode([{"role": "user", "content": prompt.text}], engine.tokenizer)
        return ids, [(ids, encode(key)) for key in prompt.choices]
    ids = [*front, *encode(prompt.text)]
    # a token may reach over the prompt's end: what follows is whatever all of them have in common less
    wholes = [[*front, *encode(prompt.text + prompt.blank + key)] for key in prompt.choices]
    common = min(_common(ids, whole) for whole in wholes)
    return ids, [(whole[:common], whole[common:]) for whole in wholes]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many first tokens both share."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _grid_rows(items: Sequence[Item], places: Sequence[Place]) -> Iterator[Mapping[str, Any]]:
    cells: dict[tuple[str, int, int | None], list[Item]] = {}
    for item, place in zip(items, places, strict=True):
        for depth in (place.depth, None):
            cells.setdefault((place.lang, place.length, depth), []).append(item)
    for (lang, length, depth), some in cells.items():
        scores = {metric: mean_of(some, metric) for metric in (CHOICE, EXACT)}
        yield {"lang": lang, "tokens": length, "depth": depth, "n": len(some)} | {
            name: value
            for metric, row in scores.items()
            for name, value in ((metric, row["score"]), (f"{metric}_stderr", row["stderr"]))
        }
