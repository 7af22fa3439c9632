"""The run's report, `report.html` and `report.md` from the same parts: what came out, and where each number is from."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
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
    Drop,
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


LANGUAGES_SHOWN = 4
"""Languages with a column of their own in the funnel; the others share one."""

OTHER = "other"

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
    footer = (
        "Every number here stands in a stage's record, or in a file that a record lists with its hash; the records "
        "also name the command and the versions."
    )
    write_text(run_folder / "report.html", html_page(f"{name}: from pages to a release", lead, sections, footer))
    write_text(run_folder / "report.md", markdown_page(f"{name}: from pages to a release", lead, sections, footer))


def _verdict(run: Run) -> Verdict:
    if not (sentence := audit_sentence(run)):
        return Verdict(None, "This run has no release yet.")
    return Verdict(bool(run.figure("release", "audit_passed")), f"The release's audit: {sentence}.")


def _facts(run: Run) -> Part:
    # the audit has the verdict above
    return Facts([row for row in summary_rows(run.records, run.stages) if row[0] != "audit"])


def _funnel(run: Run) -> Iterator[Part]:
    drops = run.funnel()
    read = sum(drop.documents for drop in drops)
    if not read:
        return
    kept = sum(drop.documents for drop in drops if not drop.rule)
    rules = left_out(drops)
    text = f"{read:,} documents were read. A document is left out by the first rule that it breaks."
    if held := run.held_out():
        text += f" Of those kept, {held:,} are held out to measure on; the model is trained on the rest."
    yield Text(text)
    yield Bars(
        [(rule, count / read, f"{count:,} · {100 * count / read:.1f} %") for rule, count in [("kept", kept), *rules]]
    )
    yield _rules(drops, ["", *(rule for rule, _ in rules)], run.thresholds())
    sources = sorted({drop.source for drop in drops})
    if len(sources) > 1:
        yield Table(("source", "read", "kept"), [_source_row(run, source) for source in sources])
    if pageless := run.pageless():
        count = sum(count for _, count in pageless)
        rows = [(reason, f"{count:,}") for reason, count in pageless]
        yield Fold(
            f"{count:,} answers in the input without a page, not counted above", [Table(("what", "count"), rows)]
        )


def _rules(drops: Sequence[Drop], rules: Sequence[str], keeps: Mapping[str, str]) -> Table:
    """A row a rule, a column a language; the rarer languages share one."""
    totals: dict[str, int] = {}
    for drop in drops:
        totals[drop.lang] = totals.get(drop.lang, 0) + drop.documents
    langs = sorted(totals, key=lambda lang: (-totals[lang], lang))
    if len(langs) > LANGUAGES_SHOWN + 1:
        langs = [*langs[:LANGUAGES_SHOWN], OTHER]
    rows = []
    for rule in rules:
        counts = dict.fromkeys(langs, 0)
        for drop in drops:
            if drop.rule == rule:
                counts[drop.lang if drop.lang in counts else OTHER] += drop.documents
        total = sum(drop.bytes for drop in drops if drop.rule == rule)
        rows.append((rule or "kept", keeps.get(rule, ""), *(f"{count:,}" for count in counts.values()), size(total)))
    return Table(("rule", "keeps", *(language(lang) for lang in langs), "text"), rows)


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
    langs = list(dict.fromkeys(lang for row in measured for lang in row["bits_per_byte"]))
    lines = []
    for colour, lang in enumerate(langs):
        found = [
            (row["step"] * per_step, row["bits_per_byte"][lang]) for row in measured if lang in row["bits_per_byte"]
        ]
        lines.append(Line(language(lang), found, colour=colour))
    if lines:
        yield line_chart(
            lines,
            x="tokens trained on",
            y="bits per byte",
            caption="Bits per byte of documents that training never sees; lower is better. Taken on a part of the "
            "held-out documents, and so not the figures below, which are of all of them.",
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
    yield Text(
        "Bits that are needed per byte of text that training never saw, over all held-out documents, ± standard error "
        "over documents. 8 would be knowing nothing; lower is better."
    )
    rows = [
        (_model_name(model), *(_cell(record.figures.get(f"bits_per_byte.{model}.{lang}")) for lang in langs))
        for model in models
    ]
    margins = [record.figures.get(MARGIN + lang) for lang in langs]
    if any(margins):
        rows.append(("fewer bits than the 5-gram model, % (below 0: more)", *(_cell(margin, 1) for margin in margins)))
    yield Table(("", *(language(lang) for lang in langs)), rows)
    if tokens := run.number("evaluate", "kneser_ney_tokens"):
        yield Text(
            f"The 5-gram model reads the same token ids and learnt from {tokens:,.0f} tokens of the same corpus; xz -9 "
            "packs the documents without having learnt anything."
        )


def _model_name(model: str) -> str:
    names = {KNESER_NEY: "5-gram model (Kneser-Ney)", XZ: "xz -9"}
    stage, _, step = model.partition(":")
    return names.get(model) or (f"before training (step {step})" if step else f"the model ({stage})")


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
    finished = run.rows("evaluate", "items/pretrain/samples.jsonl")
    if finished:
        yield Text("The finished model beside how the document itself goes on.")
    for row in finished:
        texts = [("the model", row["text"]), ("the document", row["original"])]
        yield Fold(_title(row["lang"], row["prompt"]), [Excerpt(row["prompt"], texts, row["lang"])])


def _title(lang: str, prompt: str) -> str:
    words = " ".join(prompt.split())
    return f"{language(lang)}: {words[:TITLE]}{'…' if len(words) > TITLE else ''}"


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
        rows.append((MARKS[found["verdict"]], found["claim"], found["evidence"] + fix, found["id"]))
    yield Table(("", "claim", "what was seen", "check"), rows, [states[found["verdict"]] for found in findings])


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
