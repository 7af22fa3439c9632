"""Metrics of a training run: one JSON object a line, appended; cut back to a step when a run goes on from it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from zhen.errors import ZhenError
from zhen.formats.files import write_bytes

METRICS = "metrics.jsonl"
SAMPLES = "samples.jsonl"
EVENTS = "events.jsonl"
"""What a stage that trains writes as it goes on: numbers (this format), samples, what happened."""


class MetricsFile:
    """Appends rows such as {"step": 10, "kind": "train", "loss": 3.2}. `offset` is its length in bytes."""

    def __init__(self, path: Path, offset: int | None = None) -> None:
        """Open `path`; with `offset` (from a training checkpoint) cut off what was written after it."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        if offset is not None:
            if self._file.tell() < offset:
                raise ZhenError(f"is shorter than the checkpoint says ({offset:,} bytes)", file=path)
            self._file.truncate(offset)
            self._file.seek(0, os.SEEK_END)

    def append(self, row: dict[str, Any]) -> None:
        """Write one row and hand it to the system. Raises ZhenError where that does not take it: a full disk."""
        try:
            self._file.write(json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n")
            self._file.flush()
        except OSError as error:
            hint = "make room; the same command goes on from the last training checkpoint"
            raise ZhenError(f"can't be written: {error.strerror}", file=self._path, hint=hint) from error

    @property
    def offset(self) -> int:
        """Bytes written so far, whole lines only."""
        return self._file.tell()

    def sync(self) -> None:
        """Make what was written durable."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file. What could not be written was told by `append`."""
        with suppress(OSError):
            self._file.close()


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a metrics file; a torn last line (killed while writing) is left out."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def cut_back(path: Path, step: int) -> tuple[int, int]:
    """How many bytes of a metrics file are rows up to `step`, behind which lies what an earlier attempt wrote more; and
    how many of its lines were damaged, which are taken out of it."""
    length = damaged = 0
    if not path.exists():
        return 0, 0
    with path.open("rb") as file:
        for line in file:
            at = _step_of(line)
            if not line.endswith(b"\n") or (at is not None and at > step):
                break
            damaged += at is None
            length += len(line)
        if damaged:
            file.seek(0)
            whole = file.read(length).splitlines(keepends=True)
            length = write_bytes(path, b"".join(line for line in whole if _step_of(line) is not None)).bytes
    return length, damaged


def _step_of(line: bytes) -> int | None:
    """The step of the row that a line holds; None where it is no row."""
    with suppress(ValueError):
        row = json.loads(line)
        if isinstance(row, dict) and isinstance(row.get("step"), int) and isinstance(row.get("kind"), str):
            found: int = row["step"]
            return found
    return None
