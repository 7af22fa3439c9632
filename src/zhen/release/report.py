"""The run's report, `report.html` and `report.md` from the same parts: what came out, and where each number is from."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zhen.audit.report import MARKS
from zhen.console import duration, size
from zhen.formats.files import write_text
from zhen.formats.record import Figure, Record
from zhen.pages.charts import Line, line_chart
from zhen.pages.page import html_page, markdown_page
from zhen.pages.parts import Bars, Code, Excerpt, Facts, Fold, Part, Section, State, Table, Text, Verdict
from zhen.release.collect import clean
from zhen.release.summary import (
    KNESER_NEY,
    MARGIN,
    XZ,
    Run,
    audit_sentence,
    language,
    left_out,
    samples,
    summary_rows,
)

__all__ = ["samples", "summary_rows", "write_report"]

OUTPUTS = 60
"""Most outputs of a stage that are listed; the record has all."""


TITLE = 50
"""Characters of a prompt in the line that opens it."""


def write_report(run_folder: Path, records: Mapping[str, Record], stages: Mapping[str, Path]) -> None:
    """Write both files into the run folder. Stages that the run does not have leave their section out."""
    run = Run(records, stages)
    name = str(run_folder.resolve().name)
    lead = [_verdict(run), _facts(run)]
    sections = [
        section
        for section in (
            Section("Funnel", list(_funnel(run))),
            Section("Loss curves", list(_curves(run))),
            Section("Held-out text", list(_held_out(run))),
            Section("Samples", list(_samples(run))),
            Section("Audit", list(_audit(run))),
            Section("Records", list(_records(run))),
        )
        if section.parts
    ]
    footer = "Every number here stands in a record; the records name the command, the versions and the hashes."
    write_text(run_folder / "report.html", html_page(f"{name}: from pages to a release", lead, sections, footer))
    write_text(run_folder / "report.md", markdown_page(f"{name}: from pages to a release", lead, sections, footer))


def _verdict(run: Run) -> Verdict:
    if not (sentence := audit_sentence(run)):
        return Verdict(None, "This run has no release yet.")
    return Verdict(bool(run.figure("release", "audit_passed")), f"Audit of the release {sentence}.")


def _facts(run: Run) -> Part:
    return Facts(summary_rows(run.records, run.stages))


def _funnel(run: Run) -> Iterator[Part]:
    drops = run.funnel()
    read = sum(drop.documents for drop in drops)
    if not read:
        return
    kept = sum(drop.documents for drop in drops if not drop.rule)
    rules = left_out(drops)
    yield Text(f"{read:,} documents were read. A document is left out by the first rule that it breaks.")
    yield Bars(
        [(rule, count / read, f"{count:,} · {100 * count / read:.1f} %") for rule, count in [("kept", kept), *rules]]
    )
    langs, where = sorted({drop.lang for drop in drops}), run.thresholds()
    rows = []
    for rule in ["", *(rule for rule, _ in rules)]:
        cells = [[drop for drop in drops if drop.rule == rule and drop.lang == lang] for lang in langs]
        counts = [sum(drop.documents for drop in cell) for cell in cells]
        total = sum(drop.bytes for cell in cells for drop in cell)
        rows.append((rule or "kept", where.get(rule, ""), *(f"{count:,}" for count in counts), size(total)))
    yield Table(("rule", "keeps", *(language(lang) for lang in langs), "text"), rows)
    sources = sorted({drop.source for drop in drops})
    if len(sources) > 1:
        yield Table(("source", "read", "kept"), [_source_row(run, source) for source in sources])


def _source_row(run: Run, source: str) -> tuple[str, str, str]:
    drops = [drop for drop in run.funnel() if drop.source == source]
    kept = sum(drop.documents for drop in drops if not drop.rule)
    return source, f"{sum(drop.documents for drop in drops):,}", f"{kept:,}"


def _curves(run: Run) -> Iterator[Part]:
    rows = run.rows(run.model, "metrics.jsonl")
    updates = [row for row in rows if row["kind"] == "train"]
    measured = [row for row in rows if row["kind"] == "held-out"]
    if not updates:
        return
    per_step = updates[-1]["tokens"] / updates[-1]["step"]
    end = updates[-1]["tokens"]
    langs = list(dict.fromkeys(lang for row in measured for lang in row["bits_per_byte"]))
    lines = []
    for colour, lang in enumerate(langs):
        found = [
            (row["step"] * per_step, row["bits_per_byte"][lang]) for row in measured if lang in row["bits_per_byte"]
        ]
        lines.append(Line(f"held-out, {language(lang)}", found, colour=colour))
        for reference, label in ((KNESER_NEY, "5-gram"), (XZ, "xz -9")):
            if lang in (bits := run.bits(reference)):
                lines.append(
                    Line(f"{label}, {language(lang)}", [(0, bits[lang]), (end, bits[lang])], True, colour=colour)
                )
    if lines:
        yield line_chart(
            lines,
            x="tokens trained on",
            y="bits per byte",
            caption="Bits per byte of documents that training never sees; lower is better. The curves are taken on a "
            "part of the held-out documents, the references (broken lines) on all of them.",
        )
    points = [(row["tokens"], row["loss"]) for row in updates]
    yield line_chart(
        [Line("training loss", points, colour=4)],
        x="tokens trained on",
        y="nats per token",
        caption="Loss of each update on its own tokens.",
    )


def _held_out(run: Run) -> Iterator[Part]:
    record = run.records.get("evaluate")
    models = run.models()
    if record is None or not models:
        return
    langs = list(dict.fromkeys(lang for model in models for lang in run.bits(model)))
    yield Text("Bits per byte on all held-out documents, ± standard error over documents; lower is better.")
    rows = [
        (_model_name(model), *(_cell(record.figures.get(f"bits_per_byte.{model}.{lang}")) for lang in langs))
        for model in models
    ]
    margins = [record.figures.get(MARGIN + lang) for lang in langs]
    if any(margins):
        rows.append(("margin over the 5-gram model, %", *(_cell(margin, 1) for margin in margins)))
    yield Table(("", *(language(lang) for lang in langs)), rows)


def _model_name(model: str) -> str:
    names = {KNESER_NEY: "5-gram model (Kneser-Ney, same tokens)", XZ: "xz -9"}
    stage, _, step = model.partition(":")
    return names.get(model) or (f"{stage}, step {step}" if step else stage)


def _cell(figure: Figure | None, decimals: int = 3) -> str:
    if figure is None or not isinstance(figure.value, int | float):
        return "–"
    error = f" ± {figure.stderr:.{decimals}f}" if figure.stderr is not None else ""
    return f"{figure.value:.{decimals}f}{error}"


def _samples(run: Run) -> Iterator[Part]:
    rows = run.rows(run.model, "samples.jsonl")
    last = max((row["step"] for row in rows), default=0)
    prompts = list(dict.fromkeys((row["lang"], row["prompt"]) for row in rows))
    if prompts:
        yield Text("The beginnings of held-out documents, continued greedily by the model as training went on.")
    shown: set[str] = set()
    for lang, prompt in prompts:
        own = [row for row in rows if (row["lang"], row["prompt"]) == (lang, prompt)]
        excerpt = Excerpt(prompt, [(_moment(row["step"], last), row["continuation"]) for row in own], lang)
        yield Fold(_title(lang, prompt), [excerpt]) if lang in shown else excerpt
        shown.add(lang)
    for row in run.rows("evaluate", "items/pretrain/samples.jsonl"):
        texts = [("the model", row["text"]), ("the document", row["original"])]
        yield Fold(
            _title(f"{row['source']}, {row['lang']}", row["prompt"]), [Excerpt(row["prompt"], texts, row["lang"])]
        )


def _title(where: str, prompt: str) -> str:
    words = " ".join(prompt.split())
    return f"{language(where)}: {words[:TITLE]}{'…' if len(words) > TITLE else ''}"


def _moment(step: int, last: int) -> str:
    return f"step {step:,} ({100 * step / last:.0f} %)" if last else f"step {step:,}"


def _audit(run: Run) -> Iterator[Part]:
    findings = run.audit()
    if not findings:
        return
    yield Text(
        "What the release says about itself, each claim checked on its files. The same again: zhen audit release"
    )
    states: dict[str, State] = {"holds": True, "fails": False, "could not be checked": None}
    rows = []
    for found in findings:
        fix = f" → {found['fix']}" if found["fix"] and found["verdict"] != "holds" else ""
        rows.append((MARKS[found["verdict"]], found["id"], found["claim"], found["evidence"] + fix))
    yield Table(("", "check", "claim", "evidence"), rows, [states[found["verdict"]] for found in findings])


def _records(run: Run) -> Iterator[Part]:
    if run.records:
        yield Text(
            "Per stage: the command that made it, how long it took, its numbers, and its files with their hashes."
        )
    for stage, record in run.records.items():
        summary = f"{stage} · {duration(record.seconds)} · key {record.key[:8]}"
        yield Fold(summary, list(_record(record)))


def _record(record: Record) -> Iterator[Part]:
    yield Code(clean(shlex.join(record.command)))
    host = record.host
    again = f", gone on with {record.resumed} times after a stop" if record.resumed else ""
    yield Text(
        f"Started {record.started}, {record.seconds:,.1f} s{again}; {host.cpu}, {host.threads} of {host.cores} cores"
        f"{', ' + host.gpu if host.gpu else ''}, {size(host.memory)} memory."
    )
    if record.figures:
        yield Table(
            ("figure", "value", "unit", "n", "± error"), [_figure_row(*item) for item in record.figures.items()]
        )
    if record.outputs:
        rows: list[tuple[str, ...]] = [
            (out.path, f"{out.bytes:,}", out.kind, out.sha256[:16]) for out in record.outputs[:OUTPUTS]
        ]
        if len(record.outputs) > OUTPUTS:
            rows.append((f"and {len(record.outputs) - OUTPUTS} more in record.json", "", "", ""))
        yield Table(("file", "bytes", "kind", "SHA-256"), rows)


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
