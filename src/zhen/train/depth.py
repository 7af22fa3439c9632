"""Depth upscaling: a model with some of its layers twice, those that change least what passes through them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zhen.model.transformer import Transformer

MEASURED_TOKENS = 16_384
"""Held-out tokens on which layers are measured at most."""

_LAYER = re.compile(r"model\.layers\.(\d+)\.")


def deepened(model: Transformer, order: Sequence[int]) -> Transformer:
    """A model whose layer i is a copy of layer `order[i]` of `model`, everything else as there; a model of its own."""
    config = msgspec.structs.replace(model.config, num_hidden_layers=len(order))
    with torch.device("meta"):
        deeper = Transformer(config)
    given: Mapping[str, Tensor] = model.state_dict()
    state = {}
    for name in deeper.state_dict():
        state[name] = given[source(name, order)].clone()
    deeper.load_state_dict(state, assign=True)
    return deeper


def source(name: str, order: Sequence[int]) -> str:
    """The tensor of the model before that a tensor of the deeper one is a copy of."""
    return _LAYER.sub(lambda found: f"model.layers.{order[int(found[1])]}.", name)


@torch.no_grad()
def layer_cosines(model: Transformer, rows: Sequence[Tensor]) -> list[float]:
    """Mean cosine between what goes into a layer and what comes out, over all tokens, by layer.

    `rows`: int64[n, s] each, at most as long as the model was trained for. Near 1 a layer hardly changes what passes
    through it (Yi's report, arXiv 2403.04652, section 7.3).
    """
    sums = torch.zeros(len(model.model.layers), dtype=torch.float64)
    count = 0
    with _watched(model.model.layers, sums):
        for tokens in rows:
            model.hidden(tokens)
            count += tokens.numel()
    return [float(value) for value in sums / max(1, count)]


@contextmanager
def _watched(layers: nn.ModuleList, sums: Tensor) -> Iterator[None]:
    def taking(at: int) -> Any:
        def take(_module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            sums[at] += F.cosine_similarity(inputs[0].double(), output.double(), dim=-1).sum().cpu()

        return take

    hooks = [layer.register_forward_hook(taking(at)) for at, layer in enumerate(layers)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def least_changing(cosines: Sequence[float], count: int) -> tuple[int, ...]:
    """The block of `count` neighbours with the largest mean cosine; among equals the first."""
    starts = range(len(cosines) - count + 1)
    best = max(starts, key=lambda start: (sum(cosines[start : start + count]), -start))
    return tuple(range(best, best + count))
