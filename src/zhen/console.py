"""What a person sees while work goes on: one live line a stage, tables, notes; all on standard error."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

PLAIN_SECONDS = 10.0
"""Where standard error is no terminal a line of progress is printed at most this often."""

_RATE_WINDOW = 20

err = Console(stderr=True, highlight=False)
out = Console(highlight=False)


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
            print(json.dumps(event, ensure_ascii=False), file=sys.stderr, flush=True)
            return
        if now - self._shown < (0.1 if self._live else PLAIN_SECONDS):
            return
        self._shown = now
        text = self._text(done, total, unit, facts)
        if self._live:
            self._draw(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Print a lasting line above the live one."""
        self._erase()
        err.print(text, markup=False, soft_wrap=True)

    def close(self, summary: str) -> None:
        """Replace the live line by its last word."""
        self._erase()
        seconds = duration(time.monotonic() - self._started)
        err.print(f"[bold]{self._name:<12}[/bold] {summary}  [dim]{seconds}[/dim]", soft_wrap=True)

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
            parts.append(facts)
        return "  ".join(parts)

    def _draw(self, text: str) -> None:
        width = err.width - 1
        err.file.write("\r\x1b[2K" + text[:width])
        err.file.flush()
        self._drawn = True

    def _erase(self) -> None:
        if self._drawn:
            err.file.write("\r\x1b[2K")
            err.file.flush()
            self._drawn = False


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> Table:
    """A plain table; columns whose cells all start with a digit, sign or dash are aligned right."""
    headed = any(columns)
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", show_header=headed)
    for index, column in enumerate(columns):
        cells = [row[index] for row in rows if row[index]]
        numeric = bool(cells) and all(cell[0] in "0123456789+-–−<" for cell in cells)
        made.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made
