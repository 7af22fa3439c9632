"""The machine while a stage trains: memory, disk, processes; and whether steps still end."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

READING_SECONDS = 10.0
"""Between two readings of the machine."""

HANG_SECONDS = 300.0
"""How long nothing may end before it is called a hang, at least; else HANG_TIMES the longest it ever took."""

HANG_TIMES = 20.0
FIRST_SECONDS = 1800.0
"""The same before two steps have ended: the first may compile."""

SPARE_BYTES = 500_000_000
"""The disk is nearly full where it holds fewer than two more training checkpoints and this."""


def read_machine(folder: Path, device: torch.device) -> dict[str, float | int]:
    """What the system says; what it does not say is missing. Takes less than a millisecond.

    `memory` (bytes in use by this process), `memory_available`, `disk_free` (of `folder`'s disk), `processes` (this one
    and those below it), `load` (processes that want a core, mean of a minute), `gpu_memory` (taken by torch).
    """
    found: dict[str, float | int] = {"disk_free": shutil.disk_usage(folder).free, "load": round(os.getloadavg()[0], 2)}
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        found["memory"] = pages * os.sysconf("SC_PAGE_SIZE")
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found["memory_available"] = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvail"))
        found["processes"] = _processes(os.getpid())
    except (OSError, StopIteration):
        pass  # not Linux
    if device.type == "cuda":
        found["gpu_memory"] = torch.cuda.memory_reserved(device)
    return found


def _processes(pid: int) -> int:
    """A process and all below it; a child that ends while it is counted counts."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [child for thread in threads for child in (thread / "children").read_text(encoding="ascii").split()]
    except OSError:
        return 1
    return 1 + sum(_processes(int(child)) for child in children)


class HangWatch:
    """Tells, from a thread of its own, when no step has ended for long."""

    def __init__(self, told: Callable[[int, float], None]) -> None:
        """`told(step, seconds)` is called once a hang: the last step that ended, and how long ago."""
        self._told = told
        self._beats = 0
        self._longest = 0.0
        self._step = 0
        self._last = time.monotonic()
        self._said = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="hang-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def beat(self, step: int, now: float | None = None) -> None:
        """A step has ended (`now`: seconds of the monotonic clock)."""
        now = time.monotonic() if now is None else now
        if self._beats:
            self._longest = max(self._longest, now - self._last)
        self._beats += 1
        self._step, self._last, self._said = step, now, False

    def look(self, now: float) -> None:
        """Tell about a hang, if there is one at `now` that was not told yet."""
        limit = max(HANG_SECONDS, HANG_TIMES * self._longest) if self._beats > 1 else FIRST_SECONDS
        if not self._said and now - self._last > limit:
            self._said = True
            self._told(self._step, now - self._last)

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(READING_SECONDS):
            self.look(time.monotonic())
