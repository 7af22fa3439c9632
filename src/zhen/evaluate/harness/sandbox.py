"""Programs that a model wrote, run apart: no network where the system allows, little time, memory, files, processes.

A guard against accidents, not against an attacker: the program runs as the same user. Run untrusted models in a
container or a virtual machine.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

SECONDS = 10
MEMORY = 1 << 30
FILE = 1 << 24
FILES = 64
PROCESSES = 64
"""All of the user's together: who has more running can't start any in the sandbox, which the tests of no set need."""

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000

_BLOCKED = """
import socket
def _refuse(*_, **__): raise OSError("no network in the sandbox")
socket.socket.connect = socket.socket.connect_ex = socket.socket.bind = socket.create_connection = _refuse
socket.getaddrinfo = _refuse
import runpy, sys
runpy.run_path(sys.argv[1], run_name="__main__")
"""
"""Also for systems that give an ordinary user no network namespace of its own."""


def passes(program: str, seconds: float = SECONDS) -> bool:
    """Whether the Python program ends by itself, without an error, within the limits."""
    with tempfile.TemporaryDirectory(prefix="zhen-sandbox-") as folder:
        path = Path(folder) / "program.py"
        path.write_text(program, encoding="utf-8", errors="replace")
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", _BLOCKED, str(path)],
            cwd=folder,
            env={"HOME": folder, "TMPDIR": folder, "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_limits(seconds, has_namespace()),
        )
        try:
            return process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            # whatever it started has its session
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@cache
def has_namespace() -> bool:
    """Whether this user may have a network namespace of its own, which reaches nothing."""
    if sys.platform != "linux":
        return False
    unshare = ctypes.CDLL(None, use_errno=True).unshare
    child = os.fork()
    if child == 0:
        os._exit(unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0)
    return os.waitpid(child, 0)[1] == 0


def _limits(seconds: float, namespace: bool) -> Callable[[], None]:
    """What the child does to itself before it becomes the program."""
    library = ctypes.CDLL(None, use_errno=True)

    def limit() -> None:
        if namespace:
            library.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
        for what, most in (
            (resource.RLIMIT_CPU, max(1, int(seconds))),
            (resource.RLIMIT_AS, MEMORY),
            (resource.RLIMIT_FSIZE, FILE),
            (resource.RLIMIT_NOFILE, FILES),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(what, (most, most))
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NPROC, (PROCESSES, PROCESSES))

    return limit
