"""Keys and values of the tokens already seen, a layer each, in room reserved beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from zhen.errors import ZhenError
from zhen.model.config import ModelConfig
from zhen.model.size import cache_group

_LEAST_SCALE = 2.0**-24
"""The smallest number that float16 has."""


class Cache:
    """For each layer keys (rotated) and values, [batch, kv_heads, capacity, head_dim]; `length` tokens are filled.

    In 8 bits they are kept as int8 with a scale in float16 for each `cache_group` numbers of a head, and given back as
    `dtype`, a layer at a time. What a token is kept as depends on itself alone.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        bits: Literal[16, 8] = 16,
    ) -> None:
        """`bits` 16: kept as `dtype`, whatever its width."""
        shape = (batch, config.num_key_value_heads, capacity, config.head_dim)
        layers = range(config.num_hidden_layers)
        kept = dtype if bits == 16 else torch.int8
        # a tensor a layer: one stacked tensor makes every decoding step slower
        self.keys = [torch.zeros(shape, dtype=kept, device=device) for _ in layers]
        self.values = [torch.zeros(shape, dtype=kept, device=device) for _ in layers]
        self._scales: list[tuple[Tensor, Tensor]] = []
        if bits == 8:
            groups = (*shape[:3], config.head_dim // cache_group(config))
            for _ in layers:
                keys, values = (torch.zeros(groups, dtype=torch.float16, device=device) for _ in range(2))
                self._scales.append((keys, values))
        self._dtype = dtype
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
        if self._scales:
            both = zip((self.keys[layer], self.values[layer]), self._scales[layer], (keys, values), strict=True)
            old, new = (self._append_codes(codes, scales, some, end) for codes, scales, some in both)
            return old, new
        mine, its = self.keys[layer], self.values[layer]
        mine.narrow(2, self.length, end - self.length).copy_(keys)
        its.narrow(2, self.length, end - self.length).copy_(values)
        return mine.narrow(2, 0, end), its.narrow(2, 0, end)

    def _append_codes(self, codes: Tensor, scales: Tensor, new: Tensor, end: int) -> Tensor:
        """Put `new` behind the codes as int8, each group over its largest number; returns all of them as `dtype`."""
        grouped = new.float().view(*new.shape[:3], scales.shape[3], -1)
        scale = (grouped.abs().amax(4) / 127).clamp_min(_LEAST_SCALE).half()
        scales[:, :, self.length : end] = scale
        made = torch.round(grouped / scale.float()[..., None]).clamp_(-127, 127)
        codes[:, :, self.length : end] = made.flatten(3).to(torch.int8)
        given = codes[:, :, :end].to(self._dtype)
        given.view(*given.shape[:3], scales.shape[3], -1).mul_(scales[:, :, :end, :, None].to(self._dtype))
        return given

    def advance(self, count: int) -> None:
        """Count `count` tokens, appended in all layers, as seen."""
        self.length += count

    def copy(self, begin: int, end: int) -> list[Tensor]:
        """All that is kept of the tokens begin … end - 1, for `put`."""
        return [each[:, :, begin:end].clone() for each in self._all()]

    def put(self, begin: int, parts: Sequence[Tensor]) -> None:
        """Set what `copy` gave of a cache of the same shape, from token `begin` on; `advance` counts it."""
        for mine, its in zip(self._all(), parts, strict=True):
            mine[:, :, begin : begin + its.shape[2]] = its

    @property
    def bytes(self) -> int:
        """What all of it takes."""
        return sum(each.nbytes for each in self._all())

    def _all(self) -> list[Tensor]:
        return [*self.keys, *self.values, *(scale for both in self._scales for scale in both)]
