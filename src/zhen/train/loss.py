"""Cross-entropy straight from the last hidden states.

The logits' gradient is made where the logits are, in the forward pass. Nothing of the size tokens · vocabulary waits
for the backward pass, and no float32 copy of it is made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

IGNORED = -100
"""The target that is passed over."""

Terms = tuple[Tensor, Tensor, Tensor, Tensor]


def summed_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, chunk: int | None = None, compiled: bool = False
) -> Tensor:
    """Cross-entropy of softmax(hidden · weightᵀ), summed over targets that aren't IGNORED, in nats. float32[].

    hidden [N, h], in whose dtype the products are; weight [V, h]; targets int64[N]. `chunk`: tokens whose logits are
    alive at a time; all when left out.
    """
    device = hidden.device.type
    with torch.autocast(device, enabled=False):
        loss: Tensor = _Summed.apply(hidden, weight, targets, chunk or len(hidden), compiled)  # type: ignore[no-untyped-call]
    return loss


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int, compiled: bool) -> Tensor:
        terms, turned = (_compiled(_terms), _compiled(_turned)) if compiled else (_terms, _turned)
        narrow = weight.to(hidden.dtype)
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        wanted = any(ctx.needs_input_grad)
        into_hidden, into_weight = torch.empty_like(hidden), None
        for first in range(0, len(hidden), chunk):
            rows = slice(first, first + chunk)
            part, gradient, at, own = terms(hidden[rows] @ narrow.T, targets[rows])
            loss += part
            if not wanted:
                continue
            # neither compiled nor by scatter_: both copy all of it where the same bits are asked for
            gradient.index_put_((torch.arange(len(at), device=at.device), at), own)
            torch.mm(gradient, narrow, out=into_hidden[rows])
            # [h, V]: the small factor is turned, for CPUs are slow at products whose inner side is the outer one
            product = hidden[rows].T.contiguous() @ gradient
            into_weight = turned(product, into_weight)
        ctx.save_for_backward(into_hidden, into_weight)
        return loss

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        into_hidden, into_weight = ctx.saved_tensors
        return into_hidden.mul_(scale), into_weight.mul_(scale), None, None, None


def _terms(logits: Tensor, targets: Tensor) -> Terms:
    """The summed loss, float32[]; its gradient by the logits, like these, but not at the targets; places [N] of those
    and what belongs there, [N].

    Looking for the target among all logits takes as long as their exponentials.
    """
    wide = logits.float()
    logsumexp = torch.logsumexp(wide, -1, keepdim=True)
    counts = (targets != IGNORED)[:, None]
    at = targets.clamp(min=0)[:, None]
    right = wide.gather(-1, at) - logsumexp
    loss = -torch.where(counts, right, 0.0).sum()
    gradient = torch.exp(wide - torch.where(counts, logsumexp, torch.inf))
    own = torch.where(counts, torch.exp(right) - 1, 0.0)
    return loss, gradient.to(logits.dtype), at[:, 0], own[:, 0].to(logits.dtype)


def _turned(product: Tensor, before: Tensor | None) -> Tensor:
    """[h, V] -> float32[V, h], added to what was there before."""
    return product.T.float().contiguous() if before is None else before + product.T


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False)
