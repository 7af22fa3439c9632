"""Before any heavy import: threads, a caching allocator, telemetry off; Zhen executes itself once more with them."""

from __future__ import annotations

import ctypes.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from zhen.errors import Follows, ZhenError

LAUNCHED = "ZHEN_LAUNCHED"

QUIET = {
    "DAFT_ANALYTICS_ENABLED": "0",
    "DAFT_SHOW_QUERY_ID": "0",
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYDANTIC_DISABLE_PLUGINS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Nothing calls home, nothing writes into the live line; the parser of arguments doesn't search all that is installed
for plugins, which takes as long as a short verb."""

ALLOCATORS = ("tcmalloc_minimal", "tcmalloc", "jemalloc")

GLIBC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "67108864",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""Where no caching allocator is installed: glibc keeps large blocks instead of giving them back each step, and asks for
large pages (3 to 5 % of a training's time for 1 to 3 % more memory: 1 to 54 million parameters)."""


SPIN = {"GOMP_SPINCOUNT": "5000"}
"""Threads wait for each other by spinning; for ever by default, so that training falls to a tenth when another process
takes a core. 10.5 M parameters on two threads of a Xeon with AMX, ms an update, alone and beside a process that takes a
core: 412 and 656 at a count of 1000, where threads sleep at most waits and wake late; 351 and 787 at 5000; 342 and 905
at 10000; 335 and 2610 at 100000."""


def silence() -> None:
    """Switch off the telemetry of the libraries in this process and its children."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def relaunch() -> None:
    """Replace this process by the same command with threads and allocator set, unless that was done already.

    They are read when a process starts, so setting them later would do nothing. Under torchrun each rank
    does so for itself and gets its share of the cores (torchrun's own default of one thread is replaced).
    """
    if os.environ.get(LAUNCHED):
        return
    environment = dict(os.environ) | {LAUNCHED: "1"}
    for name, value in QUIET.items():
        environment.setdefault(name, value)
    environment["OMP_NUM_THREADS"] = str(threads(os.environ))
    if "OMP_WAIT_POLICY" not in environment:
        environment = SPIN | environment
    environment.update(allocator(os.environ))
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def leave(status: int) -> NoReturn:
    """End this process. Under torchrun at once: threads of its collectives abort a slow end now and then."""
    if os.environ.get("WORLD_SIZE", "1") in ("", "1"):
        sys.exit(status)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextmanager
def told_once() -> Iterator[None]:
    """Of an error that every process of torchrun's will find, let process 0 alone tell."""
    try:
        yield
    except ZhenError as error:
        if os.environ.get("RANK", "0") in ("", "0"):
            raise
        raise Follows(error.status) from error


def threads(environment: os._Environ[str] | dict[str, str]) -> int:
    """Threads for this process: what the user set, else the cores shared by the processes of this machine."""
    local = int(environment.get("LOCAL_WORLD_SIZE") or "1")
    given = environment.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0 and not (local > 1 and given == "1"):
        return int(given)
    return max(1, cores() // local)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def allocator(environment: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """What to set for an allocator that keeps freed blocks: 1.2 to 1.9 times the training speed of glibc's default."""
    if environment.get("LD_PRELOAD") or sys.platform != "linux":
        return {}
    for name in ALLOCATORS:
        library = ctypes.util.find_library(name)
        if library:
            return {"LD_PRELOAD": library}
    return {name: value for name, value in GLIBC.items() if name not in environment}
