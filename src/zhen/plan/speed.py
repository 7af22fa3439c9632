"""Time of a training step: products, attention, what lies between, communication and how much of it shows."""

from __future__ import annotations

import math

import msgspec

from zhen.model import size
from zhen.model.config import ModelConfig
from zhen.plan.devices import LINK_SHARE, Device, Kernel, Precision
from zhen.plan.layouts import Layout

CONTENTION = 20 / 132
"""What communication that is hidden still costs: its kernels hold 20 of an H100's 132 multiprocessors meanwhile
(DeepSeek-V3, arXiv 2412.19437 section 3.2.2)."""

ATTENTION_BACKWARD = 2.5
"""Backward of flash attention in forwards: five products for two (arXiv 2205.14135, appendix B)."""

WIDTH = {"bfloat16": 2, "float32": 4}
"""Bytes of a number."""

OPTIMIZER_BYTES = 40
"""A parameter: AdamW reads weight, gradient and two moments and writes three of them (28); the norm reads the gradient
(4), clipping reads and writes it (8)."""

LOGIT_BYTES = {"bfloat16": 38, "float32": 28}
"""Traffic of a logit in the loss, forward and backward, each operation by itself, by what products run in: cast to
float32 6, log-softmax 8, gradient of the choice 4 + 4, of log-softmax 12, cast back 4; in float32 no casts. Compiled
here, it is read twice and its gradient written; the published speeds that GPUs are fitted on are not of that."""


class Step(msgspec.Struct, frozen=True):
    """Seconds of a step on each device."""

    parts: dict[str, float]
    """What shows, by part."""
    hidden: float
    """Communication that passes beside computation."""
    volumes: dict[str, float]
    """Bytes that a device sends in a step, by kind of communication."""
    micro_batches: int

    @property
    def seconds(self) -> float:
        """All parts."""
        return sum(self.parts.values())


def traffic(config: ModelConfig, compiled: bool, on_cpu: Precision | None = None) -> int:
    """Bytes a token that a layer's forward and backward read and write outside products and attention.

    Compiled, each fused kernel reads what it needs and writes what it makes once, in bfloat16. Forward: two norms with
    the sums before them (8 hidden), rotation (2 (q + k)), silu · up (3 ffn); backward: norms (8 hidden), the sums of
    the gradients of q, k, v and of gate, up (7 hidden), rotation, silu · up (6 ffn). Eager: as the operations of
    `model/transformer.py` under autocast read and write one after the other, counted. `on_cpu`: what a CPU's products
    run in.
    """
    hidden, ffn = config.hidden_size, config.intermediate_size
    turned = (config.num_attention_heads + config.num_key_value_heads) * config.head_dim
    if compiled:
        return 2 * (23 * hidden + 4 * turned + 9 * ffn)
    by_hidden, by_turned, by_ffn = EAGER_ON_CPU[on_cpu] if on_cpu else EAGER
    return by_hidden * hidden + by_turned * turned + by_ffn * ffn


EAGER, EAGER_ON_CPU = (146, 74, 28), {"bfloat16": (346, 74, 28), "float32": (332, 60, 56)}
"""Bytes a token by hidden, by q + k, by ffn: eager, with norms as one operation (GPUs) or as several (CPUs), there by
what products run in. A test counts the latter; a norm is 136 of it there under bfloat16, 36 as one operation."""


def step(
    config: ModelConfig,
    device: Device,
    layout: Layout,
    sequence_length: int,
    tokens_per_step: int,
    kernel: Kernel = "flash-2",
) -> Step:
    """Seconds of an update over `tokens_per_step` tokens. A product takes its operations at the device's fitted share
    of the peak, and its operands' way through memory; attention the kernel's published share (causal: half)."""
    sequences = tokens_per_step // sequence_length
    whole = max(1.0, sequences / (layout.data_parallel * layout.micro_batch))  # the last one may be smaller
    micro_batches = math.ceil(whole)
    tokens = layout.micro_batch * sequence_length / layout.context
    compute = _compute(config, device, layout, sequence_length, tokens, kernel)
    once = sum(compute.values())
    volumes, waits = _communication(config, device, layout, tokens, micro_batches)
    shown = {name: whole * seconds for name, seconds in compute.items()}
    hidden = 0.0
    weights = waits.pop("weights and gradients")
    beside = min(weights, once)
    shown["communication of shards"] = micro_batches * (weights - beside + CONTENTION * beside)
    hidden += micro_batches * (1 - CONTENTION) * beside
    copies = waits.pop("gradients of copies")
    beside = min(copies, 2 / 3 * once)  # the last micro-batch's backward
    shown["communication of copies"] = copies - beside + CONTENTION * beside
    hidden += (1 - CONTENTION) * beside
    shown |= {f"communication of {name}": whole * seconds for name, seconds in waits.items()}
    own = size.parameters(config) / (layout.sharded * layout.tensor)
    shown["optimizer"] = OPTIMIZER_BYTES * own / device.bandwidth
    return Step({name: seconds for name, seconds in shown.items() if seconds > 0}, hidden, volumes, micro_batches)


def _compute(
    config: ModelConfig, device: Device, layout: Layout, sequence_length: int, tokens: float, kernel: Kernel
) -> dict[str, float]:
    """Seconds of a micro-batch, forward and backward, by kind of work."""
    layers, cut = config.num_hidden_layers, layout.tensor
    shapes = size.products(config)
    each = [_product(device, layout, tokens, *shape) for shape in shapes]
    # of a layer that is computed again in full, the last product isn't: nothing needs its output
    again = {"none": 0.0, "selective": sum(each[1::2]), "full": sum(each[:-1])}[layout.recompute]
    attended = 4 * tokens * sequence_length * config.num_attention_heads * config.head_dim / 2 / cut
    attention = attended / (device.peak[device.format] * device.attention(kernel))
    passes = 1 + ATTENTION_BACKWARD + (layout.recompute == "full")
    on_cpu = device.format if device.generation == "cpu" else None
    between = device.between * tokens * traffic(config, layout.compiled, on_cpu) / cut / device.bandwidth
    between *= 1 if layout.recompute == "none" else 4 / 3
    head = 3 * _product(device, layout, tokens, config.hidden_size, config.vocab_size, device.format)
    moved = 3 * WIDTH[device.format] if on_cpu and layout.compiled else LOGIT_BYTES[device.format]
    logits = device.between * tokens * config.vocab_size * moved / cut / device.bandwidth
    return {
        "products": layers * (3 * sum(each) + again) + head,
        "attention": layers * attention * passes,
        "between them": layers * between + logits,
    }


def _product(
    device: Device, layout: Layout, tokens: float, inputs: int, outputs: int, precision: str | None = None
) -> float:
    """Seconds of one product: its operations, then its operands and result through memory, in bfloat16 or float32."""
    chosen = precision or layout.precision
    operations = 2 * tokens * inputs * outputs / layout.tensor
    moved = WIDTH[device.format] * (tokens * inputs + (tokens * outputs + inputs * outputs) / layout.tensor)
    return operations / (device.peak[chosen] * device.efficiency[chosen]) + moved / device.bandwidth


def _communication(
    config: ModelConfig, device: Device, layout: Layout, tokens: float, micro_batches: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Bytes that a device sends in a step, and seconds: of a micro-batch; of a step for the gradients of copies.

    Shards: weights gathered twice and gradients scattered once a micro-batch, 2 + 2 + 4 bytes a parameter. Copies:
    gradients summed once a step in float32. Tensor: two sums of the stream a layer, forward and backward each, two
    more where layers are computed again (each a gathering and a scattering; arXiv 2205.05198 section 4.2). Context:
    keys and values gathered, forward and backward, their gradients scattered.
    """
    layers, cut = config.num_hidden_layers, layout.tensor
    count = size.parameters(config) / cut
    sharded, copies, context = layout.sharded, layout.replicas, layout.context
    shards = 8 * count * (sharded - 1) / sharded
    summed = 2 * (copies - 1) / copies * 4 * count / sharded
    sums = layers * (6 if layout.recompute == "full" else 4)
    tensor = sums * 2 * (cut - 1) / cut * 2 * tokens * config.hidden_size
    keys = config.num_key_value_heads * config.head_dim / cut
    attended = layers * 3 * 2 * 2 * keys * tokens * (context - 1)
    inside = device.link * LINK_SHARE
    volumes = {
        "weights and gradients": micro_batches * shards,
        "gradients of copies": summed,
        "tensor": micro_batches * tensor,
        "context": micro_batches * attended,
    }
    seconds = {
        "weights and gradients": shards / _rate(device, sharded * cut, sharded),
        "gradients of copies": summed / _rate(device, layout.devices, copies),
        "tensor": tensor / inside,
        "context": attended / _rate(device, context * cut, context),
    }
    return {name: value for name, value in volumes.items() if value}, seconds


def _rate(device: Device, span: int, group: int) -> float:
    """Bytes/s each way for a device of a group of `group` that lies over `span` neighbours. Beyond one machine, the
    group's members in a machine share out what crosses to the others, each over its own share of the network."""
    if span <= device.per_node:
        return device.link * LINK_SHARE
    nodes = -(-span // device.per_node)
    members = max(1, group // nodes)
    return min(device.link, device.network * members) * LINK_SHARE
