"""A plan: of all layouts the ones that fit, the fastest, and what the run, its data and its serving take."""

from __future__ import annotations

import msgspec

from zhen.errors import ZhenError
from zhen.model import size
from zhen.model.config import ModelConfig
from zhen.plan.data import DataWork, data_work
from zhen.plan.devices import Device, Kernel, Precision
from zhen.plan.layouts import Layout, layouts
from zhen.plan.memory import Memory, memory, usable
from zhen.plan.running import Checkpoints, Run, checkpoints, whole_run
from zhen.plan.serving import Serving, serving
from zhen.plan.speed import Step, step
from zhen.train.settings import Recompute

RAW = (1e12, 1e15, 3e15)
"""Bytes of raw pages that the work on data is told for: 1 TB, 1 PB, and the 3 PB that Yi began with."""


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be trained: from the recipe."""

    stage: str = "pretrain"
    """The section of the recipe."""
    tokens: int
    steps: int
    tokens_per_step: int
    sequence_length: int
    precision: Precision = "bfloat16"
    recompute: Recompute = "none"
    """What the recipe says of it, and of pieces of the loss; layouts are planned with all."""
    loss_chunk: int | None = None
    kernel: Kernel = "flash-2"


class Choice(msgspec.Struct, frozen=True):
    """A layout with its memory and time."""

    layout: Layout
    name: str
    memory: Memory
    bytes: float
    fits: bool
    limit: str | None
    """What takes most where it doesn't fit."""
    step: Step
    seconds: float
    tokens_per_second: float
    """Of a device."""
    mfu: float
    """Of the peak (bfloat16's, or float32's where that is multiplied in), causal attention counted."""
    mfu_full_attention: float


class Plan(msgspec.Struct, frozen=True):
    """All of it; `--json` prints this."""

    model: dict[str, float]
    device: Device
    gpus: int
    training: Training
    usable_bytes: float
    chosen: Choice | None
    """The fastest that fits."""
    choices: list[Choice]
    """The fastest of each kind of layout that fits, and the smallest of each that doesn't."""
    looked_at: int
    checkpoints: Checkpoints | None
    run: Run | None
    data: list[DataWork]
    serving: list[Serving]


def make_plan(config: ModelConfig, training: Training, device: Device, gpus: int, only: Layout | None = None) -> Plan:
    """The plan of a training run on `gpus` devices, cut as `only` says if that is given.

    Raises ZhenError where no layout cuts the step evenly.
    """
    sequences = training.tokens_per_step // training.sequence_length
    cut = layouts(config, gpus, device.per_node, sequences, training.sequence_length, training.precision)
    found = [choice(config, training, device, layout) for layout in ([only] if only is not None else cut)]
    if not found:
        raise ZhenError(
            f"{gpus:,} devices for steps of {sequences:,} sequences",
            expected="a number of devices that, cut by tensor and context, divides the sequences of a step",
            place="--gpus",
            hint=f"another --gpus, or --set {training.stage}.tokens_per_step=…",
        )
    best = max((one for one in found if one.fits), key=lambda one: one.tokens_per_second, default=None)
    saved = run = None
    if best is not None:
        saved = checkpoints(config, gpus, device.per_node, best.seconds)
        run = whole_run(
            config,
            device,
            gpus,
            steps=training.steps,
            tokens_per_step=training.tokens_per_step,
            sequence_length=training.sequence_length,
            step_seconds=best.seconds,
            share=saved.goodput,
        )
    return Plan(
        model=figures(config, training.sequence_length),
        device=device,
        gpus=gpus,
        training=training,
        usable_bytes=usable(device),
        chosen=best,
        choices=_of_each_kind(found),
        looked_at=len(found),
        checkpoints=saved,
        run=run,
        data=[data_work(amount) for amount in RAW],
        serving=list(serving(config, device, _contexts(config))),
    )


def figures(config: ModelConfig, sequence_length: int) -> dict[str, float]:
    """Numbers of the model alone."""
    return {
        "parameters": size.parameters(config),
        "flops_per_token": size.flops_per_token(config, sequence_length),
        "flops_per_token_full_attention": size.flops_per_token(config, sequence_length, causal=False),
        "kv_bytes_per_token": size.kv_bytes_per_token(config),
        "checkpoint_bytes": size.checkpoint_bytes(config, "bfloat16"),
    }


def choice(config: ModelConfig, training: Training, device: Device, layout: Layout) -> Choice:
    """Memory and time of one layout."""
    length, per_step = training.sequence_length, training.tokens_per_step
    accumulates = layout.data_parallel * layout.micro_batch * length < per_step
    needed = memory(config, layout, length, accumulates, device.kept)
    made = step(config, device, layout, length, per_step, training.kernel)
    rate = per_step / made.seconds / layout.devices
    fits = needed.total <= usable(device)
    return Choice(
        layout=layout,
        name=layout.name,
        memory=needed,
        bytes=needed.total,
        fits=fits,
        limit=None if fits else needed.largest,
        step=made,
        seconds=made.seconds,
        tokens_per_second=rate,
        mfu=rate * size.flops_per_token(config, length) / device.peak[device.format],
        mfu_full_attention=rate * size.flops_per_token(config, length, causal=False) / device.peak[device.format],
    )


def _of_each_kind(found: list[Choice]) -> list[Choice]:
    """The fastest that fits of each kind, fastest first; then of the other kinds the smallest."""
    kinds: dict[str, list[Choice]] = {}
    for one in found:
        kinds.setdefault(one.layout.family, []).append(one)
    fitting = [max(filter(_fits, some), key=_rate) for some in kinds.values() if any(map(_fits, some))]
    small = [min(some, key=lambda one: one.bytes) for some in kinds.values() if not any(map(_fits, some))]
    return sorted(fitting, key=_rate, reverse=True) + sorted(small, key=lambda one: one.bytes)


def _fits(one: Choice) -> bool:
    return one.fits


def _rate(one: Choice) -> float:
    return one.tokens_per_second


def _contexts(config: ModelConfig) -> tuple[int, ...]:
    """Contexts to serve: 4,096 and 32,768 tokens as far as the model goes, and its longest."""
    longest = config.max_position_embeddings
    return tuple(sorted({length for length in (4096, 32_768) if length < longest} | {longest}))
