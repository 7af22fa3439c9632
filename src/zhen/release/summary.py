"""A run in five lines that a newcomer understands, put together from its records; for console, report and card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zhen.console import amount
from zhen.formats.metrics import read_metrics
from zhen.formats.record import Record
from zhen.release.collect import MODEL_STAGES

Value = float | int | str | bool | None

LANGUAGES = {"en": "English", "zh": "Chinese", "und": "unknown language"}

KNESER_NEY, XZ = "kneser-ney", "xz -9"
"""What evaluate calls the references in its figures."""

BITS = "bits_per_byte."
MARGIN = "margin_over_kneser_ney."


HELD_OUT = "held_out_documents."
"""How data.write's figures of held-out documents by language begin."""

PAGELESS = "without_page."
"""How data.scan's figures of records that are no page begin; the reason follows."""

SHOWN = 4
"""Rules that are named in the line of pages."""


def language(code: str) -> str:
    """A language's name in English."""
    return LANGUAGES.get(code, code)


class Drop(NamedTuple):
    """What one rule left out, or what was kept (`rule` is empty), of one source and language."""

    lang: str
    source: str
    rule: str
    documents: int
    bytes: int


class Run(NamedTuple):
    """A run as far as it went: records and folders by stage."""

    records: Mapping[str, Record]
    stages: Mapping[str, Path]

    def figure(self, stage: str, name: str) -> Value:
        """The value of a figure, None where the stage or the figure is missing."""
        record = self.records.get(stage)
        found = record.figures.get(name) if record else None
        return found.value if found else None

    def number(self, stage: str, name: str) -> float | None:
        """The same where it is a number."""
        value = self.figure(stage, name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    @property
    def model(self) -> str | None:
        """The stage whose model is released."""
        return next((stage for stage in MODEL_STAGES if stage in self.records), None)

    def bits(self, model: str) -> dict[str, float]:
        """Language -> bits per byte of a model or reference on held-out documents."""
        record = self.records.get("evaluate")
        prefix = f"{BITS}{model}."
        found = (
            {
                name.removeprefix(prefix): figure.value
                for name, figure in record.figures.items()
                if name.startswith(prefix)
            }
            if record
            else {}
        )
        return {lang: float(value) for lang, value in found.items() if isinstance(value, int | float)}

    def models(self) -> list[str]:
        """Models and references that were measured, in the order of evaluate's figures."""
        record = self.records.get("evaluate")
        names = [name for name in record.figures if name.startswith(BITS)] if record else []
        return list(dict.fromkeys(name.removeprefix(BITS).rpartition(".")[0] for name in names))

    def funnel(self) -> list[Drop]:
        """What became of the documents, from `funnel.json` of data.decide; empty without that stage."""
        folder = self.stages.get("data.decide")
        path = folder / "funnel.json" if folder else None
        found: dict[str, Any] = json.loads(path.read_bytes()) if path and path.is_file() else {}
        return [
            Drop(row["lang"], row["source"], row["rule"] or "", row["documents"], row["bytes"])
            for row in found.get("rows", [])
        ]

    def held_out(self) -> int:
        """Documents kept from training, to measure on."""
        record = self.records.get("data.write")
        figures = record.figures.items() if record else ()
        return sum(int(f.value) for name, f in figures if name.startswith(HELD_OUT) and isinstance(f.value, int))

    def pageless(self) -> list[tuple[str, int]]:
        """(reason, records) of what the readers passed over, most first.

        What a web archive notes about itself (its info, requests, metadata) was never a page and is not among them.
        """
        record = self.records.get("data.scan")
        found = [
            (name.removeprefix(PAGELESS), int(figure.value))
            for name, figure in (record.figures if record else {}).items()
            if name.startswith(PAGELESS) and isinstance(figure.value, int)
        ]
        return sorted((item for item in found if not item[0].startswith("WARC ")), key=lambda item: -item[1])

    def thresholds(self) -> dict[str, str]:
        """Rule -> what it keeps, in words: `characters ≥ 150 (zh: 50)`."""
        folder = self.stages.get("data.decide")
        path = folder / "funnel.json" if folder else None
        found: dict[str, Any] = json.loads(path.read_bytes()) if path and path.is_file() else {}
        return {rule["rule"]: _kept_where(rule) for rule in found.get("rules", [])}

    def rows(self, stage: str | None, file: str) -> list[dict[str, Any]]:
        """The rows of a JSONL file of a stage; none where it is missing."""
        folder = self.stages.get(stage) if stage else None
        return list(read_metrics(folder / file)) if folder else []

    def audit(self) -> list[dict[str, Any]]:
        """The findings of the release's audit."""
        folder = self.stages.get("release")
        path = folder / "audit.json" if folder else None
        return list(json.loads(path.read_bytes())["findings"]) if path and path.is_file() else []


def _kept_where(rule: Mapping[str, Any]) -> str:
    sign = "≥" if rule["direction"] == "min" else "≤"
    limits = {lang: limit for lang, limit in rule["thresholds"].items() if limit is not None}
    others = [f"{lang}: {limit:g}" for lang, limit in limits.items() if lang != "*"]
    text = f"{sign} {limits['*']:g}" if "*" in limits else ""
    more = f" ({', '.join(others)})" if others and text else f"{sign} {', '.join(others)}" if others else ""
    return f"{rule['unit']} {text}{more}" if limits else "not used"


def summary_rows(records: Mapping[str, Record], stages: Mapping[str, Path]) -> list[tuple[str, str]]:
    """Label and text of the lines (pages, tokens, model, held-out text, audit) for which the run has stages."""
    run = Run(records, stages)
    rows = [
        ("pages", _pages(run)),
        ("tokens", _tokens(run)),
        ("model", _model(run)),
        *[("held-out text" if first else "", text) for first, text in _held_out(run)],
        ("audit", audit_sentence(run)),
    ]
    return [(label, text) for label, text in rows if text]


def samples(stages: Mapping[str, Path]) -> list[tuple[str, str, str]]:
    """(language, prompt, what the model wrote): the last model's first sample in each language."""
    run = Run({}, stages)
    rows = run.rows("evaluate", "items/pretrain/samples.jsonl")
    found = [(row["lang"], row["prompt"], row["text"]) for row in rows]
    if not found:
        stage = next((stage for stage in MODEL_STAGES if stage in stages), None)
        rows = run.rows(stage, "samples.jsonl")
        last = max((row["step"] for row in rows), default=0)
        found = [(row["lang"], row["prompt"], row["continuation"]) for row in rows if row["step"] == last]
    first: dict[str, tuple[str, str, str]] = {}
    for lang, prompt, text in found:
        first.setdefault(lang, (lang, prompt, text))
    return [first[lang] for lang in sorted(first)]


def audit_sentence(run: Run) -> str:
    """`passed: 16 claims hold`."""
    if run.figure("release", "audit_passed") is None:
        return ""
    failed, unsure = run.number("release", "claims_failed"), run.number("release", "claims_unchecked")
    parts = [f"{failed:,.0f} do not hold"] if failed else []
    parts += [f"{run.number('release', 'claims_held'):,.0f} claims hold"]
    parts += [f"{unsure:,.0f} could not be checked"] if unsure else []
    return ("passed: " if run.figure("release", "audit_passed") else "not passed: ") + ", ".join(parts)


def left_out(drops: Sequence[Drop]) -> list[tuple[str, int]]:
    """(rule, documents), the rule that left out most first."""
    counts: dict[str, int] = {}
    for drop in drops:
        if drop.rule:
            counts[drop.rule] = counts.get(drop.rule, 0) + drop.documents
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _pages(run: Run) -> str:
    drops = run.funnel()
    read = sum(drop.documents for drop in drops)
    if not read:
        return ""
    kept = sum(drop.documents for drop in drops if not drop.rule)
    text = f"{read:,} read → {kept:,} kept ({100 * kept / read:.0f} %)"
    reasons = [(count, f"by {rule}") for rule, count in left_out(drops) if count]
    shown = [f"{count:,} {reason}" for count, reason in reasons[:SHOWN]]
    if rest := sum(count for count, _ in reasons[SHOWN:]):
        shown.append(f"{rest:,} by other rules")
    if shown:
        text += f"; left out: {', '.join(shown)}"
    aside = []
    if pageless := sum(count for reason, count in run.pageless()):
        aside.append(f"{pageless:,} answers without a page (redirects, errors, images and the like)")
    if lost := run.number("data.scan", "records_lost"):
        aside.append(f"{lost:,.0f} damaged records")
    return text + (f"; not counted: {', '.join(aside)}" if aside else "")


def _tokens(run: Run) -> str:
    corpus, trained = run.number("shards", "tokens"), run.number(run.model or "", "tokens")
    ratio = run.number("shards", "bytes_per_token")
    parts = []
    if corpus:
        parts.append(f"{corpus:,.0f} in the corpus" + (f" ({ratio:.2f} bytes each)" if ratio else ""))
    if trained:
        parts.append(f"trained on {trained:,.0f}" + (f" ({_passes(trained / corpus)})" if corpus else ""))
    return "; ".join(parts)


def _passes(share: float) -> str:
    return f"{share:.1f} passes over it" if share >= 1 else f"{100 * share:.2g} % of it"


def _model(run: Run) -> str:
    parameters = run.number(run.model or "", "parameters")
    if not run.model or not parameters:
        return ""
    record = run.records[run.model]
    shape = record.sections.get("model") or {}
    text = f"{amount(parameters)} parameters"
    if isinstance(shape, dict) and shape.get("num_hidden_layers"):
        text += f", {shape['num_hidden_layers']} layers of width {shape['hidden_size']}"
    return f"{text}, LLaMA architecture"


def _held_out(run: Run) -> Iterator[tuple[bool, str]]:
    """A line a language: bits per byte beside the references."""
    if not run.model:
        return
    for number, (lang, value) in enumerate(run.bits(run.model).items()):
        text = f"{language(lang)}: {value:.3f} bits per byte"
        if lang in (found := run.bits(KNESER_NEY)):
            margin = run.number("evaluate", MARGIN + lang)
            less = f"{abs(margin):.0f} % {'fewer' if margin >= 0 else 'more'} than " if margin is not None else ""
            text += f", {less}a 5-gram model ({found[lang]:.3f})"
        if lang in (found := run.bits(XZ)):
            text += f"; xz -9 {found[lang]:.3f}"
        yield number == 0, text
