"""A run as a whole: checkpoints and what failures cost, days, money, energy."""

from __future__ import annotations

import math

import msgspec

from zhen.model import size
from zhen.model.config import ModelConfig
from zhen.plan.devices import Device

HOURS_BETWEEN_FAILURES = 54 * 24 * 16_384 / 419
"""Of one device, with its share of the machine: Llama 3 405B saw 419 unexpected stops on 16,384 GPUs in 54 days
(arXiv 2407.21783, table 5), so one in 50,700 hours."""

STORAGE = 1e9
"""Bytes/s that a machine writes or reads a checkpoint with, as long as all do: an assumption. Local NVMe gives more, a
shared file system often less."""

RESTART_SECONDS = 600
"""From a stop to training again, the checkpoint's reading aside: noticed, a spare machine in, processes started. An
assumption; Llama 3's 3 by hand of 419 say that it can be minutes."""

PUE = 1.56
"""Energy of a data centre by that of its machines, mean of Uptime Institute's survey of 2024."""

HOST_SHARE = 0.41
"""Power of the rest of a machine by that of its GPUs: a DGX H100 takes 10.2 kW at most, eight GPUs 5.6 (NVIDIA, data
sheet); less half, as hosts seldom run full."""


class Checkpoints(msgspec.Struct, frozen=True):
    """How often to save, and what is left of the time."""

    bytes: float
    seconds: float
    """That a save holds training up."""
    recovery_seconds: float
    hours_between_failures: float
    """Of the whole run."""
    interval_seconds: float
    interval_steps: int
    goodput: float
    """Share of the time that makes progress."""


def checkpoints(config: ModelConfig, devices: int, per_node: int, step_seconds: float) -> Checkpoints:
    """The best interval between checkpoints of `pretrain`, by closed form.

    A checkpoint has weights and AdamW's moments in float32, 12 bytes a parameter; machines write their parts at once.
    With s seconds a save, M between failures, R to recover, T = s + √(2 (M + R) s + s²), and of the time
    1 - s/T - T/2M - R/M is left (Young 1974, Daly 2006; with recovery: arXiv 2410.18124).
    """
    count = 12 * size.parameters(config)
    nodes = -(-devices // per_node)
    seconds = count / (nodes * STORAGE)
    recovery = RESTART_SECONDS + seconds
    between = HOURS_BETWEEN_FAILURES * 3600 / devices
    interval = best_interval(seconds, between, recovery)
    return Checkpoints(
        bytes=count,
        seconds=seconds,
        recovery_seconds=recovery,
        hours_between_failures=between / 3600,
        interval_seconds=interval,
        interval_steps=max(1, round(interval / step_seconds)),
        goodput=goodput(interval, seconds, between, recovery),
    )


def best_interval(save: float, between: float, recovery: float) -> float:
    """Seconds from a checkpoint to the next that lose least."""
    return save + math.sqrt(2 * (between + recovery) * save + save**2)


def goodput(interval: float, save: float, between: float, recovery: float) -> float:
    """Share of the time that makes progress; 0 where failures come faster than work is saved."""
    return max(0.0, 1 - save / interval - interval / (2 * between) - recovery / between)


class Run(msgspec.Struct, frozen=True):
    """What the whole run takes."""

    steps: int
    tokens: int
    flops: float
    days: float
    """Failures and checkpoints counted."""
    device_hours: float
    cost: float
    """US$ of rent."""
    megawatt_hours: float


def whole_run(
    config: ModelConfig,
    device: Device,
    devices: int,
    *,
    steps: int,
    tokens_per_step: int,
    sequence_length: int,
    step_seconds: float,
    share: float,
) -> Run:
    """Days, rent and energy of `steps` steps where `share` of the time makes progress (energy: all devices at full
    power all the time, hosts and cooling with them, so an upper bound)."""
    hours = steps * step_seconds / max(share, 1e-9) / 3600
    watts = device.watts * (1 + HOST_SHARE) if device.per_node > 1 else device.watts
    return Run(
        steps=steps,
        tokens=steps * tokens_per_step,
        flops=float(size.flops_per_token(config, sequence_length) * steps * tokens_per_step),
        days=hours / 24,
        device_hours=hours * devices,
        cost=hours * devices * device.price,
        megawatt_hours=hours * devices * watts * PUE / 1e6,
    )
