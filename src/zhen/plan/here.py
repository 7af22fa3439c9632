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


def here_device() -> torch.device:
    """What this process would train on."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def here() -> Precision:
    """What products run in here where a recipe leaves it out."""
    return "bfloat16" if product_dtype(here_device()) == torch.bfloat16 else "float32"


def this_machine(config: ModelConfig, layout: Layout, sequence_length: int) -> Device:
    """The device that this process would train on, one of it.

    The peak is the fastest product of any shape; what products, attention and what lies between them reach is measured
    on those of a layer and the head, forward and backward, as training runs them in the layout's precision, compiled
    where it is.
    """
    device, dtype = here_device(), getattr(torch, layout.precision)
    rows, tokens = layout.micro_batch, layout.micro_batch * sequence_length
    peak = matmul_peak(device, 2 * SECONDS)
    heads = config.num_attention_heads * config.head_dim
    with precision(device, dtype, sequence_length):
        between = _seconds(_between(config, rows, sequence_length, device, dtype, layout.compiled))
        attention = _seconds(_attention(config, rows, sequence_length, device, dtype, layout.compiled))
        shapes = size.products(config)
        layer = sum(_seconds(_product(tokens, shape, device, dtype)) * shapes.count(shape) for shape in set(shapes))
        head = _seconds(_product(tokens, (config.hidden_size, config.vocab_size), device, dtype))
    moves = traffic(config, layout.compiled, on_cpu=layout.precision if device.type == "cpu" else None)
    bandwidth = tokens * moves / between
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
    """A layer's norms, rotation, silu · up and sums, without products and attention."""
    hidden, ffn = config.hidden_size, config.intermediate_size
    heads = config.num_attention_heads + config.num_key_value_heads
    angles = Rotary(config).tables(0, length, device)
    with torch.device(device):
        norms = [RMSNorm(hidden, config.rms_norm_eps) for _ in range(2)]
        for norm in norms:
            torch.nn.init.ones_(norm.weight)
        stream = torch.randn(rows, length, hidden, requires_grad=True)
        outputs = [torch.randn(rows, length, hidden, dtype=dtype, requires_grad=True) for _ in range(2)]
        turned = torch.randn(rows, length, heads, config.head_dim, dtype=dtype, requires_grad=True)
        gate, up = (torch.randn(rows, length, ffn, dtype=dtype, requires_grad=True) for _ in range(2))

    def forward() -> list[Tensor]:
        x = stream
        normed: list[Tensor] = []
        for norm, output in zip(norms, outputs, strict=True):
            normed.append(norm(x))
            x = x + output
        return [*normed, rotate(turned, *angles).to(dtype), F.silu(gate) * up, x]

    run = _as_trained(forward, compiled)

    def work() -> None:
        made = run()
        torch.autograd.backward(made, [torch.ones_like(each) for each in made])

    return work


def _as_trained(function: Callable[..., Any], compiled: bool) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False) if compiled else function


def _memory(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
