"""Meta's LLaMA as its own code computes it: neighbours rotated as complex numbers; names as in its .pth files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def logits(weights: Mapping[str, torch.Tensor], params: Mapping[str, Any], tokens: torch.Tensor) -> torch.Tensor:
    """float32 logits[batch, seq, vocab] by the formulas of arXiv 2302.13971, sections 2.2 (and GQA of 2307.09288)."""
    heads = params["n_heads"]
    groups = params.get("n_kv_heads", heads)
    width = params["dim"] // heads
    batch, length = tokens.shape
    frequencies = params.get("rope_theta", 10_000.0) ** -(torch.arange(0, width, 2)[: width // 2] / width)
    turns = torch.outer(torch.arange(length).float(), frequencies)
    turns = torch.polar(torch.ones_like(turns), turns)[None, :, None, :]
    x = weights["tok_embeddings.weight"].float()[tokens]
    for layer in range(params["n_layers"]):
        part = {
            name.removeprefix(f"layers.{layer}."): tensor.float()
            for name, tensor in weights.items()
            if name.startswith(f"layers.{layer}.")
        }
        h = _norm(x, part["attention_norm.weight"], params["norm_eps"])
        q, k, v = (
            (h @ part[f"attention.{name}.weight"].T).view(batch, length, -1, width) for name in ("wq", "wk", "wv")
        )
        q, k = _turned(q, turns), _turned(k, turns)
        k, v = (t.repeat_interleave(heads // groups, dim=2).transpose(1, 2) for t in (k, v))
        scores = q.transpose(1, 2) @ k.transpose(2, 3) / width**0.5
        scores = scores + torch.full((length, length), float("-inf")).triu(1)
        out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, -1)
        x = x + out @ part["attention.wo.weight"].T
        h = _norm(x, part["ffn_norm.weight"], params["norm_eps"])
        gate = torch.nn.functional.silu(h @ part["feed_forward.w1.weight"].T)
        x = x + (gate * (h @ part["feed_forward.w3.weight"].T)) @ part["feed_forward.w2.weight"].T
    return _norm(x, weights["norm.weight"].float(), params["norm_eps"]) @ weights["output.weight"].float().T


def _norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * weight


def _turned(x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(pairs * turns).flatten(3)
