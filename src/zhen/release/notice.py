"""The text of NOTICE: where architecture, names and layout come from, what was trained on and from."""

from __future__ import annotations

from collections.abc import Sequence

CREDITS = """Architecture: LLaMA, published by Meta AI (Touvron et al., "LLaMA: Open and Efficient Foundation Language
Models", arXiv:2302.13971, and "Llama 2: Open Foundation and Fine-Tuned Chat Models", arXiv:2307.09288).

Names of tensors and settings, layout of the files: those of the LLaMA implementation in Hugging Face
transformers, Copyright 2022 EleutherAI and the HuggingFace Inc. team, Apache License 2.0. None of its code
is part of this release."""

_OWN = "trained from random values; none were taken from another model."
_TOKENIZER = "Special tokens and their ids: after the tokenizer of Yi, 01.AI, Apache License 2.0."


def notice(name: str, initial: str | None, data: Sequence[tuple[str, str]]) -> str:
    """The NOTICE of a model that was trained here. `initial`: the checkpoint that training went on from; `data`: each
    source with its terms."""
    origin = f"Training went on from the checkpoint {initial}, whose terms stay in force." if initial else _OWN
    lines = [name, "", CREDITS, "", f"Weights: {origin}"]
    if not initial:
        lines += ["", _TOKENIZER]
    if data:
        lines += ["", "Data:"] + [f"- {source}: {terms}" for source, terms in data]
    return "\n".join(lines) + "\n"
