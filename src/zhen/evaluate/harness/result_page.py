"""A result as one HTML page: scores with error bars, subjects, paired differences, items to browse, how it was made."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zhen.evaluate.harness.own import suites
from zhen.evaluate.harness.result import Loaded, load_result
from zhen.evaluate.items import NATS, Item, figure
from zhen.evaluate.longcontext.pictures import long_context
from zhen.evaluate.settings import LONG_CONTEXT
from zhen.formats.files import write_text
from zhen.pages.page import html_page
from zhen.pages.parts import Code, Fold, Part, Score, Scores, Section, Table, Text, Words

PAGE = "results.html"

SHOWN = 12
"""Items of a task and model on the page, wrong ones first; `items.jsonl` has all."""

LETTERS = 1500
"""Of a prompt, from its end."""


def write_page(folder: Path) -> Path:
    """Write the page of the result in `folder`; returns its path."""
    loaded = load_result(folder)
    models = list(loaded.result.models)
    title = Words(f"Scores of {', '.join(models)}", f"{'、'.join(models)} 的得分")
    sections = [
        Section(heading, parts)
        for heading, parts in (
            (Words("Scores", "得分"), list(_scores(loaded))),
            (Words("Long context", "长文本"), list(long_context(_results(loaded)))),
            (Words("Table", "总表"), list(_table(loaded))),
            (Words("Pairs", "两两比较"), list(_pairs(loaded))),
            (Words("In the training text", "在训练文本中"), list(_in_training(loaded))),
            (Words("Subjects", "科目"), list(_subjects(loaded))),
            (Words("Items", "题目"), list(_items(loaded))),
            (Words("How it was made", "如何得出"), list(_how(loaded))),
        )
        if parts
    ]
    text = html_page(title, [Text(_lead(loaded))], sections)
    path = folder / PAGE
    write_text(path, text)
    return path


def _lead(loaded: Loaded) -> Words:
    count = sum(map(len, loaded.items.values()))
    return Words(
        f"{count:,} answers, every one in items.jsonl with prompt, log-probabilities and hashes. Bars show the score "
        "and two standard errors to either side, items that share a passage clustered; the mark is where guessing is.",
        f"共 {count:,} 个回答，每个都连同提示、对数概率与哈希值记录在 items.jsonl 中。条形为得分，"
        "两侧误差线各为两个标准误；竖线为靠猜的水平。同一篇章的题目按一组计算。",
    )


def _results(loaded: Loaded) -> dict[str, dict[str, dict[str, Any]]]:
    return {name: model.results for name, model in loaded.result.models.items()}


def _scores(loaded: Loaded) -> Iterator[Part]:
    for task, how in loaded.result.tasks.items():
        if how.score == NATS:
            continue
        rows = [(name, model.results[task]) for name, model in loaded.result.models.items()]
        first = rows[0][1]
        bars = [Score(name, row["score"], row["stderr"], _text(row), at % 6) for at, (name, row) in enumerate(rows)]
        title = Words(
            f"{task} · {first['metric']} · {how.shots} shot{'s' * (how.shots != 1)} · {first['n']:,} items",
            f"{task} · {first['metric']} · {how.shots} 个示例 · {first['n']:,} 题",
        )
        yield Scores(title, bars, first["chance"])


def _table(loaded: Loaded) -> Iterator[Part]:
    columns = [
        Words("model", "模型"),
        Words("task", "任务"),
        Words("metric", "指标"),
        Words("score, % or nats", "得分（% 或奈特）"),
        Words("mean of subjects", "科目平均"),
        Words("items", "题数"),
        Words("cut prompts", "被截断的提示"),
        Words("seconds", "秒"),
    ]
    rows = [
        (
            name,
            task,
            metric,
            figure(value["score"], metric)
            + ("" if value["stderr"] is None else f" ± {figure(value['stderr'], metric)}"),
            figure(row["macro"], metric)
            if row["parts"] and metric == row["metric"] and task not in LONG_CONTEXT
            else "–",
            f"{value['n']:,}",
            f"{row['truncated']:,}",
            f"{row['seconds']:.1f}",
        )
        for name, model in loaded.result.models.items()
        for task, row in model.results.items()
        for metric, value in row["metrics"].items()
    ]
    yield Table(columns, rows)
    for name in loaded.result.options.suites:
        yield from _suite(loaded, name)


def _suite(loaded: Loaded, name: str) -> Iterator[Part]:
    """The columns of a published table: the mean of the tasks of each."""
    suite = suites()[name]
    columns = list(dict.fromkeys(entry.column for entry in suite.tasks))
    rows = []
    for model, measured in loaded.result.models.items():
        cells = []
        for column in columns:
            tasks = [entry.task for entry in suite.tasks if entry.column == column]
            found = [measured.results[task]["score"] for task in tasks if task in measured.results]
            mark = "" if len(found) == len(tasks) else f" ({len(found)}/{len(tasks)})"
            cells.append(f"{100 * sum(found) / len(found):.1f}{mark}" if found else "–")
        rows.append((model, *cells))
    yield Text(f"{name}: {suite.about}")
    yield Table([Words("model", "模型"), *columns], rows)
    if suite.missing:
        yield Text(Words(f"Without {', '.join(suite.missing)}.", f"不含 {'、'.join(suite.missing)}。"))


def _pairs(loaded: Loaded) -> Iterator[Part]:
    if not loaded.result.paired:
        return
    yield Text(
        Words(
            "Differences on the same items, in points (a loss: nats), with the standard error of the difference; p is "
            "two-sided.",
            "同一批题目上的差值（百分点；损失为奈特）及其标准误；p 为双侧。",
        )
    )
    columns = [
        Words("task", "任务"),
        Words("difference", "差"),
        Words("points", "百分点"),
        "±",
        "p",
        Words("items", "题数"),
    ]
    rows = [
        (
            row["task"],
            f"{row['second']} − {row['first']}",
            f"{'+' if row['difference'] > 0 else ''}{figure(row['difference'], row['metric'])}",
            "–" if row["stderr"] is None else figure(row["stderr"], row["metric"]),
            "–" if row["p"] is None else "<0.0001" if row["p"] < 0.0001 else f"{row['p']:.4f}",
            f"{row['n']:,}",
        )
        for row in loaded.result.paired
    ]
    yield Table(columns, rows)


def _in_training(loaded: Loaded) -> Iterator[Part]:
    """How many questions stand in the training text, where that is known."""
    rows = [
        (
            name,
            task,
            f"{row['n']:,}",
            f"{row['in_training']:,}",
            _text(row),
            _text(row["unseen"]) if row["unseen"] else "–",
        )
        for name, model in loaded.result.models.items()
        for task, row in model.results.items()
        if "in_training" in row
    ]
    if rows:
        columns = [
            Words("model", "模型"),
            Words("task", "任务"),
            Words("items", "题数"),
            Words("in the training text", "在训练文本中"),
            Words("score", "得分"),
            Words("score of the others", "其余题目的得分"),
        ]
        yield Table(columns, rows)


def _subjects(loaded: Loaded) -> Iterator[Part]:
    models = loaded.result.models
    for task in loaded.result.tasks:
        parts = next(iter(models.values())).results[task]["parts"]
        # the cells of a grid have a picture
        if parts and task not in LONG_CONTEXT:
            rows = [
                (part, f"{value['n']:,}", *(_text(model.results[task]["parts"][part]) for model in models.values()))
                for part, value in parts.items()
            ]
            columns = [Words("subject", "科目"), Words("items", "题数"), *models]
            yield Fold(f"{task}: {len(parts)}", [Table(columns, rows)])


def _items(loaded: Loaded) -> Iterator[Part]:
    for name, items in loaded.items.items():
        for task, some in itertools.groupby(items, key=lambda item: item.task):
            metric = loaded.result.tasks[task].score
            if metric == NATS:
                continue
            chosen = sorted(some, key=lambda item: item.scores[metric])
            folds = [Fold(_headline(item, metric), list(_item(item))) for item in _spread(chosen)]
            yield Fold(Words(f"{name} · {task}: {len(folds)} items", f"{name} · {task}：{len(folds)} 题"), folds)


def _spread(items: Sequence[Item]) -> list[Item]:
    """At most SHOWN of sorted items, evenly spread."""
    step = max(1.0, len(items) / SHOWN)
    return [items[int(at * step)] for at in range(min(SHOWN, len(items)))]


def _headline(item: Item, metric: str) -> str:
    mark = {0.0: "✗", 1.0: "✓"}.get(item.scores[metric], f"{item.scores[metric]:.2f}")
    return f"{mark} {item.name}: {' '.join(item.prompts[0][-160:].split())}"


def _item(item: Item) -> Iterator[Part]:
    prompt = item.prompts[0]
    yield Code(("… " if len(prompt) > LETTERS else "") + prompt[-LETTERS:])
    if item.choices:
        best = max(item.logprobs)
        rows = [
            (("→ " if logprob == best else "") + choice.strip(), f"{logprob:.3f}")
            for choice, logprob in zip(item.choices, item.logprobs, strict=True)
        ]
        yield Table([Words("choice", "选项"), Words("log-probability", "对数概率")], rows)
    else:
        yield Code(item.output or " ")
        yield Text("; ".join(f"{name}: {value}" for name, value in item.extracted.items()))
    yield Text(Words(f"Right: {item.target}", f"正确答案：{item.target}"))


def _how(loaded: Loaded) -> Iterator[Part]:
    result = loaded.result
    yield Code(" ".join(map(shlex.quote, result.command)))
    options = result.options
    rows: list[tuple[str, str]] = [
        (Words("BOS", "起始符"), options.bos),
        (Words("batch", "批大小"), str(options.batch)),
        (Words("items of each task", "每个任务的题数"), "all" if options.limit is None else f"{options.limit:,}"),
        (Words("CPU, threads", "处理器，线程"), f"{result.host.cpu}, {result.host.threads}"),
        (Words("seconds", "秒"), f"{result.seconds:.1f}"),
        *((name, version) for name, version in result.versions.items()),
    ]
    for name, model in result.models.items():
        rows.append((name, f"{model.dtype}, {model.device}, context {model.context_length:,}"))
        rows += [(f"{name}/{file}", known) for file, known in model.files.items()]
        rows.append((Words(f"{name}: tokenizer", f"{name}：分词器"), model.tokenizer))
    yield Table([Words("what", "项目"), Words("value", "值")], rows)
    if result.skipped:
        left = ", ".join(result.skipped)
        yield Text(Words(f"Left out for want of files: {left}.", f"缺少文件而略去：{left}。"))


def _text(row: dict[str, Any]) -> str:
    error = "" if row["stderr"] is None else f" ± {100 * row['stderr']:.1f}"
    return f"{100 * row['score']:.1f} %{error}"
