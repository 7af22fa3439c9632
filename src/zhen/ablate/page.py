"""The page of an ablation: verdict, table, losses drawn, fits, every run; HTML in two languages, and Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zhen.ablate import words
from zhen.ablate.results import ALL, Comparison, languages
from zhen.formats.files import write_text
from zhen.pages.charts import Interval, Line, interval_chart, line_chart
from zhen.pages.page import html_page, markdown_page
from zhen.pages.parts import Code, Key, Part, Section, Table, Verdict, Words

if TYPE_CHECKING:
    from zhen.ablate.run import Ablation

HTML, MARKDOWN = "ablation.html", "ablation.md"

COLOURS = 6
"""Of lines; more begin again."""


def write_pages(ablation: Ablation, folder: Path) -> None:
    """Write HTML and MARKDOWN."""
    title = Words(f"{ablation.name}: what the choices make", f"{ablation.name}：各种选择的效果")
    lead: list[Part] = [Verdict(state, text) for state, text in verdicts(ablation)]
    sections = [
        Section(heading, parts)
        for heading, parts in (
            (Words("Points", "设置"), list(_points(ablation))),
            (Words("Losses", "损失"), list(_losses(ablation))),
            (Words("Runs", "运行"), list(_runs(ablation))),
            (Words("Again", "重做"), [Code(" ".join(ablation.command))]),
        )
        if parts
    ]
    footer = Words(
        "Bits a byte are of held-out text; ± is the standard deviation over the seeds, and in differences the 95 % "
        "interval, paired by seed, Student's t, for all comparisons of a language at once.",
        "每字节比特数在留出文本上测得；± 是各种子间的标准差，差值的 ± 是 95 % 区间"
        "（按种子配对的 t 检验，已按比较次数修正）。",
    )
    write_text(folder / HTML, html_page(title, lead, sections, footer))
    write_text(folder / MARKDOWN, markdown_page(title, lead, sections, footer))


def verdicts(ablation: Ablation) -> Iterator[tuple[bool | None, Words]]:
    """The answers, and whether each is good: only a prediction can be wrong."""
    if ablation.comparisons:
        yield None, words.verdict(ablation.points, ablation.comparisons)
    if ablation.mixture is not None:
        yield ablation.mixture.confirmed, words.mixture_verdict(ablation.mixture)
    if ablation.scaling is not None:
        yield ablation.scaling.inside, words.scaling_verdict(ablation.scaling)


def table_of(ablation: Ablation) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the points."""
    compared = bool(ablation.comparisons)
    beside = {each.point: each for each in ablation.comparisons if each.language == ALL}
    return words.columns(compared), [words.row(point, beside.get(point.name), compared) for point in ablation.points]


def _points(ablation: Ablation) -> Iterator[Part]:
    yield Table(*table_of(ablation))
    yield Table(
        [Words("point", "设置"), Words("what it sets", "所设的值")],
        [[point.name, words.changes(point.set) or "–"] for point in ablation.points],
    )
    found = {(each.point, each.language): each for each in ablation.comparisons}
    names = [name for name in languages(ablation.points) if name != ALL]
    yield Table(
        [Words("point", "设置"), *words.by_language(names, bool(found))],
        [
            [
                point.name,
                *words.of_languages(point, [(name, found.get((point.name, name))) for name in names], bool(found)),
            ]
            for point in ablation.points
        ],
    )


def _losses(ablation: Ablation) -> Iterator[Part]:
    """Losses over what is searched: the share of the first of two sources, or FLOPs with a line for each size.

    Points with names lie on no line: what each makes of it beside the first, with its interval.
    """
    points = [point for point in ablation.points if point.mean(ALL) is not None]
    lines: list[Line] = []
    x = Words("FLOPs", "计算量")
    if ablation.mixture is not None and len(ablation.mixture.shares) == 2:
        source = next(iter(ablation.mixture.shares))
        x = Words(f"share of {source} in %", f"{source} 的份额（%）")
        for colour, name in enumerate(languages(points)):
            label = Words("mean of the languages", "各语言平均") if name == ALL else name
            found = [(point.shares[source] * 100, point.mean(name)) for point in points]
            lines.append(_line(label, found, colour))
    elif ablation.scaling is not None:
        for colour, size in enumerate(sorted({point.parameters for point in points})):
            found = [(point.flops, point.mean(ALL)) for point in points if point.parameters == size]
            lines.append(_line(Words(f"{size / 1e6:.2f} M parameters", f"{size / 1e6:.2f} M 参数"), found, colour))
    elif beside := [each for each in ablation.comparisons if each.language == ALL and each.difference is not None]:
        yield _beside_the_first(ablation.points[0].name, beside)
    if lines:
        caption = Words("Held-out bits a byte, mean over the seeds.", "留出文本每字节比特数，各种子的平均。")
        yield line_chart(lines, x=x, y=Words("bits a byte", "每字节比特"), caption=caption)


def _beside_the_first(first: str, found: Sequence[Comparison]) -> Part:
    rows = [
        Interval(each.point, each.difference, each.half_width, 1 if each.verdict in ("lower", "higher") else 0)
        for each in found
        if each.difference is not None
    ]
    keys = [Key(Words("not told apart", "分不出"), 0, dot=True), Key(Words("differs", "有差别"), 1, dot=True)]
    return interval_chart(
        rows,
        x=Words(f"bits a byte more than {first}", f"每字节比特数，与 {first} 之差"),
        caption=Words(
            "Held-out bits a byte beside the first point, mean of the languages, with 95 % intervals. Left is better.",
            "留出文本每字节比特数与第一个设置之差，各语言平均，附 95 % 区间。越靠左越好。",
        ),
        keys=[key for key in keys if key.colour in {row.colour for row in rows}],
    )


def _line(name: str, found: Sequence[tuple[float, float | None]], colour: int) -> Line:
    return Line(name, sorted((at, mean) for at, mean in found if mean is not None), colour % COLOURS)


def _runs(ablation: Ablation) -> Iterator[Part]:
    names = languages(ablation.points)
    rows = [
        [
            point.name,
            str(each.seed),
            *(f"{each.bits_per_byte[name]:.4f}" if name in each.bits_per_byte else "–" for name in names),
            each.diverged or "",
        ]
        for point in ablation.points
        for each in point.outcomes
    ]
    measured = [Words("bits a byte", "每字节比特") if name == ALL else Words(name, name) for name in names]
    yield Table([Words("point", "设置"), Words("seed", "种子"), *measured, Words("diverged", "发散")], rows)
