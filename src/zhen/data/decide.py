"""Verdicts: thresholds over signals, then exact duplicates among what they keep. No text is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct
from numpy.typing import NDArray

from zhen.data.dedup import exact_duplicates, place
from zhen.data.rules import DUPLICATE, RULES
from zhen.data.settings import RulesSettings

VERDICTS = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.binary(16)),
        ("keep", pa.bool_()),
        ("rule", pa.string()),
        ("value", pa.float32()),
        ("threshold", pa.float32()),
    ]
)
"""`verdicts/`: a row for each row of `documents/`. `rule`, `value`, `threshold`: of the first rule that removed it,
null where it is kept. For exact duplicates the value is how often the content occurs, the threshold 1."""

_NAMES = np.array([*(rule.name for rule in RULES), DUPLICATE])


class UnitVerdict(Struct):
    """Verdicts of a unit in the making. `removed_by`: index into the rules, or -1 for kept."""

    table: pa.Table
    removed_by: NDArray[np.int64]
    values: NDArray[np.float32]
    thresholds: NDArray[np.float32]


def judge(signals: Path, settings: RulesSettings) -> UnitVerdict:
    """Apply the table of rules to one unit's signals."""
    table = pq.read_table(signals)
    rows = table.num_rows
    verdict = UnitVerdict(table, np.full(rows, -1, np.int64), np.zeros(rows, np.float32), np.zeros(rows, np.float32))
    columns = {"lang": np.array(table["lang"].to_pylist(), dtype=np.str_)}
    for index, rule in enumerate(RULES):
        columns[rule.signal] = table[rule.signal].to_numpy()
        kept, limits = rule.verdict(columns, settings)
        removed = ~kept & (verdict.removed_by < 0)
        verdict.removed_by[removed] = index
        verdict.values[removed] = columns[rule.signal][removed]
        verdict.thresholds[removed] = limits[removed]
    return verdict


def remove_duplicates(verdicts: list[UnitVerdict], ray: str | None) -> None:
    """Mark the exact duplicates among the documents that the rules keep, in place."""
    parts = []
    for unit, verdict in enumerate(verdicts):
        rows = np.flatnonzero(verdict.removed_by < 0)
        kept = verdict.table.select(["hash_high", "hash_low"]).take(rows)
        parts.append(kept.append_column("place", pa.array(place(unit, rows))))
    places, copies = exact_duplicates(pa.concat_tables(parts).combine_chunks(), ray)
    bounds = np.searchsorted(places, [place(unit, np.zeros(1, np.int64))[0] for unit in range(len(verdicts) + 1)])
    for verdict, begin, end in zip(verdicts, bounds[:-1], bounds[1:], strict=True):
        rows = (places[begin:end] & np.uint64(0xFFFF_FFFF)).astype(np.int64)
        verdict.removed_by[rows] = len(RULES)
        verdict.values[rows] = copies[begin:end]
        verdict.thresholds[rows] = 1


def verdict_table(verdict: UnitVerdict) -> pa.Table:
    """The unit's verdicts as VERDICTS."""
    kept = verdict.removed_by < 0
    return pa.Table.from_arrays(
        [
            pa.array(np.arange(len(kept)), pa.int64()),
            verdict.table["id"].combine_chunks(),
            pa.array(kept),
            pa.array(_NAMES[verdict.removed_by], pa.string(), mask=kept),
            pa.array(verdict.values, pa.float32(), mask=kept),
            pa.array(verdict.thresholds, pa.float32(), mask=kept),
        ],
        schema=VERDICTS,
    )


def funnel_counts(verdict: UnitVerdict) -> dict[tuple[str, str, str], tuple[int, int]]:
    """(source, lang, rule or `kept`) -> documents and bytes of text."""
    frame = pa.table(
        {
            "source": verdict.table["source"],
            "lang": verdict.table["lang"],
            "rule": pa.array(np.where(verdict.removed_by < 0, "kept", _NAMES[verdict.removed_by])),
            "bytes": verdict.table["bytes"],
        }
    )
    groups = frame.group_by(["source", "lang", "rule"]).aggregate([("bytes", "count"), ("bytes", "sum")])
    return {
        (row["source"], row["lang"], row["rule"]): (row["bytes_count"], row["bytes_sum"]) for row in groups.to_pylist()
    }
