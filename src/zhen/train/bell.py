"""The bell: a command of the user's that is run with an event as JSON on its standard input."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from zhen.errors import ZhenError

TROUBLE = frozenset(
    {
        *(
            "skipped",
            "spike",
            "rewind",
            "mismatch",
            "slow",
            "slow-host",
            "clocks",
            "hang",
            "silent",
            "disk-low",
            "checkpoint-damaged",
            "damaged-metrics",
        ),
        *("failed", "stopped", "finished"),
    }
)
"""The kinds of event that it is rung for."""

_AT_ONCE = 8
"""Commands that may be running; beyond these nothing is told, so that a command that hangs can't fill a machine."""


class Bell:
    """Starts the command and never waits for it: whatever it does, training goes on at its own pace."""

    def __init__(self, command: str) -> None:
        """`command` is a command line, not a shell's. Raises ZhenError where there is no such program."""
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise ZhenError(f"{command!r}: {error}", place="--bell") from error
        if not self._words or shutil.which(self._words[0]) is None:
            raise ZhenError(
                f"no program {self._words[0] if self._words else ''!r}",
                expected="a command line, such as `sh notify.sh`",
                place="--bell",
            )
        self._running: list[subprocess.Popen[bytes]] = []

    def ring(self, event: Mapping[str, Any]) -> bool:
        """Run the command with `event`, if it is one of TROUBLE. Returns whether it was started."""
        if event["kind"] not in TROUBLE:
            return False
        self._running = [each for each in self._running if each.poll() is None]
        if len(self._running) >= _AT_ONCE:
            return False
        try:
            started = subprocess.Popen(
                self._words,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is not meant for it
            )
        except OSError:
            return False
        self._running.append(started)
        assert started.stdin is not None
        with contextlib.suppress(BrokenPipeError), started.stdin as pipe:
            os.set_blocking(pipe.fileno(), False)  # what a pipe can't hold is cut off
            pipe.write(json.dumps(event, ensure_ascii=False).encode() + b"\n")
        return True
