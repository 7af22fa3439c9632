"""A table of shares as SVG, the fuller the cell the larger the share; coloured by the page's variables."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, ROW, LEFT, FOOT = 240, 24, 40, 16
"""In the drawing's own units; the page scales it. LEFT and FOOT are kept for the labels of rows and columns."""

FULL = 0.6
"""Opacity of a share of 1: what is written in the cell must be read in either theme."""


def heat_map(shares: Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str]) -> str:
    """SVG of shares from 0 to 1, [rows][columns], each written in per cent. Labels should be short, and no words: the
    drawing knows one language only."""
    width = (WIDTH - LEFT) / len(columns)
    marks = []
    for at, (label, some) in enumerate(zip(rows, shares, strict=True)):
        marks.append(_text(LEFT - 6, at * ROW + ROW / 2, label, "end", "var(--soft)"))
        for column, share in enumerate(some):
            x = LEFT + column * width
            marks.append(
                f'<rect x="{x + 0.5:.1f}" y="{at * ROW + 0.5:.1f}" width="{width - 1:.1f}" height="{ROW - 1}" '
                f'fill="var(--c0)" fill-opacity="{FULL * share:.2f}" stroke="var(--line)"/>'
            )
            marks.append(_text(x + width / 2, at * ROW + ROW / 2, f"{100 * share:.0f}", "middle", "var(--ink)"))
    high = len(rows) * ROW
    for column, label in enumerate(columns):
        marks.append(_text(LEFT + (column + 0.5) * width, high + FOOT / 2 + 1, label, "middle", "var(--soft)"))
    return f'<svg viewBox="0 0 {WIDTH} {high + FOOT}" role="img">{"".join(marks)}</svg>'


def _text(x: float, y: float, text: str, anchor: str, fill: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" dominant-baseline="central"'
    return f'<text {place} font-size="10" fill="{fill}">{escape(text)}</text>'
