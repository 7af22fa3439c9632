"""The report's audit and records: each claim with what was seen, each stage with its command, numbers and hashes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from zhen.audit.report import MARKS
from zhen.console import duration, size
from zhen.formats.record import Figure, Record
from zhen.pages.parts import Code, Fold, Part, State, Table, Text, Words
from zhen.release.collect import clean
from zhen.release.report_glosses import claim_words, evidence_words
from zhen.release.report_names import stage_name
from zhen.release.summary import Run

OUTPUTS = 60
"""Most outputs of a stage that are listed; the record has all."""


def audit(run: Run) -> Iterator[Part]:
    """The claims of the release with what was seen on its files."""
    findings = run.audit()
    if not findings:
        return
    yield Text(
        Words(
            "What the release says about itself, each claim checked on its files. To check again, in the run's folder:",
            "发布对自身的每条声明，逐一用文件核对。要再查一遍，在运行的文件夹里：",
        )
    )
    yield Code("zhen audit release")
    states: dict[str, State] = {"holds": True, "fails": False, "could not be checked": None}
    rows = []
    for found in findings:
        seen: str = evidence_words(found["evidence"])
        if found["fix"] and found["verdict"] != "holds":
            seen = f"{found['evidence']} → {found['fix']}"
        rows.append((MARKS[found["verdict"]], claim_words(found["claim"]), seen, found["id"]))
    columns = ("", Words("claim", "声明"), Words("what was seen", "所见"), Words("check", "检查"))
    yield Table(columns, rows, [states[found["verdict"]] for found in findings])


def records(run: Run) -> Iterator[Part]:
    """A fold a stage."""
    if run.records:
        yield Text(
            Words(
                "Per stage: the command that made it, how long it took, its numbers, and its files with their hashes. "
                "The key stands for all that the stage depends on: settings, inputs, version. Names of numbers and "
                "units are the record's own.",
                "每个阶段：所用的命令、用时、数字，以及各文件的哈希值。key 代表该阶段所依赖的一切：设置、输入、版本。"
                "数字的名称与单位照记录原样，为英文。",
            )
        )
    for stage, record in run.records.items():
        name, rest = stage_name(stage), f" · {duration(record.seconds)} · key {record.key[:8]}"
        yield Fold(Words(name + rest, name.zh + rest), list(_record(record)))


def _record(record: Record) -> Iterator[Part]:
    yield Code(clean(shlex.join(record.command)))
    host = record.host
    again = Words("", "")
    if record.resumed:
        again = Words(f", gone on with {record.resumed} times after a stop", f"，中断后续做 {record.resumed} 次")
    machine = f"{host.cpu}{', ' + host.gpu if host.gpu else ''}"
    yield Text(
        Words(
            f"Started {record.started}, {record.seconds:,.1f} s{again}; {machine}, {host.threads} of {host.cores} "
            f"cores, {size(host.memory)} memory.",
            f"始于 {record.started}，用时 {record.seconds:,.1f} 秒{again.zh}；{machine}，{host.cores} 核中用 "
            f"{host.threads} 核，内存 {size(host.memory)}。",
        )
    )
    if record.figures:
        columns = (
            Words("figure", "数字"),
            Words("value", "值"),
            Words("unit", "单位"),
            "n",
            Words("± error", "± 误差"),
        )
        figures = [_figure_row(*item) for item in record.figures.items()]
        filled = [place for place in range(len(columns)) if any(row[place] for row in figures)]
        yield Table([columns[place] for place in filled], [[row[place] for place in filled] for row in figures])
    if record.outputs:
        rows: list[tuple[str, ...]] = [
            (out.path, f"{out.bytes:,}", out.kind, out.sha256[:16]) for out in record.outputs[:OUTPUTS]
        ]
        if len(record.outputs) > OUTPUTS:
            more = len(record.outputs) - OUTPUTS
            rows.append((Words(f"and {more:,} more in record.json", f"另有 {more:,} 个，见 record.json"), "", "", ""))
        yield Table((Words("file", "文件"), Words("bytes", "字节"), Words("kind", "种类"), "SHA-256"), rows)


def _figure_row(name: str, figure: Figure) -> tuple[str, str, str, str, str]:
    return (
        name,
        _plain(figure.value),
        figure.unit,
        f"{figure.n:,}" if figure.n is not None else "",
        f"{figure.stderr:.3g}" if figure.stderr is not None else "",
    )


def _plain(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {True: Words("yes", "是"), False: Words("no", "否"), None: "–"}.get(value, str(value))
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.5g}"
