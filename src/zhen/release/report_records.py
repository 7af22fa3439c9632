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
            "What the release says about itself, each claim checked on its files. The same again: zhen audit release",
            "发布对自身的每条声明，逐一用文件核对。再查一遍：zhen audit release",
        )
    )
    states: dict[str, State] = {"holds": True, "fails": False, "could not be checked": None}
    rows = []
    for found in findings:
        fix = f" → {found['fix']}" if found["fix"] and found["verdict"] != "holds" else ""
        rows.append((MARKS[found["verdict"]], found["claim"], found["evidence"] + fix, found["id"]))
    columns = ("", Words("claim", "声明"), Words("what was seen", "所见"), Words("check", "检查"))
    yield Table(columns, rows, [states[found["verdict"]] for found in findings])


def records(run: Run) -> Iterator[Part]:
    """A fold a stage."""
    if run.records:
        yield Text(
            Words(
                "Per stage: the command that made it, how long it took, its numbers, and its files with their hashes.",
                "每个阶段：所用的命令、用时、数字，以及各文件的哈希值。",
            )
        )
    for stage, record in run.records.items():
        summary = f"{stage} · {duration(record.seconds)} · key {record.key[:8]}"
        yield Fold(summary, list(_record(record)))


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
        yield Table(
            (Words("figure", "数字"), Words("value", "值"), Words("unit", "单位"), "n", Words("± error", "± 误差")),
            [_figure_row(*item) for item in record.figures.items()],
        )
    if record.outputs:
        rows: list[tuple[str, ...]] = [
            (out.path, f"{out.bytes:,}", out.kind, out.sha256[:16]) for out in record.outputs[:OUTPUTS]
        ]
        if len(record.outputs) > OUTPUTS:
            rows.append((f"and {len(record.outputs) - OUTPUTS} more in record.json", "", "", ""))
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
        return {True: "yes", False: "no", None: "–"}.get(value, str(value))
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.5g}"
