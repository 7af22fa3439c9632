"""Causal attention for training on CPUs, compiled: forward and backward made of large matrix products.

PyTorch's own for CPUs works head by head on tiles too small for units that multiply bfloat16. Here a block of queries
over all batches and heads is taken at a time, so that what lies above the diagonal is left out block by block; what
lies between the products is left to the compiler to fuse. Their factors are contiguous: a batched product copies those
that are not, each time. The backward pass makes the probabilities again from the logsumexp (Dao et al. 2022, arXiv
2205.14135, section 3 and appendix B). In bfloat16 the scores are rounded to it, as in transformers' eager attention, in
both passes alike. Query heads of one key head are rows of one product: keys and values are never repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

SMALLEST_BLOCK = 64
MOST_BLOCKS = 4
"""Queries in a block: products of fewer are slower; with more blocks a compiled layer grows long and gains nothing."""


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each token over itself and those before it.

    q [B, H, T, D], k and v [B, K, T, D] of one dtype -> [B, H, T, D]; H a multiple of K.
    """
    out: Tensor = _Causal.apply(q, k, v)  # type: ignore[no-untyped-call]
    return out


class _Causal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, logsumexp = _forward(q, k, v)
        ctx.save_for_backward(q, k, v, out, logsumexp)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _backward(gradient, *ctx.saved_tensors)


def _blocks(length: int) -> Iterator[slice]:
    """The queries of each block."""
    size = max(SMALLEST_BLOCK, -(-length // MOST_BLOCKS))
    for first in range(0, length, size):
        yield slice(first, min(length, first + size))


def _forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """-> [B, H, T, D] in the dtype of v, and the scores' logsumexp, [B, H, T] float32."""
    B, H, T, D = q.shape
    K = k.shape[1]
    G, scale = H // K, D**-0.5
    q, k, v = q.view(B, K, G, T, D), k.reshape(B * K, T, D), v.reshape(B * K, T, D)
    places = torch.ones(T, device=q.device).cumsum(0)  # in memory: each use of a range would count it out anew
    found, sums = [], []
    for rows in _blocks(T):
        end, size = rows.stop, rows.stop - rows.start
        q_ = q[:, :, :, rows].reshape(B * K, G * size, D)
        k_, v_ = k[:, :end].contiguous(), v[:, :end].contiguous()
        scores = torch.bmm(q_, k_.transpose(1, 2)).view(B * K, G, size, end).float() * scale
        scores = torch.where(places[:end] <= places[rows, None], scores, -torch.inf)
        largest = scores.amax(-1, keepdim=True)
        p = torch.exp(scores - largest).to(v.dtype)
        total = p.float().sum(-1, keepdim=True)  # of what is multiplied; no wider copy has to be kept for it
        out = torch.bmm(p.view(B * K, G * size, end), v_).view(B * K, G, size, D)
        found.append((out.float() / total).to(v.dtype).view(B, H, size, D))
        sums.append((largest + total.log()).view(B, H, size))
    return torch.cat(found, 2), torch.cat(sums, 2)


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
    places = torch.ones(T, device=q.device).cumsum(0)  # in memory: each use of a range would count it out anew
    dq = []
    dk, dv = [], []
    for rows in _blocks(T):
        end, size = rows.stop, rows.stop - rows.start
        q_, g_ = (x[:, :, :, rows].reshape(B * K, G * size, D) for x in (q, gradient))
        k_, v_ = k[:, :end].clone(), v[:, :end].clone()  # copied otherwise than before, or those would be kept for here
        # transposed, [B K, keys, heads, queries]: of the three products of the gradients two need no turning
        scores, given = (torch.bmm(x, y.transpose(1, 2)).view(B * K, end, G, size) for x, y in ((k_, q_), (v_, g_)))
        seen = places[:end, None, None] <= places[rows]
        p = torch.where(seen, torch.exp(scores.float() * scale - logsumexp[..., rows]), 0.0)
        ds = (p * (given.float() - correction[..., rows]) * scale).to(q.dtype).view(B * K, end, G * size)
        dq.append(torch.bmm(ds.transpose(1, 2), k_).view(B, H, size, D))
        dk.append(torch.bmm(ds, q_))
        dv.append(torch.bmm(p.to(q.dtype).view(B * K, end, G * size), g_))
    return torch.cat(dq, 2), _added(dk, T).view(B, K, T, D), _added(dv, T).view(B, K, T, D)


def _added(parts: list[Tensor], length: int) -> Tensor:
    """The sum of what each block of queries gives to the keys it sees, [B K, keys, D] each -> [B K, length, D]."""
    found = []
    for at, rows in enumerate(_blocks(length)):
        total = parts[at][:, rows].float()
        for part in parts[at + 1 :]:
            total = total + part[:, rows]
        found.append(total.to(parts[at].dtype))
    return torch.cat(found, 1)
