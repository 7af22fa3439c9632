"""The task `loss-by-position`: how well tokens are predicted from few and from many before them, on long documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zhen.errors import ZhenError
from zhen.evaluate.accuracy import DECIMALS, clustered_error
from zhen.evaluate.items import NATS, Item, Row, digest
from zhen.evaluate.longcontext.reading import read_beyond
from zhen.evaluate.longcontext.texts import Texts
from zhen.infer.engine import Engine
from zhen.tokenizer.load import Tokenizer

NAME = "loss-by-position"

DOCUMENTS = 50
"""Of each language, where no limit is given."""

ENOUGH = 5
"""Documents of a length; with fewer a language is read up to a shorter one."""

SHOWN = 200
"""Characters of a document in its item."""


@dataclass(frozen=True)
class Positions:
    """The task, ready to be put to models."""

    texts: Sequence[Texts]
    lengths: Sequence[int]
    limit: int | None = None
    """Documents in all, spread evenly over the languages."""
    name: str = NAME

    @property
    def total(self) -> int:
        """Documents that are read at most."""
        return DOCUMENTS * len(self.texts) if self.limit is None else self.limit

    def inputs(self) -> dict[str, Path]:
        """The files of the texts, by name."""
        return {name: path for texts in self.texts for name, path in texts.files.items()}

    def how(self) -> dict[str, Any]:
        """The settings that decide what is read, as a benchmark has them."""
        settings = {"lengths": ", ".join(map(str, self.lengths)), "documents": f"{ENOUGH} at least of a length"}
        return {"shots": 0, "sampler": "none", "version": "1", "score": NATS, "settings": settings}

    def put_to(self, engine: Engine, progress: Callable[[int, int], None] = lambda done, total: None) -> list[Item]:
        """An item a document: of each language those that have as many tokens as the longest length with enough of
        them, evenly chosen, up to that length. Raises ZhenError where no document is long enough for any."""
        chosen = [(texts.lang, *some) for texts in self.texts for some in self._chosen(texts, engine.tokenizer)]
        if not chosen:
            raise ZhenError(
                f"{self.name}: fewer than {ENOUGH} documents of {self.lengths[0]} tokens in every language",
                expected="longer documents, or shorter lengths",
                hint="--lengths, or evaluate.lengths in a recipe",
            )
        items: list[Item] = []
        counts: dict[str, int] = {}
        with read_beyond(engine, max(self.lengths)):
            for at in range(0, len(chosen), engine.batch):
                some = chosen[at : at + engine.batch]
                scores = engine.score([([], ids) for _, _, ids in some])
                for (lang, text, ids), score in zip(some, scores, strict=True):
                    number = counts[lang] = counts.get(lang, -1) + 1
                    items.append(_item(lang, number, text, len(ids), score.logprobs))
                progress(len(items), len(chosen))
        return items

    def _chosen(self, texts: Texts, tokenizer: Tokenizer) -> Iterator[tuple[str, list[int]]]:
        most = self.total // len(self.texts) if self.limit else DOCUMENTS
        # no character is more than four tokens, and hardly a token more than 32 characters
        long = [text for text in texts.documents if 4 * len(text) >= self.lengths[0]]
        encoded = tokenizer.encode_batch([text[: 32 * max(self.lengths)] for text in long])
        for length in sorted(self.lengths, reverse=True):
            found = [(text, ids[:length]) for text, ids in zip(long, encoded, strict=True) if len(ids) >= length]
            if len(found) >= ENOUGH:
                step = max(1.0, len(found) / max(1, most))
                yield from (found[int(at * step)] for at in range(min(len(found), max(1, most))))
                return

    def more(self, items: Sequence[Item]) -> Row:
        """What stands beside the task's score: `positions`, a row a language and bin."""
        langs = list(dict.fromkeys(item.part for item in items))
        return {"positions": [row for lang in langs for row in _rows([item for item in items if item.part == lang])]}


def bins(length: int) -> list[tuple[int, int]]:
    """First and last position of each bin, two an octave: 1, 2, 3, 4, 5 to 6, 7 to 8, 9 to 12, … up to `length`.

    A position is the number of tokens before the token that is predicted, the end-of-text token in front counted.
    """
    ends = sorted({round(base * 2**octave) for octave in range(length.bit_length() + 1) for base in (1, 1.5)})
    ends = [end for end in ends if end < length] + [length]
    return list(zip([1, *(end + 1 for end in ends[:-1])], ends, strict=True))


def _item(lang: str, number: int, text: str, tokens: int, logprobs: Any) -> Item:
    parts = bins(tokens)
    means = [round(float(np.mean(logprobs[first - 1 : last])), DECIMALS) for first, last in parts]
    return Item(
        task=NAME,
        part=lang,
        id=number,
        cluster=str(number),
        doc_hash=digest(text, 64),
        prompt_hash=digest(text, 64),
        target_hash=digest(text, 64),
        shots=[],
        prompts=[text[:SHOWN]],
        choices=[f"{first}" if first == last else f"{first}–{last}" for first, last in parts],
        logprobs=means,
        greedy=[],
        output="",
        extracted={},
        target="",
        scores={NATS: round(-float(np.mean(logprobs)), DECIMALS)},
        chance=None,
        context_tokens=tokens,
        truncated=False,
    )


def _rows(items: Sequence[Item]) -> Iterator[Row]:
    """The bins of one language, whose documents are all read up to the same length."""
    for at, (first, last) in enumerate(bins(items[0].context_tokens)):
        losses = [-item.logprobs[at] for item in items]
        error = clustered_error(losses, [item.cluster for item in items])
        yield {
            "lang": items[0].part,
            "first": first,
            "last": last,
            "score": round(sum(losses) / len(losses), DECIMALS),
            "stderr": None if error is None else round(error, DECIMALS),
            "n": len(items),
        }
