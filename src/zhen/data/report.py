"""Figures of the three passes, and the funnel: documents and bytes by source, language and rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from zhen.console import size as human_size
from zhen.data.holdout import Written
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


def paragraph_figures(left_out: tuple[int, int]) -> Figures:
    """What `data.write` leaves out of documents that are kept."""
    return {
        "paragraphs_left_out": Figure(left_out[0], "paragraphs that very many documents have"),
        "documents_cut": Figure(left_out[1], "documents without some of them"),
    }


def merge_written(units: Iterable[Written]) -> Written:
    """The sum of what was written of the units."""
    total = Written()
    for unit in units:
        for side, part in (
            (total.kept, unit.kept),
            (total.held_out, unit.held_out),
            (total.redacted, unit.redacted),
        ):
            for name, (count, size) in part.items():
                before = side.get(name, [0, 0])
                side[name] = [before[0] + count, before[1] + size]
    return total


def write_figures(written: Written) -> Figures:
    """Documents and bytes for training and held out, by language; what was put out of sight, by kind."""
    figures: Figures = {}
    for lang in sorted({*written.kept, *written.held_out}):
        documents, size = written.kept.get(lang, (0, 0))
        held, held_bytes = written.held_out.get(lang, (0, 0))
        figures[f"kept_documents.{lang}"] = Figure(documents)
        figures[f"kept_bytes.{lang}"] = Figure(size, "B")
        figures[f"held_out_documents.{lang}"] = Figure(held)
        figures[f"held_out_bytes.{lang}"] = Figure(held_bytes, "B")
    return figures | {f"redacted.{kind}": Figure(places) for kind, (places, _) in sorted(written.redacted.items())}


def redacted_table(written: Written) -> dict[str, Any]:
    """`redacted.json`: kind -> how many places, in how many documents."""
    return {kind: {"places": places, "documents": documents} for kind, (places, documents) in written.redacted.items()}


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


def write_words(written: Written) -> str:
    """The last word of the writing: for training and held out, by language."""
    parts = []
    for lang in sorted({*written.kept, *written.held_out}):
        documents, size = written.kept.get(lang, (0, 0))
        held, _ = written.held_out.get(lang, (0, 0))
        parts.append(f"{lang} {documents:,} ({human_size(size)}) and {held:,} held out")
    places = sum(count for count, _ in written.redacted.values())
    return "; ".join(parts) + (f"; {places:,} contacts and secrets put out of sight" if places else "")
