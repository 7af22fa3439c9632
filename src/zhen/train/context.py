"""Context parallelism: every process holds a part of each sequence and attends to the keys and values of all of them.

A sequence is cut into 2·C chunks over C processes; process r has the chunks r and 2·C-1-r, so that all have as many
keys to attend to, and gathers keys and values layer by layer (Llama 3, arXiv 2407.21783, section 3.3.2).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from zhen.model.attention import Part, attends_in_float32


class SharedSequences:
    """The processes that share every sequence."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.size = group.size()
        rank = group.rank()
        self.chunks = (rank, 2 * self.size - 1 - rank)
        """Those of this process, in the order in which it holds them."""
        self.group = group
        held = [chunk for at in range(self.size) for chunk in (at, 2 * self.size - 1 - at)]
        self._order = sorted(range(2 * self.size), key=lambda place: held[place])

    def own(self, whole: Tensor) -> Tensor:
        """This process's positions of [b, s]; s is a multiple of twice the processes."""
        chunks = whole.chunk(2 * self.size, 1)
        return torch.cat([chunks[chunk] for chunk in self.chunks], 1)

    def part(self, length: int) -> Part:
        """What the model is called with, and this process's positions of sequences of `length` tokens."""
        return Part(self.chunks, 2 * self.size, length, self.whole)

    def whole(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """k and v [B, K, T, D] of this process -> those of the whole sequences, [B, K, C · T, D]; in one dtype."""
        dtype = torch.float32 if attends_in_float32(v.device, k.shape[2] // 2, k.requires_grad) else v.dtype
        both = torch.stack((k.to(dtype), v.to(dtype)))
        found: Tensor = _Gather.apply(both, self.group)  # type: ignore[no-untyped-call]  # [C, 2, B, K, T, D]
        chunks = [half for its in found for half in its.chunk(2, 3)]
        keys, values = torch.cat([chunks[place] for place in self._order], 3)
        return keys, values


class _Gather(torch.autograd.Function):
    """[…] -> [C, …]: what every process of a group has. Each is given the sum of the gradients of what it had."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        found = own.new_empty((group.size(), *own.shape))
        dist.all_gather_single(found.flatten(0, 1), own.contiguous(), group)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        own = torch.empty_like(gradient[0], dtype=torch.float32, memory_format=torch.contiguous_format)
        dist.reduce_scatter_single(own, gradient.float().contiguous().flatten(0, 1), group=ctx.group)
        return own.to(gradient.dtype), None
