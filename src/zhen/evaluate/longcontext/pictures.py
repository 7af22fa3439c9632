"""Grids and losses by position as parts of a page: pictures, and tables of the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from zhen.evaluate.longcontext.grid import CHOICE, EXACT, NEEDLES
from zhen.evaluate.longcontext.needles import CHOICES
from zhen.pages.charts import Line, line_chart
from zhen.pages.heat import heat_map
from zhen.pages.languages import language
from zhen.pages.parts import Fold, Panel, Panels, Part, Table, Text, Words, chinese

Results = Mapping[str, Mapping[str, Any]]
"""Model -> task -> what it came to."""

METRICS = {CHOICE: Words(f"one of {CHOICES}", f"{CHOICES} 选一"), EXACT: Words("written", "写出")}


def long_context(results: Results, named: Callable[[str], str] = str) -> Iterator[Part]:
    """Pictures of all tasks on long texts among `results`; nothing without any. `named`: a model's name on the page."""
    for task in NEEDLES:
        grids = {model: rows[task]["grid"] for model, rows in results.items() if task in rows}
        if grids:
            yield Text(_about(task))
            # models side by side, each language and way of counting on a line of its own
            for lang in dict.fromkeys(row["lang"] for grid in grids.values() for row in grid):
                for metric in METRICS:
                    yield Panels([_panel(grid, named(model), lang, metric) for model, grid in grids.items()])
            yield Fold(Words("by length", "按长度"), [_table(grids, named)])
    losses = {model: row["positions"] for model, rows in results.items() for row in rows.values() if "positions" in row}
    if losses:
        yield line_chart(
            list(_lines(losses, named)),
            x=Words("tokens before", "前面的词元数"),
            y=Words("nats per token", "每词元的奈特数"),
            octaves=True,
            caption=Words(
                "Loss of the tokens of long documents by how many tokens stand before them; lower is better. A model "
                "that uses what stands far before goes on falling; one that is read beyond its length rises.",
                "长文档中词元的损失，按其前面的词元数；越低越好。会利用远处上文的模型持续下降；超出其长度读下去则上升。",
            ),
        )


def _about(task: str) -> Words:
    count = NEEDLES[task]
    english = "A key of five digits is hidden" if count == 1 else f"{count} keys of five digits are hidden"
    return Words(
        f"{task}: {english} in a text and one asked for at its end. Downwards: per cent of the text in front of it; "
        f"across: tokens of the text. “One of {CHOICES}”: the right key is the likeliest of {CHOICES} (guessing: "
        f"{100 // CHOICES} %); “written”: the model writes it.",
        f"{task}：文本中藏有 {count} 个五位数的钥匙，在末尾问其中一个。纵向：其前面文本所占的百分比；"
        f"横向：文本的词元数。“{CHOICES} 选一”：{CHOICES} 个数中正确的概率最大（靠猜：{100 // CHOICES} %）；"
        "“写出”：由模型写出。",
    )


def _panel(grid: list[dict[str, Any]], model: str, lang: str, metric: str) -> Panel:
    cells = {(row["tokens"], row["depth"]): row for row in grid if row["lang"] == lang}
    lengths = list(dict.fromkeys(length for length, _ in cells))
    depths = [depth for length, depth in cells if length == lengths[0] and depth is not None]
    whole = [cells[length, None] for length in lengths]
    counted = sum(row["n"] for row in whole)
    mean = f"{100 * sum(row[metric] * row['n'] for row in whole) / counted:.1f} %"
    tongue, label = language(lang), METRICS[metric]
    return Panel(
        Words(f"{model} · {tongue} · {label}", f"{chinese(model)} · {tongue.zh} · {label.zh}"),
        heat_map(
            [[cells[length, depth][metric] for length in lengths] for depth in depths],
            [str(depth) for depth in depths],
            [f"{length:,}" for length in lengths],
        ),
        "",
        "",
        Words(f"{mean} of {counted:,} prompts", f"{counted:,} 个提示中的 {mean}"),
    )


def _table(grids: Mapping[str, list[dict[str, Any]]], named: Callable[[str], str]) -> Table:
    columns = [
        Words("model", "模型"),
        Words("language", "语言"),
        Words("tokens", "词元"),
        *(Words(f"{label}, %", f"{label.zh}，%") for label in METRICS.values()),
        Words("prompts", "提示数"),
    ]
    rows = [
        (
            named(model),
            language(row["lang"]),
            f"{row['tokens']:,}",
            *(with_error(row, metric) for metric in METRICS),
            f"{row['n']:,}",
        )
        for model, grid in grids.items()
        for row in grid
        if row["depth"] is None
    ]
    return Table(columns, rows)


def with_error(row: Mapping[str, Any], metric: str) -> str:
    """`63.2 ± 4.1`: a grid's row in per cent."""
    error = row[f"{metric}_stderr"]
    return f"{100 * row[metric]:.1f}" + ("" if error is None else f" ± {100 * error:.1f}")


def _lines(losses: Mapping[str, list[dict[str, Any]]], named: Callable[[str], str]) -> Iterator[Line]:
    for at, (model, rows) in enumerate(losses.items()):
        for colour, lang in enumerate(dict.fromkeys(row["lang"] for row in rows)):
            tongue, name = language(lang), named(model)
            # the middle of a bin, on the axis that doublings divide
            points = [((row["first"] * row["last"]) ** 0.5, row["score"]) for row in rows if row["lang"] == lang]
            label = Words(f"{name}, {tongue}", f"{chinese(name)}，{tongue.zh}")
            yield Line(label, points, colour=(2 * at + colour) % 6, dashed=at % 2 == 1)
