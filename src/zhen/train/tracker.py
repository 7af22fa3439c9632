"""The hook for trackers: the numbers of TensorBoard, sent to trackio or wandb where the user names one."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from zhen.errors import ZhenError

TRACKERS = ("trackio", "wandb")
"""Both have `init(project=, name=, config=, resume=)`, `log(values, step=)` and `finish()`."""


def tracker_module(name: str) -> Any:
    """The package of a tracker. Raises ZhenError for another name, or where it is not installed."""
    if name not in TRACKERS:
        raise ZhenError(f'no tracker "{name}"', expected=" or ".join(TRACKERS), place="run.tracker")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ZhenError(
            f'the tracker "{name}" is not installed',
            place="run.tracker",
            hint=f"pip install {name}; or leave it out: TensorBoard's files and metrics.jsonl are always written",
        ) from error


class Tracker:
    """One run of a tracker. Only making one raises: a tracker that fails later is let go, and training goes on."""

    def __init__(
        self, name: str, *, project: str, run: str, config: Mapping[str, Any], note: Callable[[str], None]
    ) -> None:
        """`note` is told, once, why a tracker was let go. Raises ZhenError as `tracker_module` does."""
        self._module = tracker_module(name)
        self._name, self._note, self._gone = name, note, False
        self._try(lambda: self._module.init(project=project, name=run, config=dict(config), resume="allow"))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send the numbers of one step."""
        self._try(lambda: self._module.log(dict(values), step=step))

    def finish(self) -> None:
        """Send what is left and close the run."""
        self._try(lambda: self._module.finish())

    def _try(self, call: Callable[[], object]) -> None:
        if self._gone:
            return
        try:
            with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
                call()
        except Exception as error:
            self._gone = True
            self._note(f"{self._name} is let go: {type(error).__name__}: {error}")
