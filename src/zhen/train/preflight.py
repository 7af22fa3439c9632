"""A look at every host before it trains: that it computes rightly, how fast, and that the run has room on it.

Takes less than a second, most of it the matrix products whose best rate MFU is measured by.
"""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from zhen.console import amount, size
from zhen.errors import ZhenError
from zhen.formats.stage import Context
from zhen.model.config import ModelConfig
from zhen.model.size import parameters
from zhen.train.monitor import read_machine
from zhen.train.parallel import Layout
from zhen.train.peak import finish, matmul_peak
from zhen.train.settings import ShardTraining

FAR_SLOWER = 0.5
"""Of the median rate of all processes: below that, a process is said to be slow."""

CLOCK_SECONDS = 5.0
"""By so much the hosts' clocks may differ: times in logs are then still in order."""

_COPIED_BYTES = 32 << 20
_COPIES = 4
_TERMS = 256
"""Inner size of the known product: with entries -1, 0, 1 no partial sum needs more than bfloat16's 8 bits."""


class Host(msgspec.Struct, frozen=True):
    """What was found where one process runs."""

    name: str
    clock: float
    """Seconds of the Unix epoch, all taken at one moment."""
    cores: int
    memory: int
    """Bytes that can be had."""
    device_memory: int | None
    """The same of a GPU."""
    disk: int
    """Bytes free where the run's folder is."""
    matmul: float
    """FLOP/s, the best of a few products."""
    copy: float
    """Bytes/s, read and written."""


class Need(NamedTuple):
    """Bytes that a run takes for certain: what it takes beyond these depends on the step."""

    device: int
    """Gradient and optimizer state of one process."""
    host: int
    """Its copy of what goes into a training checkpoint."""
    disk: int
    """Checkpoints, those that are there left out."""


def preflight(context: Context, settings: ShardTraining, config: ModelConfig, layout: Layout) -> list[Host]:
    """Look at the hosts of all processes, by rank; the event `host` has what was found, and notes what is odd.

    Raises ZhenError where one computes wrongly, or where memory or disk can't hold the run.
    """
    _check_products(layout.device)
    found = look(context.leader or context.folder, layout)
    hosts = [msgspec.convert(each, Host) for each in layout.ranks.gathered(msgspec.to_builtins(found))]
    _tell(context, hosts)
    _check_room(hosts, need(settings, config, layout, context.leader or context.folder), layout.device.type)
    return hosts


def look(folder: Path, layout: Layout) -> Host:
    """This process's host."""
    device = layout.device
    rates = matmul_peak(device), _copy_rate(device)
    machine = read_machine(folder, device)
    layout.ranks.any(False)  # all are here
    return Host(
        name=socket.gethostname(),
        clock=time.time(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=int(machine.get("memory_available", 0)),
        device_memory=torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None,
        disk=int(machine["disk_free"]),
        matmul=rates[0],
        copy=rates[1],
    )


def need(settings: ShardTraining, config: ModelConfig, layout: Layout, folder: Path) -> Need:
    """What the run takes, besides the weights that are there."""
    count = parameters(config)
    moments = 4 * count * (1 if settings.optimizer == "muon" else 2)  # Muon: of most
    training = 4 * count + moments
    saves = range(settings.checkpoint_every, settings.steps, settings.checkpoint_every)
    reach = settings.health.reach // settings.checkpoint_every if settings.health.spike == "rewind" else 0
    at_once = min(len(saves) + 1, 3 + reach) + len(set(settings.keep_steps) - {0, *saves, settings.steps})
    people = 2 * count * (2 if settings.checkpoint_dtype == "bfloat16" else 4) if config.norm_place == "pre" else 0
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shared = layout.ranks.size
    return Need(
        device=(4 * count + moments) // shared,
        host=training // shared,
        disk=max(0, 4 * count + at_once * training + people - there),
    )


def _check_room(hosts: Sequence[Host], needed: Need, device: str) -> None:
    together = Counter(host.name for host in hosts)
    for host in hosts:
        lacking = [("disk", needed.disk, host.disk, "free some, choose another --out, or save less often")]
        hint = "take a smaller model, more processes, or a larger machine"
        per_process = needed.host + (needed.device if device == "cpu" else 0)
        if host.memory:
            lacking.append(("memory", per_process * together[host.name], host.memory, hint))
        if host.device_memory is not None:
            lacking.append(("GPU memory", needed.device, host.device_memory, hint))
        for what, wanted, there, advice in lacking:
            if wanted > there:
                raise ZhenError(
                    f"{size(there)} of {what} are free",
                    expected=f"at least {size(wanted)}, which this training takes in any case",
                    place=host.name,
                    hint=advice,
                )


def _tell(context: Context, hosts: Sequence[Host]) -> None:
    """Put what was found into the record, by host, and say which are odd."""
    for name, ranks in _by_name(hosts):
        first = ranks[0][1]
        context.event(
            "host",
            host=name,
            processes=len(ranks),
            cores=first.cores,
            memory=first.memory,
            disk=first.disk,
            matmul_flops=round(min(host.matmul for _, host in ranks)),
            copy_bytes_per_second=round(min(host.copy for _, host in ranks)),
        )
    middle = statistics.median(host.matmul for host in hosts)
    for rank, host in enumerate(hosts):
        if host.matmul < FAR_SLOWER * middle:
            context.event("slow-host", host=host.name, process=rank, matmul_flops=round(host.matmul))
            context.line.note(
                f"process {rank} on {host.name} multiplies at {amount(round(host.matmul))} FLOP/s, less than half of "
                f"the others' {amount(round(middle))}; all wait for it"
            )
    apart = max(host.clock for host in hosts) - min(host.clock for host in hosts)
    if apart > CLOCK_SECONDS:
        context.event("clocks", seconds=round(apart, 1))
        context.line.note(f"the hosts' clocks are {apart:.0f} seconds apart; times in logs can't be compared")


def _by_name(hosts: Sequence[Host]) -> Iterable[tuple[str, list[tuple[int, Host]]]]:
    found: dict[str, list[tuple[int, Host]]] = {}
    for rank, host in enumerate(hosts):
        found.setdefault(host.name, []).append((rank, host))
    return found.items()


def _check_products(device: torch.device) -> None:
    """Multiply small whole numbers, whose product is exact in every format and every order of the sum.

    Raises ZhenError where it is not what integers give.
    """
    numbers = np.random.Generator(np.random.PCG64(1))
    left, right = (numbers.integers(-1, 2, shape, dtype=np.int64) for shape in ((192, _TERMS), (_TERMS, 160)))
    wanted = torch.from_numpy(left @ right)
    for dtype in (torch.float32, torch.bfloat16):
        given = (torch.from_numpy(each).to(device, dtype) for each in (left, right))
        found = torch.mm(*given).cpu().to(torch.int64)
        if wrong := int((found != wanted).sum()):
            raise ZhenError(
                f"{wrong:,} of {wanted.numel():,} numbers of a product of matrices are wrong ({str(dtype)[6:]})",
                place=socket.gethostname(),
                hint="that machine does not compute rightly: test its processors and memory, or leave it out",
            )


def _copy_rate(device: torch.device) -> float:
    """Bytes read and written per second by copying memory, the best of a few."""
    source = torch.ones(_COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(_COPIES):
        finish(device)
        begun = time.perf_counter()
        target.copy_(source)
        finish(device)
        best = max(best, 2 * _COPIED_BYTES / (time.perf_counter() - begun))
    return best
