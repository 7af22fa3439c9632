"""Two models on the same items: the difference of their scores with a paired, clustered standard error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zhen.evaluate.accuracy import DECIMALS, clustered_error
from zhen.evaluate.items import Item


def paired_rows(items: Mapping[str, Sequence[Item]], scores: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A row a task and pair of models: `difference` (of the second over the first), `stderr`, `z`, two-sided `p`, `n`.

    `items`: by model; `scores`: task -> metric. The error is that of the mean of the differences by item, clustered
    (Miller 2024, arXiv 2411.00640, section 4.2): questions that are hard for both cancel out. `p` takes the mean to be
    normal, which wants some hundred items.
    """
    names = list(items)
    for at, first in enumerate(names):
        for second in names[at + 1 :]:
            for task, metric in scores.items():
                row = _row(_of(items[first], task), _of(items[second], task), metric)
                yield {"task": task, "first": first, "second": second, "metric": metric, **row}


def _of(items: Sequence[Item], task: str) -> dict[tuple[str, str], Item]:
    return {(item.name, item.doc_hash): item for item in items if item.task == task}


def _row(first: Mapping[Any, Item], second: Mapping[Any, Item], metric: str) -> dict[str, Any]:
    common = [key for key in first if key in second]
    differences = [second[key].scores[metric] - first[key].scores[metric] for key in common]
    mean = math.fsum(differences) / len(common) if common else 0.0
    clusters = [f"{first[key].part} {first[key].cluster}" for key in common]
    error = clustered_error(differences, clusters) if common else None
    z = mean / error if error else None
    return {
        "difference": round(mean, DECIMALS),
        "stderr": None if error is None else round(error, DECIMALS),
        "z": None if z is None else round(z, DECIMALS),
        "p": None if z is None else round(math.erfc(abs(z) / math.sqrt(2)), DECIMALS),
        "n": len(common),
    }
