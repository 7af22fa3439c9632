"""Which benchmark items leaked into which documents: `contamination.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
from msgspec import Struct
from numpy.typing import NDArray

from zhen.data.settings import ContaminationSettings
from zhen.formats.record import Figure
from zhen.formats.stage import Figures

BENCHMARKS = "benchmarks.json"

_SHOWN = 5
"""Documents that are named of each item."""


class Benchmark(Struct):
    """A benchmark file as `benchmarks.json` (of data.scan) has it."""

    file: str
    items: list[str]
    too_short: list[str]
    """Items that are too short to be looked for."""


class _Found(Struct):
    share: float
    unit: str
    row: int
    id: str
    rule: str | None
    passage: str | None
    """Where the item is asked in other words."""


def read_benchmarks(folder: Path) -> list[Benchmark]:
    """What data.scan looked for."""
    return msgspec.json.decode((folder / BENCHMARKS).read_bytes(), type=list[Benchmark])


def leak_table(
    benchmarks: Sequence[Benchmark],
    signals: Sequence[Path],
    rules: Sequence[NDArray[np.object_]],
    settings: ContaminationSettings,
) -> dict[str, Any]:
    """`contamination.json`: by file and by item what was found. `rules`: for each unit object[documents], the rule that
    removed each, None where it is kept."""
    names = [(benchmark.file, item) for benchmark in benchmarks for item in benchmark.items]
    verbatim: dict[int, list[_Found]] = {}
    reworded: dict[int, list[_Found]] = {}
    for path, removed in zip(signals, rules, strict=True):
        for item, words, found in _overlaps(path, removed):
            if words:
                verbatim.setdefault(item, []).append(found)
            elif found.share >= settings.report:
                reworded.setdefault(item, []).append(found)
    rows: list[dict[str, Any]] = [
        {
            "file": names[item][0],
            "item": names[item][1],
            "verbatim": _summary(verbatim.get(item, []), settings.threshold),
            "reworded": _summary(reworded.get(item, []), settings.report),
        }
        for item in sorted({*verbatim, *reworded})
    ]
    leaked, other = Counter[str](), Counter[str]()
    for row in rows:
        if row["verbatim"]["share"] >= settings.threshold:
            leaked[row["file"]] += 1
        elif row["reworded"]["documents"] or row["verbatim"]["documents"]:
            other[row["file"]] += 1
    files = [
        {
            "file": each.file,
            "items": len(each.items),
            "too_short": len(each.too_short),
            "leaked": leaked[each.file],
            "in_part_or_reworded": other[each.file],
        }
        for each in benchmarks
    ]
    return {"threshold": settings.threshold, "report": settings.report, "files": files, "items": rows}


def _overlaps(path: Path, removed: NDArray[np.object_]) -> Iterator[tuple[int, bool, _Found]]:
    table = pq.read_table(path, columns=["id", "overlaps"])
    ids, overlaps = table["id"].to_pylist(), table["overlaps"].to_pylist()
    for row, found in enumerate(overlaps):
        for each in found:
            share = round(float(each["share"]), 4)
            rule = None if removed[row] is None else str(removed[row])
            yield each["item"], each["words"], _Found(share, path.stem, row, ids[row].hex(), rule, each["passage"])


def _summary(found: list[_Found], threshold: float) -> dict[str, Any]:
    """The greatest share, how many documents have some of the item, how many of those with so much are kept, the first
    few documents by share."""
    best = sorted(found, key=lambda each: (-each.share, each.unit, each.row))
    return {
        "share": best[0].share if best else 0.0,
        "documents": len(best),
        "kept": sum(each.rule is None and each.share >= threshold for each in best),
        "first": [msgspec.to_builtins(each) for each in best[:_SHOWN]],
    }


def leak_figures(table: dict[str, Any]) -> Figures:
    """Items looked for, leaked, overlapping; those that were too short."""
    if not table["files"]:
        return {}
    sums = {key: sum(row[key] for row in table["files"]) for key in table["files"][0] if key != "file"}
    return {
        "benchmark_items": Figure(sums["items"]),
        "benchmark_items_too_short": Figure(sums["too_short"]),
        "benchmark_items_leaked": Figure(sums["leaked"], "word for word; their documents are left out"),
        "benchmark_items_overlapping": Figure(sums["in_part_or_reworded"], "in part or reworded; reported"),
    }
