"""The report's answers to questions: shares of right ones with their errors, beside guessing and the other controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zhen.pages.languages import language
from zhen.pages.parts import Fold, Part, Score, Scores, Table, Text, Words
from zhen.release.report_names import METRICS, model_name, question_title
from zhen.release.summary import NEVER_ASKED, Run

CHANCE = "chance"

COLOURS = {"kneser-ney": 1, "most-frequent": 5, "pretrain": 2}
"""Of controls and of the model before tuning; the model has 0, the model before training 4."""

Row = Mapping[str, Any]


def answers(run: Run) -> Iterator[Part]:
    """A group of bars for each kind, language and metric: what was never asked first."""
    rows = run.questions()
    if not rows:
        return
    yield Text(
        Words(
            "Shares of right answers. Exact answer: the model writes the answer itself, letter by letter; one of four: "
            "of four answers it finds the right one likeliest. The dotted mark is guessing; ± is one standard error, "
            "clustered by fact, and the line through a bar's end shows two to either side. What the model has not "
            "learnt stands here too.",
            "答对的比例。“答案完全一致”：模型自己写出答案，逐字相同；“四选一”：四个答案中，模型给正确答案的概率最大。点线为"
            "随机猜；± 为一个标准误（按事实聚类），条末的横线为左右各两个标准误。没有学会的也列在这里。",
        )
    )
    kinds = sorted({row["kind"] for row in rows}, key=lambda kind: (kind != NEVER_ASKED, kind))
    for kind in kinds:
        groups = [_group(run, kind, *key, some) for key, some in _grouped(rows, kind).items()]
        if kind == NEVER_ASKED or len(kinds) == 1:
            yield from groups
        else:
            yield Fold(_folded(run, kind, rows), groups)
    yield from _in_training(run)


def _grouped(rows: Sequence[Row], kind: str) -> dict[tuple[str, str, str], list[Row]]:
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row["kind"] == kind:
            found.setdefault((row["set"], row["lang"], row["metric"]), []).append(row)
    return found


def _group(run: Run, kind: str, name: str, lang: str, metric: str, rows: Sequence[Row]) -> Scores:
    first = rows[0]
    title = question_title(kind, name)
    measured, tongue = METRICS.get(metric, Words(metric, metric)), language(lang)
    bars = []
    for row in sorted(rows, key=lambda row: bool(row["model"] != run.model)):
        if row["model"] == CHANCE:
            continue
        error = row["stderr"]
        text = f"{100 * row['score']:.1f} %" + (f" ± {100 * error:.1f}" if error is not None else "")
        own = row["model"] == run.model
        colour = 0 if own else COLOURS.get(row["model"], 4)
        bars.append(Score(model_name(row["model"], run.model), row["score"], error, text, colour))
    guess = 100 * first["chance"]
    return Scores(
        Words(
            f"{title} · in {tongue} · {measured} ({first['n']:,} questions, guessing {guess:.0f} %)",
            f"{title.zh} · 用{tongue.zh}问 · {measured.zh}（{first['n']:,} 题，靠猜 {guess:.0f} %）",
        ),
        bars,
        first["chance"],
    )


def _folded(run: Run, kind: str, rows: Sequence[Row]) -> Words:
    """The line that opens a kind: what the model comes to by language."""
    own = [row for row in rows if row["kind"] == kind and row["model"] == run.model and row["metric"] == "exact"]
    title = question_title(kind, kind)
    english = [f"{100 * row['score']:.0f} % in {language(row['lang'])}" for row in own]
    chinese = [f"用{language(row['lang']).zh}问 {100 * row['score']:.0f} %" for row in own]
    if not own:
        return title
    guess = 100 * sum(row["chance"] for row in own) / len(own)
    return Words(
        f"{title}: exact answers {', '.join(english)} (guessing: {guess:.0f} %)",
        f"{title.zh}：完全答对，{'，'.join(chinese)}（靠猜：{guess:.0f} %）",
    )


def _in_training(run: Run) -> Iterator[Part]:
    """How many of the questions the training text holds."""
    found = run.json("evaluate", "results.json").get("questions-in-training") or []
    if not found:
        return
    yield Text(
        Words(
            "How many of the questions stand in the training text word for word, and how many of them with the right "
            "answer behind:",
            "有多少道题逐字出现在训练文本中，其中多少道后面跟着正确答案：",
        )
    )
    columns = (
        Words("questions", "题目"),
        Words("language", "语言"),
        Words("number", "题数"),
        Words("in the training text", "在训练文本中"),
        Words("with the answer", "连同答案"),
    )
    cells = [
        (
            question_title(row["kind"], row["set"]),
            language(row["lang"]),
            f"{row['n']:,}",
            f"{row['questions']:,}",
            f"{row['pairs']:,}",
        )
        for row in found
    ]
    yield Table(columns, cells)
