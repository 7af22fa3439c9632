"""The report's funnel: what each rule left out, by language and source, with examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from zhen.console import size
from zhen.pages.languages import language
from zhen.pages.parts import Bars, Excerpt, Fold, Part, Table, Text, Words, join
from zhen.release.report_documents import ROW_BITS, Documents, choose
from zhen.release.report_glosses import reason_words
from zhen.release.report_names import rule_gloss, rule_name, unit_name
from zhen.release.summary import Drop, Run, left_out

LANGUAGES_SHOWN = 4
"""Languages with a column of their own in the funnel; the others share one."""

OTHER = "other"

EXAMPLES = 2
"""Documents shown of each rule."""

BEGINNING = 220
"""Characters shown of a document."""

COPIES = ("exact-duplicate", "near-duplicate")


def funnel(run: Run, documents: Documents | None) -> Iterator[Part]:
    """The funnel's parts; none where nothing was read."""
    drops = run.funnel()
    read = sum(drop.documents for drop in drops)
    if not read:
        return
    kept = sum(drop.documents for drop in drops if not drop.rule)
    rules = left_out(drops)
    text = Words(
        f"{read:,} documents were read. A document is left out by the first rule that it breaks.",
        f"共读入 {read:,} 个文档。文档由它违反的第一条规则去掉。",
    )
    if held := run.held_out():
        more = Words(
            f"Of those kept, {held:,} are held out to measure on; the model is trained on the rest.",
            f"保留的文档中有 {held:,} 个留出用于测量，模型用其余的训练。",
        )
        text = join(Words(" ", ""), [text, more])
    yield Text(text)
    yield Bars(
        [
            (rule_gloss(rule), count / read, f"{count:,} · {100 * count / read:.1f} %")
            for rule, count in [("kept", kept), *rules]
        ]
    )
    yield _rules(drops, ["", *(rule for rule, _ in rules)], run.thresholds())
    sources = sorted({drop.source for drop in drops})
    if len(sources) > 1:
        columns = (Words("source", "来源"), Words("read", "读入"), Words("kept", "保留"))
        yield Table(columns, [_source_row(drops, source) for source in sources])
    if pageless := run.pageless():
        count = sum(count for _, count in pageless)
        rows = [(reason_words(reason), f"{count:,}") for reason, count in pageless]
        yield Fold(
            Words(
                f"{count:,} responses in the input hold no page; they are not counted above",
                f"输入中有 {count:,} 条应答不含网页，上面未计",
            ),
            [Table((Words("what", "内容"), Words("count", "数目")), rows)],
        )
    if documents:
        yield from _examples(run, documents, [rule for rule, count in rules if count])


def _rules(drops: Sequence[Drop], rules: Sequence[str], keeps: Mapping[str, Words]) -> Table:
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
        numbers = (f"{count:,}" for count in counts.values())
        rows.append((rule_name(rule or "kept"), keeps.get(rule, ""), *numbers, size(total)))
    columns = (Words("rule", "规则"), Words("keeps", "保留条件"), *(language(lang) for lang in langs))
    return Table((*columns, Words("text", "文本量")), rows)


def _source_row(drops: Sequence[Drop], source: str) -> tuple[str, str, str]:
    own = [drop for drop in drops if drop.source == source]
    kept = sum(drop.documents for drop in own if not drop.rule)
    return source, f"{sum(drop.documents for drop in own):,}", f"{kept:,}"


def _examples(run: Run, documents: Documents, rules: Sequence[str]) -> Iterator[Part]:
    """A fold a rule, with beginnings of what it left out."""
    column = documents.column("verdicts", "rule")
    if column is None or not rules:
        return
    named = np.array(column.to_pylist(), dtype=object)
    columns = {name: documents.column("verdicts", name) for name in ("value", "threshold", "cluster")}
    units = {rule["rule"]: (rule["unit"], rule["direction"]) for rule in run.rules()}
    yield Text(Words("Examples of what each rule left out, chosen by lot:", "各规则去掉的文档，随机抽取的例子："))
    for rule in rules:
        found = choose(np.flatnonzero(named == rule).tolist(), EXAMPLES, rule)
        shown: list[Part] = []
        for index in found:
            document = documents.read(*documents.at(index))
            values = {name: None if each is None else each[index].as_py() for name, each in columns.items()}
            texts: list[tuple[str, str]] = [
                (Words("why", "原因"), _why(rule, values["value"], values["threshold"], units.get(rule)))
            ]
            if (place := values["cluster"]) is not None and rule in COPIES:
                texts.append((Words("kept instead", "保留的是"), _kept(documents, place)))
            texts.append((Words("it begins", "开头"), beginning(document["text"])))
            shown.append(Excerpt(document["url"] or "–", texts, document["lang"]))
        if shown:
            name = rule_name(rule)
            yield Fold(name, shown)


def _why(rule: str, value: float | None, threshold: float | None, unit: tuple[str, str] | None) -> Words:
    if value is None or threshold is None or value != value:
        return rule_gloss(rule)
    if rule == "exact-duplicate":
        return Words(f"this text is there {value:,.0f} times", f"这段文本共有 {value:,.0f} 份")
    if rule == "near-duplicate":
        return Words(
            f"Jaccard similarity {value:.2f} (copies: {threshold:.2f} and more)",
            f"杰卡德相似度 {value:.2f}（不小于 {threshold:.2f} 算副本）",
        )
    if rule == "contamination":
        share, most = f"{100 * value:.0f} %", f"{100 * threshold:.0f} %"
        return Words(
            f"{share} of a benchmark's item stand in it word for word (left out from {most} on)",
            f"逐字含有某道评测题的 {share}（达到 {most} 就去掉）",
        )
    if unit is None:
        return Words(f"{value:.4g}, threshold {threshold:.4g}", f"{value:.4g}，阈值 {threshold:.4g}")
    name, limit = unit_name(unit[0]), f"{'≥' if unit[1] == 'min' else '≤'} {threshold:.4g}"
    return Words(f"{name} {value:.4g}; kept: {limit}", f"{name.zh} {value:.4g}；保留条件：{limit}")


def _kept(documents: Documents, place: int) -> str:
    unit, row = place >> ROW_BITS, place & ((1 << ROW_BITS) - 1)
    return str(documents.read(unit, row)["url"] or "–") if unit < len(documents.documents) else "–"


def beginning(text: str) -> str:
    """The first characters of a text on one line."""
    words = " ".join(text[: 2 * BEGINNING].split())
    return words if len(words) <= BEGINNING and len(text) <= 2 * BEGINNING else words[:BEGINNING] + "…"
