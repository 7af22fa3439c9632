"""The types between the runner and a stage: what a stage declares, and what it is handed when it runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from zhen.errors import Interrupted
from zhen.formats.files import Digest
from zhen.formats.record import Event, Figure, Input, Kind, utc_now

Figures = dict[str, Figure]


@dataclass(frozen=True)
class Stage:
    """A stage, or a part of one, as the runner knows it. Importing it loads nothing of the room it names."""

    name: str
    """`data.scan`; the part before the dot is the stage's one name: recipe section, folder, link, room."""
    version: int
    """Raised when the same input would give another output."""
    sections: tuple[str, ...]
    """Recipe values it may read, dotted (`data.rules`, `run.seed`); it is given only these."""
    after: tuple[str, ...]
    """Stages that it reads, each with a sub-folder where only that is read (`data.write/kept`)."""
    run: str
    """`module:function`, called with a Context; returns its figures."""
    inputs: str | None = None
    """`module:function(sections) -> list[Input]`: its inputs from outside; raises ZhenError for a missing source."""
    ranks: bool = False
    """Whether it has work for several processes (torchrun)."""


class ProgressLine(Protocol):
    """The stage's live line (console.Line), as a stage sees it."""

    def update(self, done: float, total: float | None, unit: str, facts: str = "") -> None:
        """`done` of `total` in `unit`; rate and time left are worked out from the calls. `facts` is shown behind."""

    def note(self, text: str) -> None:
        """A lasting line above the live one."""


@dataclass
class Context:
    """What a stage may use while it runs. `folder` is its own; what it finds there is its own earlier attempt."""

    folder: Path
    sections: Mapping[str, Any]
    """Dotted name -> resolved settings, just those declared."""
    after: Mapping[str, Path]
    """Name as declared in `after` -> folder. Optional stages that are not in the plan are missing."""
    line: ProgressLine
    stop_requested: Callable[[], bool]
    workers: int
    """Processes a data stage may use; results never depend on it."""
    ray: str | None = None
    """Address of a Ray cluster for the data engine, or None for in-process."""
    tracker: str | None = None
    """Where the numbers of training go besides the run's folder: "trackio" or "wandb"."""
    bell: str | None = None
    """Command line that is run on trouble in training, with the event as JSON on its standard input."""
    ranks: Any = None
    """The processes that work on the stage (`train/ranks.py`), where torchrun started several."""
    leader: Path | None = None
    """Where this process only helps another: that one's folder. `folder` is then thrown away afterwards."""
    outputs: dict[str, tuple[Kind, Digest | None]] = field(default_factory=dict)
    inputs: dict[str, Input] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    summary: str = ""
    """The stage's last word on the console, set by it: what it made, in one line a newcomer understands."""

    def output(self, path: Path | str, kind: Kind, digest: Digest | None = None) -> None:
        """Declare a file below `folder` as made. Without a digest it is hashed when the stage ends."""
        relative = os.path.relpath(path, self.folder) if isinstance(path, Path) else path
        self.outputs[relative] = (kind, digest)

    def input_hashed(self, item: Input) -> None:
        """Add the sha256 of an outside input, taken while reading it, to the record."""
        self.inputs[item.path] = item

    def event(self, kind: str, **data: Any) -> None:
        """Put something that happened into the record."""
        self.events.append(Event(utc_now(), kind, data))

    def stop_here(self) -> None:
        """Call at a point from which the stage can go on. Raises Interrupted if Ctrl-C was pressed."""
        if self.stop_requested():
            raise Interrupted("stopped", hint="the same command goes on from here")
