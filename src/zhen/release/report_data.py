"""The report on the data: distributions with thresholds, rules alone, copies, hosts, contacts, leaks, damage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from zhen.pages.histogram import histogram
from zhen.pages.languages import language
from zhen.pages.parts import Fold, Key, Panel, Panels, Part, Table, Text, Words
from zhen.release.report_documents import ROW_BITS, Documents
from zhen.release.report_funnel import beginning
from zhen.release.report_glosses import reason_words
from zhen.release.report_names import PERSONAL, rule_name
from zhen.release.summary import Run, left_out

BINS = 40
MOST = 10
"""Rows of a table of the largest."""

THRESHOLD_COLOURS = {"en": 1, "zh": 3}
"""Number of the colour of a language's threshold; 2 for any language's."""

Floats = NDArray[np.float64]


def data_report(run: Run, documents: Documents | None) -> Iterator[Part]:
    """All parts for which the run has what they need."""
    if documents:
        if documents.rows < documents.total:
            yield Text(
                Words(
                    f"On the first {documents.rows:,} of {documents.total:,} documents.",
                    f"取自 {documents.total:,} 个文档中的前 {documents.rows:,} 个。",
                )
            )
        yield from _signals(run, documents)
        yield from _clusters(documents)
        yield from _hosts(documents)
    yield from _redacted(run)
    yield from _leaks(run)
    yield from _damage(run)


def _signals(run: Run, documents: Documents) -> Iterator[Part]:
    rules = [rule for rule in run.rules() if any(limit is not None for limit in rule["thresholds"].values())]
    langs, kept = documents.column("signals", "lang"), documents.column("verdicts", "keep")
    if not rules or langs is None or kept is None:
        return
    tongues, keep = np.array(langs.to_pylist(), dtype=np.str_), kept.to_numpy()
    columns: dict[str, Floats] = {}
    for rule in rules:
        column = documents.column("signals", rule["signal"])
        if column is not None and rule["signal"] not in columns:
            columns[rule["signal"]] = column.to_numpy().astype(np.float64)
    rules = [rule for rule in rules if rule["signal"] in columns]
    yield Text(
        Words(
            "What each rule measures, over all documents that were read and over those that all rules together kept. "
            "Heights are square roots of counts, so that the few are seen beside the many.",
            "各规则所度量的值：读入的全部文档，以及所有规则之后保留的文档。高度取数目的平方根，以便看清少数。",
        )
    )
    keys = [
        Key(Words("read", "读入"), 4),
        Key(Words("kept", "保留"), 0),
        *(
            Key(Words(f"threshold ({language(lang)})", f"阈值（{language(lang).zh}）"), colour, dashed=True)
            for lang, colour in THRESHOLD_COLOURS.items()
        ),
        Key(Words("threshold (every other language)", "阈值（其余语言）"), 2, dashed=True),
    ]
    words = run.thresholds()
    yield Panels([_panel(rule, columns[rule["signal"]], keep, words[rule["rule"]]) for rule in rules], keys)
    yield _alone(run, rules, columns, tongues)


def _panel(rule: Mapping[str, Any], values: Floats, keep: NDArray[np.bool_], kept: Words) -> Panel:
    limits = {lang: float(limit) for lang, limit in rule["thresholds"].items() if limit is not None}
    finite = values[np.isfinite(values)]
    low, high = (float(np.quantile(finite, q)) for q in (0.002, 0.998)) if finite.size else (0.0, 1.0)
    low, high = min(low, *limits.values()), max(high, *limits.values())
    logs = low >= 0 and high > 20  # counts go over orders of magnitude
    span = np.log1p([low, high]) if logs else np.array([low, high])
    if span[1] <= span[0]:
        span[1] = span[0] + 1
    placed = np.clip(np.log1p(np.maximum(values, 0)) if logs else values, span[0], span[1])
    edges = np.linspace(span[0], span[1], BINS + 1)
    before, after = (np.histogram(placed[chosen], edges)[0].tolist() for chosen in (np.isfinite(values), keep))
    marks = [
        (
            float(((np.log1p(limit) if logs else limit) - span[0]) / (span[1] - span[0])),
            THRESHOLD_COLOURS.get(lang, 2),
        )
        for lang, limit in limits.items()
    ]
    return Panel(
        rule_name(rule["rule"]),
        histogram(before, after, marks),
        f"{low:.3g}",
        f"{high:.4g}",
        Words(f"keeps: {kept}", f"保留条件：{kept.zh}"),
    )


def _alone(run: Run, rules: Sequence[Any], columns: Mapping[str, Floats], langs: NDArray[np.str_]) -> Table:
    """How many documents break a rule, break it and no other, and were left out by it as the first."""
    broken = {rule["rule"]: _broken(rule, columns[rule["signal"]], langs) for rule in rules}
    count = sum((each.astype(np.int64) for each in broken.values()), np.zeros(len(langs), np.int64))
    first = dict(left_out(run.funnel()))
    rows = [
        (
            rule_name(name),
            f"{int(each.sum()):,}",
            f"{int((each & (count == 1)).sum()):,}",
            f"{first.get(name, 0):,}",
        )
        for name, each in broken.items()
    ]
    rows += [(rule_name(name), "", "", f"{number:,}") for name, number in first.items() if name not in broken]
    columns_ = (
        Words("rule", "规则"),
        Words("documents that break it", "违反它的文档"),
        Words("break it alone", "只违反它的"),
        Words("left out by it", "由它去掉的"),
    )
    return Table(columns_, rows)


def _broken(rule: Mapping[str, Any], values: Floats, langs: NDArray[np.str_]) -> NDArray[np.bool_]:
    limits = np.full(len(values), np.nan)
    for lang, limit in sorted(rule["thresholds"].items(), key=lambda item: item[0] != "*"):
        limits[slice(None) if lang == "*" else langs == lang] = np.nan if limit is None else np.float32(limit)
    broken: NDArray[np.bool_] = values < limits if rule["direction"] == "min" else values > limits
    return broken


def _clusters(documents: Documents) -> Iterator[Part]:
    column = documents.column("verdicts", "cluster")
    places = column.drop_null().to_numpy() if column is not None else np.empty(0, np.uint64)
    if not len(places):
        return
    found, sizes = np.unique(places, return_counts=True)
    order = np.lexsort((found, -sizes))[:MOST]
    rows = []
    for index in order:
        unit, row = int(found[index]) >> ROW_BITS, int(found[index]) & ((1 << ROW_BITS) - 1)
        if unit < len(documents.documents):
            kept = documents.read(unit, row)
            rows.append((f"{sizes[index]:,}", kept["url"] or "–", beginning(kept["text"])[:120]))
    documents_ = int(sizes.sum())
    yield Fold(
        Words(
            f"Clusters of copies: {len(found):,}, with {documents_:,} documents; the largest",
            f"副本簇 {len(found):,} 个，共 {documents_:,} 个文档；最大的几簇",
        ),
        [Table((Words("documents", "文档"), Words("kept of it", "保留的一份"), Words("it begins", "开头")), rows)],
    )


def _hosts(documents: Documents) -> Iterator[Part]:
    urls, keep = documents.column("documents", "url"), documents.column("verdicts", "keep")
    if urls is None or keep is None:
        return
    read: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    for url, stays in zip(urls.to_pylist(), keep.to_pylist(), strict=True):
        if host := _host(url):
            read[host] += 1
            kept[host] += stays
    if not read:
        return
    rows = [
        (host, f"{count:,}", f"{kept[host]:,}", f"{100 * (count - kept[host]) / count:.0f} %")
        for host, count in sorted(read.items(), key=lambda item: (-item[1], item[0]))[: 2 * MOST]
    ]
    columns = (Words("host", "网站"), Words("read", "读入"), Words("kept", "保留"), Words("left out", "去掉"))
    title = Words(f"Hosts: {len(read):,}; those with most pages", f"网站 {len(read):,} 个；网页最多的几个")
    yield Fold(title, [Table(columns, rows)])


def _host(url: str | None) -> str:
    try:
        return urlsplit(url or "").hostname or ""
    except ValueError:
        return ""


def _redacted(run: Run) -> Iterator[Part]:
    found = run.json("data.write", "redacted.json")
    rows = [(PERSONAL.get(kind, kind), f"{each['places']:,}", f"{each['documents']:,}") for kind, each in found.items()]
    if rows:
        places = sum(each["places"] for each in found.values())
        title = Words(
            f"Personal data and secrets replaced by placeholders: {places:,} places",
            f"换成占位符的个人信息与密钥：{places:,} 处",
        )
        columns = (Words("kind", "种类"), Words("places", "处"), Words("documents", "文档"))
        yield Fold(title, [Table(columns, rows)])


def _leaks(run: Run) -> Iterator[Part]:
    found = run.json("data.decide", "contamination.json")
    files = found.get("files") or []
    if not files:
        return
    parts: list[Part] = [
        Text(
            Words(
                "Pages that hold an item word for word are left out. Pages that hold a part of one, or seem to ask it "
                "in other words and to answer it, are only reported, with the passage: it has to be looked at.",
                "逐字含有评测题的网页已去掉。只含一部分，或像是换了说法提问并作答的，只报告并附上原文，须由人判断。",
            )
        ),
        Table(
            (
                Words("benchmark", "评测集"),
                Words("items", "题数"),
                Words("too short to look for", "太短，不查"),
                Words("word for word", "逐字出现"),
                Words("in part or reworded", "部分或改写"),
            ),
            [
                (each["file"], *(f"{each[name]:,}" for name in ("items", "too_short", "leaked", "in_part_or_reworded")))
                for each in files
            ],
        ),
    ]
    items = sorted(found.get("items") or [], key=lambda row: (-row["verbatim"]["share"], -row["reworded"]["share"]))
    if items:
        names = ("verbatim", "reworded")
        cells = [
            (
                row["file"],
                str(row["item"]),
                *(text for name in names for text in (f"{row[name]['share']:.2f}", f"{row[name]['documents']:,}")),
                f"{sum(row[name]['kept'] for name in names):,}",
                next((each["passage"] for each in row["reworded"]["first"]), ""),
            )
            for row in items[: 2 * MOST]
        ]
        columns = (
            Words("benchmark", "评测集"),
            Words("item", "题目"),
            Words("greatest share word for word", "逐字的最大比例"),
            Words("documents", "文档"),
            Words("greatest share reworded", "改写的最大比例"),
            Words("documents", "文档"),
            Words("still kept", "仍保留"),
            Words("reworded, for one", "改写一例"),
        )
        parts.append(Table(columns, cells))
    leaked = sum(each["leaked"] for each in files)
    number = sum(each["items"] for each in files)
    title = Words(
        f"Benchmark items in the pages: {leaked:,} of {number:,} stood there word for word; those pages are left out",
        f"网页中的评测题：{number:,} 题中有 {leaked:,} 题逐字出现，那些网页已去掉",
    )
    yield Fold(title, parts)


def _damage(run: Run) -> Iterator[Part]:
    reasons = Counter(str(row.get("reason")) for row in run.rows("data.scan", "lost.jsonl"))
    if reasons:
        count = sum(reasons.values())
        rows = [(reason_words(reason), f"{number:,}") for reason, number in reasons.most_common(2 * MOST)]
        title = Words(f"Damaged records and files that were lost: {count:,}", f"因损坏而丢失的记录与文件：{count:,}")
        yield Fold(title, [Table((Words("what is wrong", "问题"), Words("count", "数目")), rows)])
