"""Keys and values of the tokens already seen, a layer each, in room reserved beforehand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zhen.errors import ZhenError
from zhen.model.config import ModelConfig


class Cache:
    """For each layer keys (rotated) and values, [batch, kv_heads, capacity, head_dim]; `length` tokens are filled."""

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        shape = (batch, config.num_key_value_heads, capacity, config.head_dim)
        layers = range(config.num_hidden_layers)
        # a tensor a layer: one stacked tensor makes every decoding step slower
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in layers]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in layers]
        self.capacity = capacity
        self.length = 0

    def room_for(self, count: int) -> None:
        """Raises ZhenError if `count` more tokens don't fit."""
        if self.length + count > self.capacity:
            raise ZhenError(f"{self.length + count} tokens", expected=f"at most {self.capacity}, the cache's capacity")

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put `keys` and `values` [batch, kv_heads, seq, head_dim] behind those of `layer`; returns all of them.

        `length` doesn't move before `advance`, which is called once all layers have appended.
        """
        end = self.length + keys.shape[2]
        self.keys[layer][:, :, self.length : end] = keys
        self.values[layer][:, :, self.length : end] = values
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def advance(self, count: int) -> None:
        """Count `count` tokens, appended in all layers, as seen."""
        self.length += count

    def copy(self, begin: int, end: int) -> list[Tensor]:
        """All that is kept of the tokens begin … end - 1, for `put`."""
        return [each[:, :, begin:end].clone() for each in (*self.keys, *self.values)]

    def put(self, begin: int, parts: Sequence[Tensor]) -> None:
        """Set what `copy` gave of a cache of the same shape, from token `begin` on; `advance` counts it."""
        for mine, its in zip((*self.keys, *self.values), parts, strict=True):
            mine[:, :, begin : begin + its.shape[2]] = its
