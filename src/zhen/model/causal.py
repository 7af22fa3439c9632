"""Causal attention for training on CPUs: PyTorch's fused forward, and a backward made of large matrix products.

PyTorch's own backward for CPUs works head by head on tiles too small for a matrix unit. Here the probabilities are made
again from the logsumexp (Dao et al. 2022, arXiv 2205.14135, section 3 and appendix B), a block of queries over all
batches and heads at a time, so that what lies above the diagonal is left out block by block. Query heads of one key
head are rows of one product: keys and values are never repeated.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_FORWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default

SMALLEST_BLOCK = 128
MOST_BLOCKS = 8
"""Queries in a block: products of fewer are slower; with more blocks a compiled layer grows too long."""


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each token over itself and those before it.

    q [B, H, T, D], k and v [B, K, T, D] of one dtype -> [B, H, T, D]; H a multiple of K.
    """
    out: Tensor = _Causal.apply(q, k, v)  # type: ignore[no-untyped-call]
    return out


class _Causal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        groups = q.shape[1] // k.shape[1]
        every = (k, v) if groups == 1 else (k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1))
        out: Tensor
        out, logsumexp = _FORWARD(q, *every, 0.0, True)
        ctx.save_for_backward(q, k, v, out, logsumexp.contiguous())
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _backward(gradient, *ctx.saved_tensors)


def _backward(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, logsumexp: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    B, H, T, D = q.shape
    K = k.shape[1]
    G, scale = H // K, D**-0.5
    q, gradient = q.view(B, K, G, T, D), gradient.view(B, K, G, T, D)
    k, v = k.reshape(B * K, T, D), v.reshape(B * K, T, D)
    correction = (gradient.float() * out.view(B, K, G, T, D).float()).sum(-1)  # row sums of P ∘ dP
    logsumexp, correction = (x.view(B * K, 1, G, T) for x in (logsumexp, correction))
    places = torch.arange(T, dtype=torch.float32, device=q.device)
    block = max(SMALLEST_BLOCK, -(-T // MOST_BLOCKS))
    dq = []
    dk, dv = (torch.zeros(B * K, T, D, dtype=torch.float32, device=q.device) for _ in range(2))
    for first in range(0, T, block):
        end = min(T, first + block)
        size = end - first
        rows = slice(first, end)
        q_, g_ = (x[:, :, :, rows].reshape(B * K, G * size, D) for x in (q, gradient))
        k_, v_ = k[:, :end], v[:, :end]
        # transposed, [B K, keys, heads, queries]: of the three products of the gradients two need no turning
        scores, given = (torch.bmm(x, y.transpose(1, 2)).view(B * K, end, G, size) for x, y in ((k_, q_), (v_, g_)))
        seen = places[:end, None, None] <= places[rows]
        p = torch.where(seen, torch.exp(scores.float() * scale - logsumexp[..., rows]), 0.0)
        ds = (p * (given.float() - correction[..., rows]) * scale).to(q.dtype).view(B * K, end, G * size)
        dq.append(torch.bmm(ds.transpose(1, 2), k_).view(B, H, size, D))
        dk[:, :end] += torch.bmm(ds, q_)
        dv[:, :end] += torch.bmm(p.to(q.dtype).view(B * K, end, G * size), g_)
    return torch.cat(dq, 2), dk.to(k.dtype).view(B, K, T, D), dv.to(v.dtype).view(B, K, T, D)
