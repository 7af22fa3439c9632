"""Being asked to stop: Ctrl-C once at a safe point, twice at once; and what torchrun passes on to its processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType


class Stop:
    """Whether a run was asked to stop."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self, torchrun: bool) -> Iterator[None]:
        """The first Ctrl-C asks to stop at a safe point, the second stops at once; under `torchrun` SIGTERM asks, too:
        that is what it sends its processes when it is stopped itself, half a minute before it kills them."""

        def interrupted(_signal: int, _frame: FrameType | None) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True
            with suppress(OSError):  # not `print`: it may be what was interrupted, and its reader may be gone
                os.write(2, b"\nstopping at the next safe point (Ctrl-C again: at once)\n")

        def ended(_signal: int, _frame: FrameType | None) -> None:
            self.asked = True

        before = {signal.SIGINT: signal.signal(signal.SIGINT, ended if torchrun else interrupted)}
        if torchrun:
            before[signal.SIGTERM] = signal.signal(signal.SIGTERM, ended)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
