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
        self._held: str | None = None
        """The page that the process has."""

    def quick(self, html: str, seconds: float) -> str | None:
        """resiliparse's text of the page, or None where it took more than `seconds` of CPU time or crashed."""
        return self._ask(b"g", html, seconds)

    def good(self, html: str, seconds: float) -> str | None:
        """trafilatura's text of the page, or None as there."""
        return self._ask(b"f", html, seconds)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = self._held = None

    def _ask(self, kind: bytes, html: str, seconds: float) -> str | None:
        if not html:
            return ""
        if self._process is None:
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
            page = b"" if html is self._held else html.encode("utf-8", "replace")
            process.stdin.write(HEADER.pack(kind, seconds, len(page)) + page)
            self._held = html
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
