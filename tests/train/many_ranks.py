"""Runs of the stage `pretrain` by several processes, forked from one that has loaded torch, or torchrun's."""

from __future__ import annotations

import functools
import json
import math
import os
import resource
import signal
import socket
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parent))
import small_run
import spiked_run

from zhen.checkpoint.load import open_llama
from zhen.errors import ZhenError
from zhen.model.config import PRESETS
from zhen.train import health, loop, training
from zhen.train.float8 import into_float8
from zhen.train.health import Watchdog
from zhen.train.ranks import Ranks
from zhen.train.settings import Health, Parallel

PATIENCE_SECONDS = 15
"""How long the others may live on when one has failed, before they are killed, as torchrun does."""


def strike(fault: dict[str, Any]) -> None:
    """Do to this process what a fault of its machine would."""
    if fault["kind"] in ("kill", "stop"):
        os.kill(os.getpid(), signal.SIGKILL if fault["kind"] == "kill" else signal.SIGSTOP)
    elif fault["kind"] == "disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    elif fault["kind"] == "hang":
        Watchdog(0.5).beat()  # as an update does, of this process alone
        signal.pause()
    elif fault["kind"] == "full":
        with suppress(OSError), Path(fault["file"]).open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
    elif fault["kind"] in ("nan", "silent"):
        whole = loop.summed_loss
        factors = iter([math.nan if fault["kind"] == "nan" else 1.0 + 2**-20])

        def summed_loss(*arguments: Any) -> torch.Tensor:
            return whole(*arguments) * next(factors, 1.0)

        loop.summed_loss = summed_loss


def worker(inputs: Path, folder: Path, rank: int, size: int, changes: dict[str, Any]) -> int:
    """One process of a run; returns its exit status. `stop` in `changes`: after how many updates to stop; `units`:
    whose CPU multiplies bfloat16 fast."""
    stop = changes.pop("stop", None)
    fault = changes.pop("fault", None)
    if "units" in changes:
        units = rank == changes.pop("units")
        torch.cpu.get_capabilities = lambda: {"avx512_bf16": units}
    if filler := changes.pop("remove", None):
        Path(filler).unlink()
    for name in [name for name in ("betas", "keep_steps") if name in changes]:
        changes[name] = tuple(changes[name])
    for name, kind in (("parallel", Parallel), ("health", Health)):
        if name in changes:
            changes[name] = msgspec.convert(changes[name], kind)
    changes["model"] = msgspec.structs.replace(PRESETS["micro"], **changes.get("model", {}))
    if "init" in changes:
        changes["init"] = str(folder.parent / changes["init"])
        changes["model"] = open_llama(changes["init"])[0]
    done = 0

    def count(_: int) -> None:
        nonlocal done
        done += 1
        if fault and fault["rank"] == rank and done == fault["update"]:
            strike(fault)

    if changes.pop("spiked", False):
        changes |= spiked_run.CHANGES
        health.SPIKE_LEAST, training.packed_batch = 12, spiked_run.Spiked()
    training.into_float8 = functools.partial(into_float8, emulate=True)
    socket.gethostname = lambda: f"host-{rank}"
    ranks = Ranks(rank, size)
    own = folder if rank == 0 else Path(tempfile.mkdtemp())
    line = small_run.Line(count)
    context = small_run.context_for(inputs, own, line=line, stop=lambda: False, **changes)
    if size > 1:
        context.ranks = ranks
        context.leader = None if rank == 0 else folder
        context.stop_requested = lambda: ranks.any(stop is not None and rank == size - 1 and done > stop)
    elif stop is not None:
        context.stop_requested = lambda: done > stop
    try:
        small_run.run(context)
    except ZhenError as error:
        told = ranks.first(error) if size > 1 else error
        print(f"{rank}: {' '.join(told.lines())}", file=sys.stderr)
        return told.status
    except BaseException as error:
        told = ranks.first(error)
        if told is error:
            traceback.print_exc()
        else:
            print(f"{rank}: {' '.join(told.lines())}", file=sys.stderr)
        return getattr(told, "status", 1)
    (folder / f"notes-{rank}.json").write_text(json.dumps([context.line.notes, [e.kind for e in context.events]]))
    return 0


stores: dict[Path, list[dist.TCPStore]] = {}
"""Of each folder's runs so far, one and the same: as torchrun keeps it when it begins anew."""


def run(inputs: Path, folder: Path, size: int, changes: dict[str, Any]) -> list[int]:
    """The exit statuses of the processes of one run."""
    kept = stores.setdefault(folder, [])
    store = kept[0] if kept else dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    kept.append(store)
    folder.mkdir(parents=True, exist_ok=True)
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            status = 70
            try:
                os.environ |= {
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(store.port),
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "WORLD_SIZE": str(size),
                    "TORCHELASTIC_USE_AGENT_STORE": "True",
                    "TORCHELASTIC_RESTART_COUNT": str(len(kept) - 1),
                }
                status = worker(inputs, folder, rank, size, dict(changes))
                sys.stderr.flush()
            finally:
                os._exit(status)
        children.append(child)
    return ended(children)


def ended(children: list[int]) -> list[int]:
    """Wait for the processes; returns their exit statuses."""
    found: dict[int, int] = {}

    def kill(*_: object) -> None:
        for child in set(children) - set(found):
            os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, kill)
    while len(found) < len(children):
        child, status = os.waitpid(-1, 0)
        found[child] = os.waitstatus_to_exitcode(status)
        if found[child]:
            signal.alarm(PATIENCE_SECONDS)
    signal.alarm(0)
    return [found[child] for child in children]


def main(inputs: Path, runs: list[tuple[str, int, dict[str, Any]]]) -> None:
    """Make the runs (folder, processes, changes) one after the other; prints their exit statuses as JSON."""
    torch.set_num_threads(1)
    begun = time.perf_counter()
    statuses = [run(inputs, Path(folder), size, changes) for folder, size, changes in runs]
    print(f"{time.perf_counter() - begun:.1f} s", file=sys.stderr)
    print(json.dumps(statuses))


def restarted(inputs: Path, folder: Path, changes: dict[str, Any]) -> int:
    """One of torchrun's processes; what `fault` says happens in its first attempt."""
    torch.set_num_threads(1)
    if os.environ["TORCHELASTIC_RESTART_COUNT"] != "0":
        del changes["fault"]
    return worker(inputs, folder, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), changes)


if __name__ == "__main__":
    if "TORCHELASTIC_RUN_ID" in os.environ:
        sys.exit(restarted(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])))
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
