"""A run in five lines that a newcomer understands, put together from its records, in both languages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from zhen.console import amount
from zhen.evaluate.settings import SHORT_TEXT
from zhen.formats.metrics import read_metrics
from zhen.formats.record import Record
from zhen.pages.languages import language
from zhen.pages.parts import Words, join
from zhen.release.collect import MODEL_STAGES
from zhen.release.report_names import KNESER_NEY, XZ, rule_gloss, unit_name

Value = float | int | str | bool | None

NEVER_ASKED = "B"
"""Kind of the questions about what pages state and never ask."""

BITS = "bits_per_byte."
MARGIN = "margin_over_kneser_ney."


HELD_OUT = "held_out_documents."
"""How data.write's figures of held-out documents by language begin."""

PAGELESS = "without_page."
"""How data.scan's figures of records that are no page begin; the reason follows."""

SHOWN = 4
"""Rules that are named in the line of pages."""


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

    @property
    def trained(self) -> str | None:
        """The last stage that trained a model on text."""
        return next((stage for stage in ("extend", "pretrain") if stage in self.records), None)

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
        return [
            Drop(row["lang"], row["source"], row["rule"] or "", row["documents"], row["bytes"])
            for row in self.json("data.decide", "funnel.json").get("rows", [])
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

    def rules(self) -> list[dict[str, Any]]:
        """The rules in order with signal, unit, direction and thresholds, from `funnel.json` of data.decide."""
        return list(self.json("data.decide", "funnel.json").get("rules", []))

    def thresholds(self) -> dict[str, Words]:
        """Rule -> what it keeps, in words: `characters ≥ 150 (Chinese: 30)`."""
        return {rule["rule"]: _kept_where(rule) for rule in self.rules()}

    def json(self, stage: str, file: str) -> dict[str, Any]:
        """A JSON file of a stage; empty where it is missing."""
        folder = self.stages.get(stage)
        path = folder / file if folder else None
        found: dict[str, Any] = json.loads(path.read_bytes()) if path and path.is_file() else {}
        return found

    def questions(self) -> list[dict[str, Any]]:
        """Rows {model, set, kind, lang, metric, score, stderr, n, chance} of answers to questions."""
        found = self.json("evaluate", "results.json").get("questions") or []
        return list(found)

    def long_context(self) -> dict[str, dict[str, Any]]:
        """Model -> task on long texts -> what it came to."""
        found: dict[str, dict[str, Any]] = self.json("evaluate", "results.json").get("long-context") or {}
        return found

    def short_text(self) -> list[dict[str, Any]]:
        """Rows by language of what a longer context did to the loss on short texts."""
        return list(self.json("evaluate", "results.json").get(SHORT_TEXT) or [])

    def rows(self, stage: str | None, file: str) -> list[dict[str, Any]]:
        """The rows of a JSONL file of a stage; none where it is missing."""
        folder = self.stages.get(stage) if stage else None
        return list(read_metrics(folder / file)) if folder else []

    def audit(self) -> list[dict[str, Any]]:
        """The findings of the release's audit."""
        folder = self.stages.get("release")
        path = folder / "audit.json" if folder else None
        return list(json.loads(path.read_bytes())["findings"]) if path and path.is_file() else []


def _kept_where(rule: Mapping[str, Any]) -> Words:
    sign = "≥" if rule["direction"] == "min" else "≤"
    limits = {lang: limit for lang, limit in rule["thresholds"].items() if limit is not None}
    if not limits:
        return Words("not used", "未使用")
    named = [(language(lang), limit) for lang, limit in limits.items() if lang != "*"]
    comma, unit = Words(", ", "，"), unit_name(rule["unit"])
    if "*" not in limits:
        others = join(comma, [Words(f"{limit:g} ({name})", f"{limit:g}（{name.zh}）") for name, limit in named])
        return Words(f"{unit} {sign} {others}", f"{unit.zh} {sign} {others.zh}")
    text = f"{sign} {limits['*']:g}"
    if not named:
        return Words(f"{unit} {text}", f"{unit.zh} {text}")
    others = join(comma, [Words(f"{name}: {limit:g}", f"{name.zh}：{limit:g}") for name, limit in named])
    return Words(f"{unit} {text} ({others})", f"{unit.zh} {text}（{others.zh}）")


def summary_rows(records: Mapping[str, Record], stages: Mapping[str, Path]) -> list[tuple[Words, Words]]:
    """Label and text of the lines (pages, tokens, model, held-out text, questions, chat, audit) that the run has."""
    run = Run(records, stages)
    label, none = Words("held-out text", "留出文本"), Words("", "")
    held_out = [(label if first else none, text) for first, text in _held_out(run)]
    rows = [
        (Words("pages", "网页"), _pages(run)),
        (Words("tokens", "词元"), _tokens(run)),
        (Words("model", "模型"), _model(run)),
        *held_out,
        (Words("questions", "提问"), questions_sentence(run)),
        (Words("chat", "对话"), chat_sentence(run)),
        (Words("audit", "审计"), audit_sentence(run)),
    ]
    return [(label, text) for label, text in rows if text]


def dialogues(run: Run, model: str) -> list[dict[str, Any]]:
    """What a model replied in chat, in an order drawn by lot that is the same for every model."""
    file = run.json("evaluate", "results.json").get("items", {}).get(model, {}).get("dialogue")
    found = run.rows("evaluate", file) if file else []
    return sorted(found, key=lambda row: blake2b(f"{row['task']} {row['id']}".encode(), digest_size=8).digest())


def samples(stages: Mapping[str, Path]) -> list[tuple[str, str, str]]:
    """(language, prompt, what the model wrote): the released model's reply to a question of each language that was
    never asked, drawn by lot whether right or wrong; else its first sample of text. `…` stands where it goes on."""
    run, stage = Run({}, stages), next((stage for stage in MODEL_STAGES if stage in stages), None)
    replies = [row for row in dialogues(run, stage or "") if row["kind"] == NEVER_ASKED]
    found = [(row["lang"], row["question"], f" {row['reply']}{'' if row['stops'] else '…'}") for row in replies]
    if not found:
        rows = run.rows("evaluate", "items/pretrain/samples.jsonl")
        found = [(row["lang"], row["prompt"], f"{row['text']}…") for row in rows]
    if not found:
        rows = run.rows(stage, "samples.jsonl")
        last = max((row["step"] for row in rows), default=0)
        form = " {}" if stage == "tune" else "{}…"
        found = [(row["lang"], row["prompt"], form.format(row["continuation"])) for row in rows if row["step"] == last]
    first: dict[str, tuple[str, str, str]] = {}
    for lang, prompt, text in found:
        first.setdefault(lang, (lang, prompt, text))
    return [first[lang] for lang in sorted(first)]


NOTHING = Words("", "")


def audit_sentence(run: Run) -> Words:
    """`passed: 16 claims hold`."""
    if run.figure("release", "audit_passed") is None:
        return NOTHING
    failed, unsure = run.number("release", "claims_failed"), run.number("release", "claims_unchecked")
    held = run.number("release", "claims_held") or 0
    parts = [Words(f"{failed:,.0f} do not hold", f"{failed:,.0f} 条不成立")] if failed else []
    parts += [Words(f"{held:,.0f} claims hold", f"{held:,.0f} 条声明成立")]
    parts += [Words(f"{unsure:,.0f} could not be checked", f"{unsure:,.0f} 条无法核对")] if unsure else []
    listed = join(Words(", ", "，"), parts)
    if run.figure("release", "audit_passed"):
        return Words(f"passed: {listed}", f"通过：{listed.zh}")
    return Words(f"not passed: {listed}", f"未通过：{listed.zh}")


def questions_sentence(run: Run) -> Words:
    """How many of the questions that were never asked the model answers exactly, over all languages."""
    rows = [
        row
        for row in run.questions()
        if (row["model"], row["metric"], row["kind"]) == (run.model, "exact", NEVER_ASKED)
    ]
    if not (n := sum(row["n"] for row in rows)):
        return NOTHING
    right, guessed = (100 * sum(row[name] * row["n"] for row in rows) / n for name in ("score", "chance"))
    return Words(
        f"gives the exact answer to {right:.0f} % of {n:,} questions it was never asked (guessing: {guessed:.0f} %)",
        f"{n:,} 道从未问过的题，完全答对 {right:.0f} %（靠猜：{guessed:.0f} %）",
    )


def chat_sentence(run: Run) -> Words:
    """How many facts that no dialogue asks the model tells in chat, before and after it was tuned; how it ends."""
    rows = [
        row
        for row in run.json("evaluate", "results.json").get("dialogue", [])
        if (row["metric"], row["kind"]) == ("right", NEVER_ASKED)
    ]
    shares = {}
    for model in (run.model, "pretrain"):
        own = [row for row in rows if row["model"] == model]
        if n := sum(row["n"] for row in own):
            shares[model] = 100 * sum(row["score"] * row["n"] for row in own) / n
    stops = run.number("evaluate", "dialogue.stops")
    if run.model not in shares or stops is None:
        return NOTHING
    before = Words("", "")
    if run.model != "pretrain" and "pretrain" in shares:
        before = Words(f" (before tuning: {shares['pretrain']:.0f} %)", f"（微调前 {shares['pretrain']:.0f} %）")
    return Words(
        f"rightly tells {shares[run.model]:.0f} % of what no dialogue asks{before}, "
        f"ends {100 * stops:.0f} % of its replies by itself",
        f"对话里从未问过的事，说对 {shares[run.model]:.0f} %{before.zh}；{100 * stops:.0f} % 的回答自行结束",
    )


def left_out(drops: Sequence[Drop]) -> list[tuple[str, int]]:
    """(rule, documents), the rule that left out most first."""
    counts: dict[str, int] = {}
    for drop in drops:
        if drop.rule:
            counts[drop.rule] = counts.get(drop.rule, 0) + drop.documents
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _pages(run: Run) -> Words:
    drops = run.funnel()
    read = sum(drop.documents for drop in drops)
    if not read:
        return NOTHING
    kept = sum(drop.documents for drop in drops if not drop.rule)
    share = 100 * kept / read
    text = Words(
        f"{read:,} read → {kept:,} kept ({share:.0f} %)", f"读入 {read:,} 页 → 保留 {kept:,} 页（{share:.0f} %）"
    )
    reasons = [(count, rule_gloss(rule)) for rule, count in left_out(drops) if count]
    shown = [Words(f"{rule} {count:,}", f"{rule.zh} {count:,}") for count, rule in reasons[:SHOWN]]
    if rest := sum(count for count, _ in reasons[SHOWN:]):
        shown.append(Words(f"other rules {rest:,}", f"其他规则 {rest:,}"))
    if shown:
        text = join(Words("; left out: ", "；去掉："), [text, join(Words(", ", "，"), shown)])
    aside = []
    if pageless := sum(count for reason, count in run.pageless()):
        aside.append(
            Words(
                f"{pageless:,} responses without a page (redirects, errors, images and the like)",
                f"{pageless:,} 条没有网页的应答（跳转、错误、图片等）",
            )
        )
    if lost := run.number("data.scan", "records_lost"):
        aside.append(Words(f"{lost:,.0f} damaged record{'s' if lost > 1 else ''}", f"{lost:,.0f} 条损坏的记录"))
    return join(Words("; not counted: ", "；另有："), [text, *([join(Words(", ", "，"), aside)] if aside else [])])


def _tokens(run: Run) -> Words:
    corpus = run.number("shards", "tokens")
    trained = sum(run.number(stage, "tokens") or 0 for stage in ("pretrain", "extend"))
    ratio = run.number("shards", "bytes_per_token")
    parts = []
    if corpus:
        each = Words(f" ({ratio:.2f} bytes each)", f"（每个 {ratio:.2f} 字节）") if ratio else NOTHING
        parts.append(Words(f"{corpus:,.0f} in the corpus{each}", f"语料 {corpus:,.0f} 个{each.zh}"))
    if trained:
        passes = _passes(trained / corpus) if corpus else NOTHING
        parts.append(Words(f"trained on {trained:,.0f}{passes}", f"训练 {trained:,.0f} 个{passes.zh}"))
    return join(Words("; ", "；"), parts)


def _passes(share: float) -> Words:
    if share >= 1:
        return Words(f" ({share:.1f} passes over it)", f"（{share:.1f} 遍）")
    return Words(f" ({100 * share:.2g} % of it)", f"（其中 {100 * share:.2g} %）")


def _model(run: Run) -> Words:
    parameters = run.number(run.model or "", "parameters") or run.number("pretrain", "parameters")
    if not run.model or not parameters:
        return NOTHING
    stages = [run.records[stage] for stage in (run.model, "pretrain") if stage in run.records]
    shape: Any = next((found for stage in stages if (found := stage.sections.get("model"))), {})
    layers = NOTHING
    if isinstance(shape, dict) and shape.get("num_hidden_layers"):
        count, width = shape["num_hidden_layers"], shape["hidden_size"]
        layers = Words(f", {count} layers of width {width}", f"，{count} 层，宽 {width}")
    count = amount(parameters)
    return Words(f"{count} parameters{layers}, LLaMA architecture", f"{count} 个参数{layers.zh}，LLaMA 结构")


def _held_out(run: Run) -> Iterator[tuple[bool, Words]]:
    """A line a language: bits per byte beside the references."""
    if not run.model:
        return
    for number, (lang, value) in enumerate(run.bits(run.model).items()):
        name = language(lang)
        parts = [Words(f"{name}: {value:.3f} bits per byte", f"{name.zh}：每字节 {value:.3f} 比特")]
        if lang in (found := run.bits(KNESER_NEY)):
            margin = run.number("evaluate", MARGIN + lang)
            less = NOTHING
            if margin is not None:
                size = f"{abs(margin):.0f} %"
                side = Words("fewer", "少") if margin >= 0 else Words("more", "多")
                less = Words(f"{size} {side} than ", f"，{side.zh} {size}")
            parts.append(Words(f"{less}a 5-gram model ({found[lang]:.3f})", f"五元模型 {found[lang]:.3f}{less.zh}"))
        text = join(Words(", ", "，"), parts)
        if lang in (found := run.bits(XZ)):
            text = Words(f"{text}; xz -9 {found[lang]:.3f}", f"{text.zh}；xz -9 {found[lang]:.3f}")
        yield number == 0, text
