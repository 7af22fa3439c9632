"""This machine as a device: how fast it does each kind of a step's work, measured at the sizes of the model."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zhen.model import size
from zhen.model.attention import attend, attends_in_float32
from zhen.model.config import ModelConfig
from zhen.model.linear import Linear, product_dtype
from zhen.model.rope import Rotary, rotate
from zhen.model.transformer import RMSNorm
from zhen.plan.devices import Device, Precision
from zhen.plan.layouts import Layout
from zhen.plan.speed import ATTENTION_BACKWARD, WIDTH, traffic
from zhen.train.kernel import precision
from zhen.train.peak import matmul_peak

SECONDS = 0.7
"""Time for each kind of work, and twice it for the peak."""

_LONG = 1 << 24
"""Numbers of a vector that caches don't hold."""


def here_device() -> torch.device:
    """What this process would train on."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def here() -> Precision:
    """What products run in here where a recipe leaves it out."""
    return "bfloat16" if product_dtype(here_device()) == torch.bfloat16 else "float32"


def this_machine(config: ModelConfig, layout: Layout, sequence_length: int) -> Device:
    """The device that this process would train on, one of it.

    The peak is the fastest product of any shape, the bandwidth that of a sum of long vectors; what products, attention
    and what lies between them reach is measured on those of a layer and the head, forward and backward, as training
    runs them in the layout's precision, compiled where it is.
    """
    device, dtype = here_device(), getattr(torch, layout.precision)
    rows, tokens = layout.micro_batch, layout.micro_batch * sequence_length
    peak = matmul_peak(device, 2 * SECONDS)
    bandwidth = 3 * 4 * _LONG / _seconds(_sum(device))
    heads = config.num_attention_heads * config.head_dim
    with precision(device, dtype, sequence_length):
        between = _seconds(_between(config, rows, sequence_length, device, dtype, layout.compiled))
        between /= _far_apart(config, tokens)
        attention = _seconds(_attention(config, rows, sequence_length, device, dtype, layout.compiled))
        shapes = size.products(config)
        layer = sum(_seconds(_product(tokens, shape, device, dtype)) * shapes.count(shape) for shape in set(shapes))
        head = _seconds(_product(tokens, (config.hidden_size, config.vocab_size), device, dtype))
    moves = traffic(config, layout.compiled, on_cpu=layout.precision if device.type == "cpu" else None)
    all_shapes = [*(config.num_hidden_layers * shapes), (config.hidden_size, config.vocab_size)]
    operations = sum(6 * tokens * inputs * outputs for inputs, outputs in all_shapes)
    moved = sum(
        3 * WIDTH[layout.precision] * (tokens * (inputs + outputs) + inputs * outputs) for inputs, outputs in all_shapes
    )
    products = config.num_hidden_layers * layer + head
    attended = 4 * tokens * sequence_length * heads / 2 * (1 + ATTENTION_BACKWARD)
    # what moving the operands would take is counted beside the operations, never as more than half of all
    alone = max(products / 2, products - moved / bandwidth)
    in_float32 = attends_in_float32(device, sequence_length, True)
    kept = size.kept_bytes_on_cpu(config, sequence_length, in_float32, layout.precision, compiled=layout.compiled)
    return Device(
        name="here",
        generation=device.type,
        peak={layout.precision: peak},
        memory=_memory(device),
        bandwidth=bandwidth,
        link=1.0,
        network=1.0,
        per_node=1,
        watts=0.0,
        price=0.0,
        efficiency={layout.precision: operations / alone / peak},
        fitted="measured now, at the sizes of this model's layers",
        source=f"measured now: {torch.get_num_threads()} thread(s)" if device.type == "cpu" else "measured now",
        attends=attended / attention / peak,
        between=between * bandwidth / (tokens * moves),
        kept=kept if device.type == "cpu" else None,
    )


def _seconds(work: Callable[[], object]) -> float:
    """Time of a call: the lower quartile of as many as fit into SECONDS, three at least (other work on the machine
    makes some slower); the first, which warms up, aside."""
    work()
    taken: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(taken) < 3 or time.perf_counter() < end:
        begun = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begun)
    return statistics.quantiles(taken)[0]


def _sum(device: torch.device) -> Callable[[], object]:
    one, other, out = (torch.ones(_LONG, device=device) for _ in range(3))
    return lambda: torch.add(one, other, out=out)


def _product(tokens: int, shape: tuple[int, int], device: torch.device, dtype: torch.dtype) -> Callable[[], object]:
    """A matrix, forward and backward, its float32 weight cast and the gradient cast back as training does."""
    with torch.device(device):
        matrix = Linear(*shape)
        torch.nn.init.normal_(matrix.weight, std=0.02)
        given = torch.randn(tokens, shape[0], dtype=dtype, requires_grad=True)
        gradient = torch.randn(tokens, shape[1], dtype=dtype)

    def work() -> None:
        torch.clear_autocast_cache()
        matrix(given).backward(gradient)

    return work


def _attention(
    config: ModelConfig, rows: int, length: int, device: torch.device, dtype: torch.dtype, compiled: bool
) -> Callable[[], object]:
    heads, keys, wide = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    with torch.device(device):
        q = torch.randn(rows, heads, length, wide, dtype=dtype, requires_grad=True)
        k, v = (torch.randn(rows, keys, length, wide, dtype=dtype, requires_grad=True) for _ in range(2))
        gradient = torch.randn(rows, heads, length, wide)
    attention = _as_trained(attend, compiled)

    def work() -> None:
        out = attention(q, k, v, None, causal=True)
        torch.autograd.backward(out, gradient.to(out.dtype))

    return work


def _between(
    config: ModelConfig, rows: int, length: int, device: torch.device, dtype: torch.dtype, compiled: bool
) -> Callable[[], object]:
    """Norms, rotation, silu · up and sums of so many layers as `_far_apart` says, without products and attention."""
    hidden, ffn = config.hidden_size, config.intermediate_size
    heads = config.num_attention_heads + config.num_key_value_heads
    angles = Rotary(config).tables(0, length, device)
    with torch.device(device):
        norms = [RMSNorm(hidden, config.rms_norm_eps) for _ in range(2)]
        for norm in norms:
            torch.nn.init.ones_(norm.weight)

    def given() -> list[Tensor]:
        shapes = [(hidden,), (hidden,), (hidden,), (heads, config.head_dim), (ffn,), (ffn,)]
        dtypes = [torch.float32, *(5 * [dtype])]
        return [
            torch.randn(rows, length, *shape, dtype=kind, device=device, requires_grad=True)
            for shape, kind in zip(shapes, dtypes, strict=True)
        ]

    def forward(x: Tensor, one: Tensor, other: Tensor, turned: Tensor, gate: Tensor, up: Tensor) -> list[Tensor]:
        normed: list[Tensor] = []
        for norm, output in zip(norms, (one, other), strict=True):
            normed.append(norm(x))
            x = x + output
        return [*normed, rotate(turned, *angles).to(dtype), F.silu(gate) * up, x]

    run = _as_trained(forward, compiled)
    layers = [given() for _ in range(_far_apart(config, rows * length))]
    gradients = [torch.ones_like(each) for each in run(*layers[0])]

    def work() -> None:
        made = [run(*each) for each in layers]
        while made:
            torch.autograd.grad(made.pop(), [*layers[len(made)], *(norm.weight for norm in norms)], gradients)

    return work


def _far_apart(config: ModelConfig, tokens: int) -> int:
    """Layers whose numbers caches don't hold from the forward pass to the backward pass, as it is in training; no more
    than there are, nor than a gigabyte, roughly."""
    width = 8 * config.hidden_size + 4 * config.intermediate_size  # bytes of what is given, of three times as many
    return max(1, min(config.num_hidden_layers, 10**9 // (3 * width * tokens)))


def _as_trained(function: Callable[..., Any], compiled: bool) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False) if compiled else function


def _memory(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
