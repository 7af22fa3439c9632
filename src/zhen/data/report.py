"""Figures of the three passes, and the funnel: documents and bytes by source, language and rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from zhen.console import size as human_size
from zhen.data.holdout import Cut
from zhen.data.near import LARGE, Clusters
from zhen.data.rules import NAMES, RULES
from zhen.data.scan import UnitStatistics
from zhen.formats.record import Figure
from zhen.formats.stage import Figures

Funnel = Mapping[tuple[str, str, str], tuple[int, int]]
"""(source, lang, rule or `kept`) -> documents, bytes."""


def scan_figures(units: Sequence[UnitStatistics]) -> Figures:
    """What was read, what was lost, what was no page."""
    skipped: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    for unit in units:
        skipped.update(unit.skipped)
        sources.update(unit.by_source)
    figures = {
        "units": Figure(len(units)),
        "input_bytes": Figure(sum(unit.input_bytes for unit in units), "B"),
        "documents": Figure(sum(unit.documents for unit in units)),
        "text_bytes": Figure(sum(unit.text_bytes for unit in units), "B"),
        "records_lost": Figure(sum(unit.lost for unit in units)),
        "records_without_page": Figure(sum(skipped.values())),
        "normalised_documents": Figure(sum(unit.normalised for unit in units), "changed by NFC"),
        "extractor_failures": Figure(sum(unit.extractor_failed for unit in units), "pages"),
    }
    figures |= {f"documents.{source}": Figure(count) for source, count in sorted(sources.items())}
    return figures | {f"without_page.{reason}": Figure(count) for reason, count in sorted(skipped.items())}


def merge_funnels(parts: Iterable[Funnel]) -> Funnel:
    """The sum of the units' funnels, sorted by source, language and order of rules."""
    total: dict[tuple[str, str, str], tuple[int, int]] = {}
    for part in parts:
        for key, (documents, size) in part.items():
            before = total.get(key, (0, 0))
            total[key] = (before[0] + documents, before[1] + size)
    order = [*NAMES, "kept"]
    return dict(sorted(total.items(), key=lambda item: (item[0][0], item[0][1], order.index(item[0][2]))))


def funnel_table(funnel: Funnel, limits: Mapping[str, Any]) -> dict[str, Any]:
    """`funnel.json`: the rules in order with their thresholds, and the counts (rule null: kept)."""
    rules = [
        {
            "rule": rule.name,
            "signal": rule.signal,
            "unit": rule.unit,
            "direction": rule.direction,
            "thresholds": limits[rule.name],
            "source": rule.source,
        }
        for rule in RULES
    ]
    counts = [
        {
            "source": source,
            "lang": lang,
            "rule": None if rule == "kept" else rule,
            "documents": documents,
            "bytes": size,
        }
        for (source, lang, rule), (documents, size) in funnel.items()
    ]
    return {"rules": rules, "rows": counts}


def decide_figures(funnel: Funnel) -> Figures:
    """Documents and bytes kept, in all and by language; documents removed by each rule."""
    documents: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    removed: Counter[str] = Counter()
    for (_, lang, rule), (count, size) in funnel.items():
        documents["read"] += count
        sizes["read"] += size
        if rule == "kept":
            documents.update({"kept": count, f"kept.{lang}": count})
            sizes.update({"kept": size, f"kept.{lang}": size})
        else:
            removed[rule] += count
    figures = {f"documents_{name}": Figure(count) for name, count in sorted(documents.items())}
    figures |= {f"bytes_{name}": Figure(count, "B") for name, count in sorted(sizes.items())}
    figures.setdefault("documents_kept", Figure(0))
    return figures | {f"removed.{name}": Figure(removed[name], "documents") for name in NAMES}


def near_figures(clusters: Clusters) -> Figures:
    """How many clusters of near-duplicates there are, the largest, and how much the largest band gathers."""
    sizes = np.unique(clusters.first, return_counts=True)[1]
    return {
        "near_clusters": Figure(int((sizes > 1).sum())),
        "largest_near_cluster": Figure(int(sizes.max(initial=0)), "documents"),
        "largest_band": Figure(clusters.largest_band, "documents"),
        "large_bands": Figure(clusters.large_bands, f"bands of over {LARGE:,} documents"),
    }


def write_figures(cuts: Mapping[str, Cut], totals: Mapping[str, tuple[int, int]]) -> Figures:
    """Documents and bytes for training and held out, by language. `totals`: language -> kept documents and bytes."""
    figures: Figures = {}
    for lang, (documents, size) in sorted(totals.items()):
        held, held_bytes = (cuts[lang].documents, cuts[lang].bytes) if lang in cuts else (0, 0)
        figures[f"kept_documents.{lang}"] = Figure(documents - held)
        figures[f"kept_bytes.{lang}"] = Figure(size - held_bytes, "B")
        figures[f"held_out_documents.{lang}"] = Figure(held)
        figures[f"held_out_bytes.{lang}"] = Figure(held_bytes, "B")
    return figures


def scan_words(units: Sequence[UnitStatistics]) -> str:
    """The last word of the scan."""
    documents = sum(unit.documents for unit in units)
    text = human_size(sum(unit.text_bytes for unit in units))
    lost = sum(unit.lost for unit in units)
    read = human_size(sum(unit.input_bytes for unit in units))
    return f"{documents:,} documents with {text} of text out of {read}, {lost:,} records lost"


def decide_words(funnel: Funnel) -> str:
    """The last word of the decision: what is kept, and the rules that left out most."""
    removed: Counter[str] = Counter()
    for (_, _, rule), (documents, _) in funnel.items():
        removed[rule] += documents
    read, kept = sum(removed.values()), removed.pop("kept", 0)
    most = ", ".join(f"{count:,} by {rule}" for rule, count in removed.most_common(3) if count)
    return f"{kept:,} of {read:,} documents kept" + (f"; left out: {most}" if most else "")


def write_words(cuts: Mapping[str, Cut], totals: Mapping[str, tuple[int, int]]) -> str:
    """The last word of the writing: for training and held out, by language."""
    parts = []
    for lang, (documents, size) in sorted(totals.items()):
        held, held_bytes = (cuts[lang].documents, cuts[lang].bytes) if lang in cuts else (0, 0)
        parts.append(f"{lang} {documents - held:,} ({human_size(size - held_bytes)}) and {held:,} held out")
    return "; ".join(parts)
