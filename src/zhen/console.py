"""What a person sees while work goes on: one live line a stage, tables, notes; all on standard error."""

from __future__ import annotations

import json
import os
import sys
import time
import unicodedata
from collections import deque
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

PLAIN_SECONDS = 10.0
"""Where standard error is no terminal a line of progress is printed at most this often."""

_RATE_WINDOW = 20


class _Output(Console):
    """Standard output: when its reader goes away that is told by BrokenPipeError."""

    def on_broken_pipe(self) -> None:
        raise


class _Report(Console):
    """Standard error: when its reader goes away the work goes on, unseen."""

    def on_broken_pipe(self) -> None:
        unseen()


err = _Report(stderr=True, highlight=False, emoji=False)
out = _Output(highlight=False, emoji=False)


def unseen() -> None:
    """Let standard error lead nowhere; called when its reader went away."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def say(text: str, end: str = "\n") -> None:
    """Print to standard error as it is."""
    try:
        print(text, end=end, file=sys.stderr, flush=True)
    except BrokenPipeError:
        unseen()


def tell(text: str) -> None:
    """Print to standard output as it is: no markup, no line broken, nothing that a terminal would obey."""
    out.print(visible(text), markup=False, soft_wrap=True)


def visible(text: str) -> str:
    """`text` with what a terminal would obey, and halves of characters, written as escapes; line ends stay."""
    return "".join(
        char.encode("unicode_escape").decode() if char != "\n" and unicodedata.category(char) in _OBEYED else char
        for char in text
    )


_OBEYED = ("Cc", "Cf", "Cs")


def duration(seconds: float) -> str:
    """`8 s`, `2 min 05 s`, `3 h 20 min`."""
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: float) -> str:
    """Bytes in decimal units: `512 B`, `8.1 kB`, `3.2 GB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def amount(value: float) -> str:
    """A count that a person can compare: thousands separators; `M`, `B`, `T` from ten million on."""
    for unit, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if abs(value) >= (10 * scale if unit == "M" else scale):
            return f"{value / scale:,.1f} {unit}"
    if isinstance(value, int) or float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:,.1f}"


class Line:
    """A stage's live line: name, bar, done of total, rate, time left, facts. One is open at a time.

    A terminal redraws it ten times a second at most; a pipe gets a plain line every 10 s; with
    `ZHEN_PROGRESS=json` every update is one JSON object, for programs that watch a run.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._started = time.monotonic()
        self._samples: deque[tuple[float, float]] = deque(maxlen=_RATE_WINDOW)
        self._json = os.environ.get("ZHEN_PROGRESS") == "json"
        self._live = err.is_terminal and not self._json
        self._shown = 0.0 if self._live else self._started
        self._drawn = False

    def update(self, done: float, total: float | None, unit: str, facts: str = "") -> None:
        """Show `done` of `total` in `unit`; rate and time left come from the last calls."""
        now = time.monotonic()
        if self._samples and done < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((now, done))
        if self._json:
            event = {"stage": self._name, "done": done, "total": total, "unit": unit, "facts": facts}
            say(json.dumps(event, ensure_ascii=False))
            return
        if now - self._shown < (0.1 if self._live else PLAIN_SECONDS):
            return
        self._shown = now
        text = self._text(done, total, unit, facts)
        if self._live:
            self._draw(text)
        else:
            say(text)

    def note(self, text: str) -> None:
        """Print a lasting line above the live one."""
        self._erase()
        say(visible(text))

    def close(self, summary: str) -> None:
        """Replace the live line by its last word."""
        self._erase()
        seconds = duration(time.monotonic() - self._started)
        word = Text.assemble((f"{self._name:<12}", "bold"), f" {visible(summary)}  ", (seconds, "dim"))
        err.print(word, soft_wrap=True)

    def abandon(self) -> None:
        """Take the live line away without a last word (an error or a stop follows)."""
        self._erase()

    def _text(self, done: float, total: float | None, unit: str, facts: str) -> str:
        first, last = self._samples[0], self._samples[-1]
        rate = (last[1] - first[1]) / (last[0] - first[0]) if last[0] > first[0] else 0.0
        parts = [f"{self._name:<12}"]
        if total:
            share = min(done / total, 1.0)
            filled = int(20 * share)
            parts.append("█" * filled + "░" * (20 - filled) + f" {share:4.0%}")
        parts.append(f"{amount(done)}{f' of {amount(total)}' if total else ''} {unit}")
        if rate > 0:
            parts.append(f"{amount(round(rate, 1))}/s")
            if total and done < total:
                parts.append(f"{duration((total - done) / rate)} left")
        if facts:
            parts.append(visible(facts).replace("\n", " "))
        return "  ".join(parts)

    def _draw(self, text: str) -> None:
        cells = min(cell_len(text), err.width - 1)
        say("\r\x1b[2K" + set_cell_size(text, cells), end="")
        self._drawn = True

    def _erase(self) -> None:
        if self._drawn:
            say("\r\x1b[2K", end="")
            self._drawn = False


class Unseen:
    """The live line of a process whose console another one keeps."""

    def update(self, done: float, total: float | None, unit: str, facts: str = "") -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> Table:
    """A plain table; columns whose cells all start with a digit, sign or dash are aligned right.

    Cells are text as it is: no markup, nothing that a terminal would obey.
    """
    headed = any(columns)
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", show_header=headed)
    for index, column in enumerate(columns):
        cells = [row[index] for row in rows if row[index]]
        numeric = bool(cells) and all(cell[0] in "0123456789+-–−<" for cell in cells)
        made.add_column(Text(visible(column)), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(visible(cell)) for cell in row))
    return made
