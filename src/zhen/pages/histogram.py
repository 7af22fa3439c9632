"""Small histograms as SVG, before and after, with thresholds drawn in; coloured by the page's variables."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 240, 70
"""Of the drawing, in its own units; the page scales it."""


def histogram(before: Sequence[int], after: Sequence[int], thresholds: Sequence[tuple[float, int]]) -> str:
    """SVG of two histograms over the same bins, `after` in front. Heights are square roots of counts, so that the few
    are seen beside the many. `thresholds`: (place from 0 to 1 of the width, number of the colour) each."""
    most = max([1, *before]) ** 0.5
    width = WIDTH / len(before)
    marks = [
        f'<rect x="{index * width:.1f}" y="{HEIGHT - high:.1f}" width="{width:.1f}" height="{high:.1f}" fill="{fill}"/>'
        for counts, fill in ((before, "var(--c4)"), (after, "var(--c0)"))
        for index, count in enumerate(counts)
        if (high := HEIGHT * count**0.5 / most) > 0
    ]
    marks.append(f'<line x1="0" x2="{WIDTH}" y1="{HEIGHT}" y2="{HEIGHT}" stroke="var(--line)"/>')
    for place, colour in thresholds:
        x = f"{place * WIDTH:.1f}"
        marks.append(
            f'<line x1="{x}" x2="{x}" y1="0" y2="{HEIGHT}" stroke="var(--c{colour})" stroke-width="1.5" '
            'stroke-dasharray="4 3"/>'
        )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 1}" role="img">{"".join(marks)}</svg>'
