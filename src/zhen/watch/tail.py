"""Follows a file of JSON lines that another process writes, perhaps on another machine."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

_MARK_BYTES = 256
"""So much of what was read last is compared at the next read."""


class Tail:
    """The rows of a file as they come.

    Neither size nor time of the file is trusted, since remote file systems tell both late: each read opens it anew,
    looks whether what was read last still stands where it stood, and reads to the end. A last line without its end is
    left for the next read, a line that is no JSON object is counted and passed over.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._mark = b""
        self.generation = 0
        """Raised when the file was cut back or replaced: what was read before holds no longer."""
        self.unreadable = 0
        """Lines passed over."""
        self.error = ""
        """Why the last read failed; empty where it did not, or where there is no such file (yet)."""

    def read(self) -> list[dict[str, Any]]:
        """The rows since the last read; all of them after a raise of `generation`. Never raises."""
        try:
            data = self._bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            self.error = error.strerror or str(error)
            return []
        self.error = ""
        data = data[: data.rfind(b"\n") + 1]
        self._offset += len(data)
        self._mark = (self._mark + data)[-_MARK_BYTES:]
        return [row for line in data.split(b"\n")[:-1] if (row := self._row(line)) is not None]

    def _bytes(self) -> bytes:
        with self._path.open("rb") as file:
            file.seek(self._offset - len(self._mark))
            if file.read(len(self._mark)) != self._mark:
                self._offset, self._mark = 0, b""
                self.generation += 1
                self.unreadable = 0
                file.seek(0)
            return file.read()

    def _row(self, line: bytes) -> dict[str, Any] | None:
        try:
            row = json.loads(line, parse_constant=lambda _: None, parse_float=_finite)  # NaN: None
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            self.unreadable += 1
            return None
        return row


def _finite(text: str) -> float | None:
    """The number; None where it is beyond all floats, which a page could not read."""
    value = float(text)
    return value if math.isfinite(value) else None
