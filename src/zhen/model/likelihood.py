"""How probable a model finds a text: log-probabilities by token, windows over long texts, and bits per byte.

The convention everywhere: the tokens of a document's text are predicted one by one, the first of them from the
context [end_of_text]; the final end_of_text isn't scored; bytes are those of the text in UTF-8.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from zhen.errors import ZhenError
from zhen.model.transformer import Transformer

_LOGITS_AT_ONCE = 1 << 24
"""Logits held at a time, 64 MiB in float32: with a large vocabulary they would outgrow the model."""


@torch.no_grad()
def token_logprobs(model: Transformer, tokens: Tensor) -> Tensor:
    """ln p of tokens[:, 1:], each given all before it: [batch, seq] int64 -> [batch, seq - 1] float32."""
    hidden = model.hidden(tokens[:, :-1]).flatten(0, 1)
    targets = tokens[:, 1:].flatten()
    rows = max(1, _LOGITS_AT_ONCE // model.config.vocab_size)
    pieces = [
        F.cross_entropy(model.lm_head(hidden[at : at + rows]).float(), targets[at : at + rows], reduction="none")
        for at in range(0, len(targets), rows)
    ]
    return -torch.cat(pieces).view(tokens.shape[0], -1)


class Window(NamedTuple):
    """A stretch ids[begin:end] to run, of which the tokens first … end - 1 are scored here."""

    begin: int
    first: int
    end: int


def rolling_windows(ids: list[int], context_length: int, stride: int) -> Iterator[Window]:
    """Windows in which every token of `ids` but the first (the context) is scored exactly once.

    A window feeds at most `context_length` tokens to the model and predicts the one behind each. The first scores all
    it predicts; later ones score `stride` tokens, the rest of their length being context. stride = context_length is
    fastest (each window starts with one token of context), 1 gives every token the longest context.
    """
    if not 1 <= stride <= context_length:
        raise ZhenError(f"stride {stride}", expected=f"1 to the context length, {context_length}")
    first = 1
    while first < len(ids):
        end = min(len(ids), first + (context_length if first == 1 else stride))
        yield Window(max(0, end - 1 - context_length), first, end)
        first = end


def bits_per_byte(nll_nats: float, text_bytes: int) -> float:
    """Bits per UTF-8 byte of a text, from its summed negative log-likelihood in nats."""
    if text_bytes < 1:
        raise ZhenError(f"{text_bytes} bytes of text", expected="at least 1 to divide by")
    return nll_nats / (math.log(2) * text_bytes)
