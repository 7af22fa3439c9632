"""Greedy texts: held-out documents, continued by the model from their first tokens."""

from __future__ import annotations

import msgspec

from zhen.evaluate.held_out import Group
from zhen.evaluate.settings import EvaluateSettings
from zhen.infer.engine import Engine
from zhen.infer.requests import Request
from zhen.tokenizer.load import Tokenizer

BROKEN = "\ufffd"


class Sample(msgspec.Struct, frozen=True):
    """A held-out document's beginning and what the model made of it."""

    source: str
    lang: str
    index: int
    """The document's place among the held-out ones of its source and language."""
    prompt: str
    text: str
    """What the model added, greedily, up to its end-of-text token or the token limit."""
    finish: str
    """`stop`: it ended the document; `length`: it was cut."""
    original: str
    """How the document itself goes on, for as many tokens."""


def greedy_samples(engine: Engine, group: Group, settings: EvaluateSettings) -> list[Sample]:
    """Samples of the first documents of a group that go on behind the prompt."""
    longest = min(settings.sample_prompt_tokens, engine.context_length // 2)
    chosen = [(index, ids) for index, ids in enumerate(group.documents) if len(ids) > longest][: settings.samples]
    prompts = [whole_prompt(ids[:longest], engine.tokenizer) for _, ids in chosen]
    end = [engine.tokenizer.end_of_text]
    # documents begin behind an end-of-text token in training
    requests = [Request(prompt=end + prompt, max_tokens=settings.sample_tokens) for prompt in prompts]
    samples = []
    for (index, ids), prompt, answer in zip(chosen, prompts, engine.generate(requests), strict=True):
        decode = engine.tokenizer.decode
        shown = decode(prompt)
        original = decode(ids[: len(prompt) + settings.sample_tokens])[len(shown) :].rstrip(BROKEN)
        samples.append(Sample(group.source, group.lang, index, shown, answer.text, answer.finish, original))
    return samples


def whole_prompt(ids: list[int], tokenizer: Tokenizer) -> list[int]:
    """`ids` without tokens at the end that are part of a character or white space, which can't be continued well."""
    while ids:
        text = tokenizer.decode(ids)
        if text and text == text.rstrip(BROKEN).rstrip():
            break
        ids = ids[:-1]
    return ids
