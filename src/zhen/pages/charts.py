"""Charts as inline SVG: drawn by Altair, coloured by the page's own variables so that they follow light and dark."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import altair
import vl_convert

from zhen.pages.parts import Chart, Key, Table, Words

WIDE, NARROW, HEIGHT = 760, 330, 300
"""Sizes in CSS pixels of the whole chart on a screen and on a phone."""

POINTS = 240
"""Most points of a line that are drawn; more can't be seen."""

_COLOURS = {f"#0000f{index}": f"var(--c{index})" for index in range(6)}
_PAPER, _SOFT, _LINE = "#00fa00", "#00fa02", "#00fa03"
_VARIABLES = {**_COLOURS, _PAPER: "none", _SOFT: "var(--soft)", _LINE: "var(--line)"}
"""Stand-ins for the drawer, which knows no CSS variables -> what the page wants."""


@dataclass(frozen=True)
class Line:
    """One line of a chart; a single point is drawn as a dot."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    """Number of its colour, 0 to 5; lines that belong together share one."""
    dashed: bool = False
    """For references beside the lines that are looked at."""


def line_chart(lines: Sequence[Line], *, x: str, y: str, caption: str, octaves: bool = False) -> Chart:
    """Lines over one pair of axes, labelled `x` and `y`, with a legend. Points beyond POINTS a line are left out.

    `octaves`: the x axis, from 1 on, gives every doubling the same width.
    """
    thinned = [(line, thin(line.points, POINTS)) for line in lines if line.points]
    svgs = [_draw(thinned, width, octaves) for width in (WIDE, NARROW)]
    rows = [(line.name, f"{at:,.0f}", f"{value:.4g}") for line, points in thinned for at, value in thin(points, 12)]
    keys = [Key(line.name, line.colour, line.dashed, dot=len(points) == 1) for line, points in thinned]
    return Chart(svgs[0], svgs[1], caption, Table([Words("line", "曲线"), x, y], rows), x, y, keys)


@dataclass(frozen=True)
class Interval:
    """A value with the interval that it lies in, in a row of its own."""

    name: str
    value: float
    half: float | None
    """Half the interval's width; None where nothing is known of it."""
    colour: int = 0
    """As a line's."""


def interval_chart(rows: Sequence[Interval], *, x: str, caption: str, keys: Sequence[Key] = ()) -> Chart:
    """Dots with their intervals below each other, over one axis labelled `x` on which zero is marked.

    Names stand in the drawing, so they should be the same in all languages; what is too long of them is cut off.
    """
    svgs = [_draw_intervals(rows, width) for width in (WIDE, NARROW)]
    known = [(row.name, f"{row.value:+.4g}", "–" if row.half is None else f"± {row.half:.2g}") for row in rows]
    return Chart(svgs[0], svgs[1], caption, Table(["", x, Words("interval", "区间")], known), x, "", keys)


def _draw_intervals(rows: Sequence[Interval], width: int) -> str:
    values = [
        {
            "name": row.name,
            "value": row.value,
            "low": row.value - (row.half or 0.0),
            "high": row.value + (row.half or 0.0),
            "colour": row.colour,
        }
        for row in rows
    ]
    most = width // 3
    room = min(most, 8 * max(len(row.name) for row in rows))
    base = altair.Chart(altair.Data(values=values), width=width - room - 40, height=26 * len(rows))
    colours = altair.Scale(domain=list(range(len(_COLOURS))), range=list(_COLOURS))
    ticks = altair.Axis(tickCount=width // 110, format="+.3~g", labelExpr="datum.value ? datum.label : '0'")
    across = altair.X("value:Q", title=None, axis=ticks)
    names = altair.Axis(labelLimit=0.75 * most, grid=True, ticks=False, labelPadding=8)
    down = altair.Y("name:N", title=None, sort=None, axis=names)
    colour = altair.Color("colour:N", scale=colours, legend=None)
    zero = altair.Chart(altair.Data(values=[{"zero": 0}])).mark_rule(color=_SOFT, strokeDash=[4, 4]).encode(x="zero:Q")
    bars = base.mark_rule(strokeWidth=3).encode(x=altair.X("low:Q", title=None), x2="high:Q", y=down, color=colour)
    dots = base.mark_circle(size=110, opacity=1).encode(x=across, y=down, color=colour)
    return _svg(altair.layer(zero, bars, dots, background=_PAPER))


def thin(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most that many of the points, evenly chosen, the last one among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(index * (len(points) - 1) / (most - 1))] for index in range(most)]


def _draw(lines: Sequence[tuple[Line, Sequence[tuple[float, float]]]], width: int, octaves: bool) -> str:
    """The SVG. Words are left to the page, which knows both languages: here are lines and numbers only."""
    rows = [{"x": at, "y": value, "line": number} for number, (_, points) in enumerate(lines) for at, value in points]
    numbers = list(range(len(lines)))
    end = max(at for _, points in lines for at, _ in points)

    def scale(values: Sequence[object]) -> altair.Scale:
        return altair.Scale(domain=numbers, range=list(values))

    # "0M" is what the format makes of zero
    axis = altair.Axis(tickCount=width // 110, format="~s", labelExpr="datum.value ? datum.label : '0'")
    across = altair.Scale(domain=[0, end], nice=False)
    if octaves:
        axis = altair.Axis(tickCount=width // 60, format=",d")
        across = altair.Scale(type="log", base=2, domain=[1, end], nice=False)
    colours = [f"#0000f{line.colour}" for line, _ in lines]
    dashes = [[4, 4] if line.dashed else [1, 0] for line, _ in lines]
    alone = [number for number, (_, points) in enumerate(lines) if len(points) == 1]
    base = altair.Chart(altair.Data(values=rows), width=width - 60, height=HEIGHT)
    dots = base.mark_circle(size=90, opacity=1).transform_filter(altair.FieldOneOfPredicate("line", alone))
    chart = altair.layer(*(base.mark_line(), *([dots] if alone else [])), background=_PAPER).encode(
        x=altair.X("x:Q", title=None, axis=axis, scale=across),
        y=altair.Y("y:Q", title=None, scale=altair.Scale(zero=False, nice=True)),
        color=altair.Color("line:N", scale=scale(colours), legend=None),
        strokeDash=altair.StrokeDash("line:N", scale=scale(dashes), legend=None),
    )
    return _svg(chart)


def _svg(chart: altair.LayerChart) -> str:
    """The chart in the page's look."""
    dressed = (
        chart.configure(font="sans-serif")
        .configure_view(stroke=None)
        .configure_axis(labelColor=_SOFT, gridColor=_LINE, domainColor=_LINE, tickColor=_LINE)
    )
    return _recolour(vl_convert.vegalite_to_svg(dressed.to_json()))


def _recolour(svg: str) -> str:
    """Put the page's variables in, let the page decide the size, keep out what asks for something elsewhere."""
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    svg = re.sub(r' xmlns:xlink="[^"]*"| xmlns="[^"]*"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r'\1 role="img"', svg, count=1)
    return re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]), svg)
