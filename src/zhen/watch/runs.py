"""The runs that are looked at: which folders of theirs train, and how each run stands."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zhen.errors import ZhenError
from zhen.formats.metrics import METRICS
from zhen.watch.stage import StageFiles
from zhen.watch.tail import Tail

TRAINING = ("pretrain", "extend", "tune")
"""Stages that train, in the order of work."""


class RunFolder:
    """A run's folder, or the folder of a single stage. Stages are found as they begin."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.stages: dict[Path, StageFiles] = {}
        self._log = Tail(folder / "log.jsonl")
        self._keys: dict[str, str] = {}
        self._said: dict[str, str] = {}
        self._working = ""

    def refresh(self, now: float) -> None:
        """Read what is new in all stages."""
        for row in self._log.read():
            stage, key = row.get("stage"), row.get("key")
            if isinstance(stage, str) and isinstance(key, str):
                self._keys[stage] = key
                self._said[stage] = str(row.get("event"))
                self._working = stage if row.get("event") == "start" else ""
        with contextlib.suppress(OSError):  # a disk that went away: what was read stays
            self.stages = {at: self.stages.get(at) or StageFiles(name, at) for name, at in self._current()}
        for stage in self.stages.values():
            stage.refresh(now)

    def since(self, known: Mapping[str, Any], number: int, now: float) -> dict[str, Any]:
        """What a page lacks that has `known`, by stage."""
        stages = []
        gone = self._owner_gone()
        for at, stage in self.stages.items():
            identity = f"{number}/{at.name}"
            given = known.get(identity)
            found = {"id": identity, **stage.since(given if isinstance(given, dict) else {}, now)}
            if found["state"] in ("running", "silent"):
                said = self._said.get(stage.name, "")
                found["state"] = said if said in ("stopped", "failed") else "gone" if gone else found["state"]
            stages.append(found)
        return {"name": self.name, "working": self._working, "stages": stages}

    def _current(self) -> list[tuple[str, Path]]:
        """Name and folder of each stage that trains or has trained under the present recipe."""
        if (self.folder / METRICS).exists():
            return [(self.folder.name.partition("-")[0], self.folder)]
        found = []
        for name in TRAINING:
            folders = [path.parent for path in self.folder.glob(f"stages/{name}-*/{METRICS}")]
            link = self.folder / name
            wanted = f"{name}-{self._keys[name]}" if name in self._keys else link.is_symlink() and os.readlink(link)
            if wanted:
                folders = [path for path in folders if path.name == Path(wanted).name]
            elif self._keys:
                folders = []  # of other runs that share the stages, or of another recipe
            if folders:
                found.append((name, max(folders, key=lambda path: path.stat().st_mtime)))
        return found

    def _owner_gone(self) -> bool:
        """Whether whoever worked here, on this machine, is no more. False where that can't be known."""
        try:
            owner = (self.folder / ".lock").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return False
        named = re.fullmatch(r"pid (\d+) on (.+)\n", owner)
        if named is None:
            return owner == ""  # it was given back
        if named[2] != socket.gethostname():
            return False
        try:
            os.kill(int(named[1]), 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass  # another user's
        return False


class Watched:
    """All runs of a page. Any thread may call."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Raises ZhenError for a folder that is none, or no run's."""
        for folder in folders:
            _require_run(folder)
        self.runs = [RunFolder(folder, name) for folder, name in zip(folders, _names(folders), strict=True)]
        self._lock = threading.Lock()

    @property
    def title(self) -> str:
        """The runs' names."""
        return ", ".join(run.name for run in self.runs)

    def since(self, known: Mapping[str, Any], now: float | None = None) -> dict[str, Any]:
        """Read what is new, and give a page what it lacks that has `known` (stage's id -> what it has of it)."""
        now = time.monotonic() if now is None else now
        with self._lock:
            for run in self.runs:
                run.refresh(now)
            return {"runs": [run.since(known, number, now) for number, run in enumerate(self.runs)]}


def _require_run(folder: Path) -> None:
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "no such folder"
        raise ZhenError(found, file=folder, expected="the folder of a run, such as runs/tiny")
    marks = (METRICS, "stages", "log.jsonl", ".lock")
    if not any((folder / mark).exists() for mark in marks):
        raise ZhenError("is no run's folder", file=folder, expected=f"stages/ in it, or {METRICS}")


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' names, with as much of what is above them as tells them apart."""
    paths = [folder.resolve() for folder in folders]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} {number}" for number, path in enumerate(paths, 1)]
