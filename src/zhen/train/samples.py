"""Samples on the way: how the model goes on from the beginnings of held-out documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from zhen.model.generate import generate
from zhen.model.transformer import Transformer
from zhen.tokenizer.load import Tokenizer
from zhen.train.heldout import Document
from zhen.train.parallel import measuring

PROMPTS = 2
"""Prompts a language."""

PROMPT_TOKENS = 16
SAMPLE_TOKENS = 48
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the steps of a run: when samples are taken."""

_BROKEN = "\ufffd"


class Prompt(NamedTuple):
    """The beginning of a held-out document."""

    language: str
    ids: list[int]


def sample_steps(steps: int) -> set[int]:
    """The steps after which samples are taken."""
    return {round(share * steps) for share in SHARES}


def choose_prompts(documents: Mapping[str, Sequence[Document]], tokenizer: Tokenizer) -> list[Prompt]:
    """The beginnings of the first documents of each language that are longer than a prompt.

    A prompt ends neither inside a character nor in white space, from which a model can't go on as it learnt.
    """
    prompts = []
    for language, found in documents.items():
        long = [document.ids for document in found if len(document.ids) > PROMPT_TOKENS] or [d.ids for d in found]
        for ids in long[:PROMPTS]:
            start = ids[:PROMPT_TOKENS]
            while (
                len(start) > 1 and (text := tokenizer.decode(start)) and (text.endswith(_BROKEN) or text[-1].isspace())
            ):
                start = start[:-1]
            prompts.append(Prompt(language, start))
    return prompts


def take_samples(
    model: Transformer, tokenizer: Tokenizer, prompts: Sequence[Prompt], step: int
) -> list[dict[str, Any]]:
    """A row for `samples.jsonl` by prompt: greedy, in the weights' own format, ending with the document."""
    rows = []
    for prompt in prompts:
        end = tokenizer.end_of_text
        room = model.config.max_position_embeddings - len(prompt.ids) - 1
        with measuring(model):
            made = generate(model, [end, *prompt.ids], min(SAMPLE_TOKENS, room), {end})
        rows.append(
            {
                "step": step,
                "lang": prompt.language,
                "prompt": tokenizer.decode(prompt.ids),
                "continuation": tokenizer.decode(made),
            }
        )
    return rows
