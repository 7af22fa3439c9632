"""The extractors in a process of their own: a page that hangs or crashes them costs that page, not the run."""

from __future__ import annotations

import functools
import os
import select
import subprocess
import sys
import time

from zhen.data.extract import ANSWER, HEADER

_IDLE = 30.0
"""An extractor that neither answers nor uses CPU is given so many times its CPU seconds."""


class Extractor:
    """Talks to `python -m zhen.data.extract`, started at the first page and after each page that ended it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def quick(self, html: str, seconds: float) -> str | None:
        """resiliparse's text of the page, or None where it took more than `seconds` of CPU time or crashed."""
        return self._ask(b"g", html.encode("utf-8", "replace"), seconds)

    def good(self, seconds: float) -> str | None:
        """trafilatura's text of the page last given to `quick`, or None as there."""
        return self._ask(b"f", b"", seconds)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ask(self, kind: bytes, html: bytes, seconds: float) -> str | None:
        if self._process is None:
            # a process that was ended (no text, kind "f") has forgotten the page
            if kind == b"f":
                return None
            self._process = subprocess.Popen(
                [sys.executable, "-m", "zhen.data.extract"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(HEADER.pack(kind, seconds, len(html)) + html)
            process.stdin.flush()
            deadline = time.monotonic() + seconds * _IDLE
            size = ANSWER.unpack(self._read(process.stdout.fileno(), ANSWER.size, deadline))[0]
            return self._read(process.stdout.fileno(), size, deadline).decode("utf-8")
        except (BrokenPipeError, EOFError, TimeoutError):
            self.close()
            return None

    def _read(self, handle: int, count: int, deadline: float) -> bytes:
        parts = []
        while count:
            if not select.select([handle], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise TimeoutError
            part = os.read(handle, min(count, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


@functools.cache
def extractor() -> Extractor:
    """The one of this process."""
    return Extractor()
