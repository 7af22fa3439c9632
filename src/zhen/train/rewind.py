"""Going back to before a spike and leaving batches out: which, and what of the run is undone.

The batches of a run are numbered by its order; update `n` takes the n-th of those that are not left out. Steps and
schedule stay as they are, so what follows moves up, and the run ends further on in the order. What was decided stands
in `rewinds.json` before anything is undone: killed at any moment, the run goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from zhen.errors import ZhenError
from zhen.formats.files import write_json
from zhen.train.health import Guard, Rewind
from zhen.train.ranks import Ranks
from zhen.train.settings import Health
from zhen.train.steps import Steps

REWINDS = "rewinds.json"


class Rewound(msgspec.Struct, frozen=True):
    """One rewind."""

    update: int
    """The first one that stood out, from 1."""
    step: int
    """Updates that were kept."""
    left_out: tuple[int, int]
    """Batches, by their numbers in the order from 0: the first, and the first behind them."""


class Rewinds:
    """The rewinds of a run. With several processes, all call each method; process 0 alone reads and writes."""

    def __init__(self, steps: Steps, health: Health, guard: Guard, ranks: Ranks) -> None:
        """Goes on with what stands beside `steps`. Raises ZhenError where that can't be read."""
        self._path = steps.folder / REWINDS
        self._health = health
        self._guard = guard
        self._steps = steps
        self._ranks = ranks
        found = ranks.shared(lambda: msgspec.to_builtins(self._read()))
        self.made = msgspec.convert(found, list[Rewound])
        self._settle()

    def batch(self, step: int) -> int:
        """The number in the order of the batch that is taken after `step` updates."""
        number = step
        for begin, end in self._left_out():
            if number >= begin:
                number += end - begin
        return number

    def through(self, updates: Callable[[int], None], back: Callable[[Rewound], int], first: int) -> None:
        """Make the updates from step `first` on. Where they end in a Rewind, `back` loads the newest training
        checkpoint that is left, and says its step, from which they go on."""
        while True:
            try:
                return updates(first)
            except Rewind as spike:
                made = self._make(spike.update)
            first = back(made)

    def _make(self, update: int) -> Rewound:
        """Decide, durably, what is left out because of `update`, and remove the training checkpoints of what is undone.

        Ranges of earlier rewinds that lie in between are counted as left out already.
        """
        kept = max(0, update - 1 - self._health.rewind_steps)
        made = Rewound(update, kept, (self.batch(kept), self.batch(kept + self._health.rewind_batches)))
        self.made.append(made)
        self._steps.wait()
        self._ranks.shared(lambda: write_json(self._path, msgspec.to_builtins(self.made)))
        self._settle()
        return made

    def _settle(self) -> None:
        """Nothing is gone on from that was undone since."""
        self._guard.rewinds = len(self.made)
        if self.made:
            self._ranks.shared(lambda: self._steps.remove(self._undone))

    def _undone(self, step: int, state: Mapping[str, Any]) -> bool:
        return any(each.step < step for each in self.made[state["health"]["rewinds"] :])

    def _left_out(self) -> list[tuple[int, int]]:
        """The ranges of batches, by number, none within another."""
        found: list[tuple[int, int]] = []
        for begin, end in sorted(each.left_out for each in self.made):
            if not found or begin >= found[-1][1]:
                found.append((begin, end))
        return found

    def _read(self) -> list[Rewound]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[Rewound])
        except FileNotFoundError:
            return []
        except msgspec.DecodeError as error:
            hint = "it says which batches this run leaves out; without it, begin in another folder"
            raise ZhenError(f"can't be read: {error}", file=self._path, hint=hint) from error
