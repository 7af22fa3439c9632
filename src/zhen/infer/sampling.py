"""The choice of the next token from its logits: greedy, or by temperature, top-k and top-p, in that order."""

from __future__ import annotations

import torch
from torch import Tensor


def choose(logits: Tensor, *, temperature: float, top_k: int, top_p: float, generator: torch.Generator) -> int:
    """The next token's id. `logits`: float[vocab]; `generator` lives on the CPU.

    Top-p keeps the smallest set of likeliest tokens that reaches `top_p` (Holtzman et al. 2020, section 3.1); the
    order of the three steps is that of transformers' `generate`.
    """
    logits = logits.float().cpu()
    if temperature == 0:
        return int(logits.argmax())
    # sorted once, the likeliest first and equal ones by id, so that both cuts are prefixes
    ordered, ids = torch.sort(logits / temperature, descending=True, stable=True)
    if top_k:
        ordered = ordered[:top_k]
    probabilities = torch.softmax(ordered, dim=0)
    if top_p < 1:
        before = probabilities.cumsum(0) - probabilities
        probabilities = torch.where(before < top_p, probabilities, 0.0)
    return int(ids[torch.multinomial(probabilities, 1, generator=generator)])
