"""The plain loop that continues a text: greedy, one sequence, with a cache. It is the inference engine's oracle."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import torch

from zhen.errors import ZhenError
from zhen.model.cache import Cache
from zhen.model.transformer import Transformer


@torch.no_grad()
def generate(model: Transformer, ids: list[int], max_tokens: int, end_ids: Collection[int]) -> list[int]:
    """The most probable continuation of `ids`, token by token: at most `max_tokens`, stopping before any of `end_ids`.

    The end token isn't part of the result. Of equally probable tokens the lowest id is taken. Raises ZhenError for
    an empty prompt or an id outside the vocabulary.
    """
    vocabulary = model.config.vocab_size
    if not ids:
        raise ZhenError("an empty prompt", expected="at least one token, such as the end-of-text token")
    if wrong := [token for token in ids if not 0 <= token < vocabulary]:
        raise ZhenError(f"token id {wrong[0]} in the prompt", expected=f"0 to {vocabulary - 1}")
    own = msgspec.structs.replace(model.config, num_key_value_heads=model.key_heads)
    cache = Cache(own, 1, len(ids) + max_tokens, model.dtype, model.device)
    tokens = torch.tensor([ids], device=model.device)
    made: list[int] = []
    while len(made) < max_tokens:
        last = model.hidden(tokens, cache)[:, -1:]
        token = int(model.lm_head(last).argmax())
        if token in end_ids:
            break
        made.append(token)
        tokens = torch.tensor([[token]], device=model.device)
    return made
