"""`events.jsonl` of a stage that trains: what happened, a line each, written when it happens and never cut back."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from zhen.errors import ZhenError
from zhen.formats.metrics import EVENTS, MetricsFile
from zhen.formats.record import utc_now
from zhen.formats.stage import Context
from zhen.train.bell import Bell


class Events:
    """Rows such as {"time": "2026-01-31T12:00:00+00:00", "kind": "checkpoint", "step": 500}.

    What is put into the record by `Context.event` comes here, too, at the next `publish`. Any thread may call. An event
    that can't be written stops nothing.
    """

    def __init__(self, context: Context) -> None:
        path = context.folder / EVENTS
        self._file = MetricsFile(path, _whole(path))
        self._context = context
        self._published = 0
        self._bell = Bell(context.bell) if context.bell else None
        self._lock = threading.Lock()

    def tell(self, kind: str, step: int | None, **data: Any) -> None:
        """Write an event that is not in the record, and ring the bell where it is trouble."""
        self._write({"time": utc_now(), "kind": kind, "step": step, **data})

    def publish(self) -> None:
        """Write the events that were put into the record since the last call."""
        new = self._context.events[self._published :]
        self._published += len(new)
        for event in new:
            self._write({"time": event.time, "kind": event.kind, "step": None, **event.data})

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    def _write(self, row: dict[str, Any]) -> None:
        with self._lock:
            with suppress(ZhenError):
                self._file.append(row)
            if self._bell is not None:
                folder = self._context.folder.absolute()
                self._bell.ring({"run": folder.parents[1].name, "stage": folder.name, **row})


def _whole(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    return path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0
