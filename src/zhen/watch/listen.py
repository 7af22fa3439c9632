"""The bell of whoever watches: rung for what the files tell, and for their silence, which no dead process can tell."""

from __future__ import annotations

import threading
from typing import Any

from zhen.train.bell import Bell
from zhen.watch.runs import Watched

LISTEN_SECONDS = 5.0

_QUIET = {"silent", "gone"}


class Listener:
    """Rings for events that come after its first look, and once when a stage that ran falls silent or is gone."""

    def __init__(self, watched: Watched, bell: Bell) -> None:
        self._watched = watched
        self._bell = bell
        self._known: dict[str, dict[str, Any]] = {}
        self._states: dict[str, str] = {}
        self._first = True

    def look(self, now: float | None = None) -> None:
        """Read what is new and ring for it."""
        for run in self._watched.since(self._known, now)["runs"]:
            for stage in run["stages"]:
                self._hear(run["name"], stage)
        self._first = False

    def _hear(self, run: str, stage: dict[str, Any]) -> None:
        name, events = stage["id"], stage["events"]
        where = {"run": run, "stage": stage["folder"]}
        before = self._states.get(name)
        self._states[name] = stage["state"]
        known = {table: [found["generation"], found["count"]] for table, found in stage["tables"].items()}
        known["events"] = [events["generation"], events["from"] + len(events["rows"])]
        self._known[name] = known
        if self._first:
            return
        for event in events["rows"]:
            if isinstance(event.get("kind"), str):
                self._bell.ring({**where, **event})
        if stage["state"] in _QUIET and before not in _QUIET:
            quiet = round(stage["facts"]["quiet"])
            self._bell.ring({**where, "kind": "silent", "step": stage["facts"].get("step"), "seconds": quiet})

    def start(self) -> None:
        """Look every few seconds, in a thread that ends with the process."""
        threading.Thread(target=self._go_on, name="bell", daemon=True).start()

    def _go_on(self) -> None:
        pause = threading.Event()
        while not pause.wait(LISTEN_SECONDS):
            self.look()
