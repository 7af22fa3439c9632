"""Verdicts: thresholds over signals, then duplicates among what they keep. No text is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct
from numpy.typing import NDArray

from zhen.data.dedup import exact_duplicates, place
from zhen.data.near import Clusters, Part, near_duplicates
from zhen.data.paragraphs import read_lines, repeated_paragraphs, to_leave_out
from zhen.data.rules import CONTAMINATION, DUPLICATE, LICENCE, NAMES, NEAR, PARAGRAPH, RULES
from zhen.data.settings import RulesSettings

VERDICTS = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.binary(16)),
        ("keep", pa.bool_()),
        ("rule", pa.string()),
        ("value", pa.float32()),
        ("threshold", pa.float32()),
        ("cluster", pa.uint64()),
        ("paragraphs", pa.list_(pa.uint64())),
    ]
)
"""`verdicts/`: a row for each row of `documents/`. `rule`, `value`, `threshold`: of the first rule that removed it,
null where it is kept. For exact duplicates the value is how often the content occurs, the threshold 1; for near ones
the value is the estimated Jaccard similarity to the one that is kept (it may be below the threshold where others link
the two). `cluster`: the place (dedup.place) of the document that is kept of those that are equal or near; null for a
document that is alone. For `contamination` the value is the share of an item that the document has, for
`licence` 1. `paragraphs`: hashes of the lines that are left out of a document that is kept."""

_NAMES = np.array(NAMES)
_ALONE = np.uint64(2**64 - 1)

LEAST_LEFT = 50
"""Characters that must be left of a document without the paragraphs that many have, or more where the rule `length`
asks for more."""

_LENGTH = next(rule for rule in RULES if rule.name == "length")


class UnitVerdict(Struct):
    """Verdicts of a unit in the making. `removed_by`: index into the rules' names, or -1 for kept."""

    table: pa.Table
    removed_by: NDArray[np.int64]
    values: NDArray[np.float32]
    thresholds: NDArray[np.float32]
    cluster: NDArray[np.uint64]
    paragraphs: pa.Array


def judge(signals: Path, settings: RulesSettings, contamination: float) -> UnitVerdict:
    """Apply the table of rules to one unit's signals, then what benchmarks and licences ask for.

    `contamination`: from this share of an item on a document is left out.
    """
    table = pq.read_table(
        signals, columns=[each.name for each in pq.read_schema(signals) if not pa.types.is_list(each.type)]
    )
    rows = table.num_rows
    values, thresholds = np.zeros(rows, np.float32), np.zeros(rows, np.float32)
    whole = _lists(rows, np.empty(0, np.int64), np.empty(0, np.uint64))
    verdict = UnitVerdict(table, np.full(rows, -1, np.int64), values, thresholds, np.full(rows, _ALONE), whole)
    columns = {"lang": np.array(table["lang"].to_pylist(), dtype=np.str_)}
    for index, rule in enumerate(RULES):
        columns[rule.signal] = table[rule.signal].to_numpy()
        kept, limits = rule.verdict(columns, settings)
        removed = ~kept & (verdict.removed_by < 0)
        verdict.removed_by[removed] = index
        verdict.values[removed] = columns[rule.signal][removed]
        verdict.thresholds[removed] = limits[removed]
    shares = table["contaminated"].to_numpy()
    _remove(verdict, CONTAMINATION, shares >= np.float32(contamination), shares, contamination)
    if settings.licenses is not None:
        allowed = {name.lower() for name in settings.licenses}
        other = np.array(
            [(name or "unknown").lower() not in allowed for name in table["license"].to_pylist()], np.bool_
        )
        _remove(verdict, LICENCE, other, np.ones(rows, np.float32), 0)
    return verdict


def _remove(
    verdict: UnitVerdict, rule: str, which: NDArray[np.bool_], values: NDArray[np.float32], threshold: float
) -> None:
    """Mark documents that no rule has removed so far, in place."""
    removed = which & (verdict.removed_by < 0)
    verdict.removed_by[removed] = NAMES.index(rule)
    verdict.values[removed] = values[removed]
    verdict.thresholds[removed] = threshold


def removing_rules(verdict: UnitVerdict) -> NDArray[np.object_]:
    """object[documents]: the rule that removed each, None where it is kept."""
    names = np.array([*NAMES, None], dtype=np.object_)
    return names[verdict.removed_by]


def remove_duplicates(verdicts: list[UnitVerdict], ray: str | None) -> None:
    """Mark the exact duplicates among the documents that the rules keep, in place."""
    parts = []
    for unit, verdict in enumerate(verdicts):
        rows = np.flatnonzero(verdict.removed_by < 0)
        kept = verdict.table.select(["hash_high", "hash_low"]).take(rows)
        parts.append(kept.append_column("place", pa.array(place(unit, rows))))
    places, firsts, copies = exact_duplicates(pa.concat_tables(parts).combine_chunks(), ray)
    for verdict, rows, found in _by_unit(verdicts, places):
        verdict.removed_by[rows] = NAMES.index(DUPLICATE)
        verdict.values[rows] = copies[found]
        verdict.thresholds[rows] = 1
        verdict.cluster[rows] = firsts[found]
    firsts = np.unique(firsts)
    for verdict, rows, found in _by_unit(verdicts, firsts):
        verdict.cluster[rows] = firsts[found]


def remove_near(verdicts: list[UnitVerdict], signals: Sequence[Path], jaccard: float, ray: str | None) -> Clusters:
    """Mark the near-duplicates among the documents that are kept so far, in place; copies of them follow to their
    cluster."""
    kept = [np.flatnonzero(verdict.removed_by < 0) for verdict in verdicts]
    clusters = near_duplicates(
        [Part(*each) for each in zip(signals, range(len(kept)), kept, strict=True)], jaccard, ray
    )
    removed = clusters.places != clusters.first
    for verdict, rows, found in _by_unit(verdicts, clusters.places):
        near = removed[found]
        verdict.removed_by[rows[near]] = NAMES.index(NEAR)
        verdict.values[rows[near]] = clusters.similarity[found][near]
        verdict.thresholds[rows[near]] = jaccard
        near |= np.isin(clusters.places[found], clusters.first[removed])
        verdict.cluster[rows[near]] = clusters.first[found][near]
    places, first = clusters.places[removed], clusters.first[removed]
    for verdict in verdicts:
        copies = np.flatnonzero(np.isin(verdict.cluster, places))
        verdict.cluster[copies] = first[np.searchsorted(places, verdict.cluster[copies])]
    return clusters


def remove_paragraphs(
    verdicts: list[UnitVerdict], signals: Sequence[Path], settings: RulesSettings, most: int, ray: str | None
) -> tuple[int, int]:
    """Of the documents that are kept so far, mark which paragraphs are left out (those of more than `most` documents),
    and the documents of which too little is left. Returns how many paragraphs are left out, of how many documents."""
    kept = [np.flatnonzero(verdict.removed_by < 0) for verdict in verdicts]
    parts = [Part(*each) for each in zip(signals, range(len(kept)), kept, strict=True)]
    repeated = repeated_paragraphs(parts, most, ray)
    total = documents = 0
    for part, verdict in zip(parts, verdicts, strict=True):
        lines = read_lines(part)
        out = to_leave_out(part, lines, repeated)
        cut = np.bincount(lines.documents[out], lines.characters[out], len(part.rows))
        left = verdict.table["characters"].to_numpy()[part.rows] - cut
        langs = np.array(verdict.table["lang"].to_pylist(), dtype=np.str_)[part.rows]
        least = np.fmax(_LENGTH.limits(langs, settings), LEAST_LEFT)
        little = (cut > 0) & (left < least)
        verdict.removed_by[part.rows[little]] = NAMES.index(PARAGRAPH)
        verdict.values[part.rows[little]] = left[little]
        verdict.thresholds[part.rows[little]] = least[little]
        out &= ~little[lines.documents]
        verdict.paragraphs = _lists(len(verdict.values), part.rows[lines.documents[out]], lines.hashes[out])
        total, documents = total + int(out.sum()), documents + len(np.unique(lines.documents[out]))
    return total, documents


def _lists(rows: int, owners: NDArray[np.int64], values: NDArray[np.uint64]) -> pa.Array:
    """A list for each row: of the values those that it owns. `owners` rise."""
    offsets = np.searchsorted(owners, np.arange(rows + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, pa.uint64()))


def _by_unit(
    verdicts: list[UnitVerdict], places: NDArray[np.uint64]
) -> Iterator[tuple[UnitVerdict, NDArray[np.int64], slice]]:
    """Sorted places by unit: its verdict, the rows, and which of the places they are."""
    bounds = np.searchsorted(places, [place(unit, np.zeros(1, np.int64))[0] for unit in range(len(verdicts) + 1)])
    for verdict, begin, end in zip(verdicts, bounds[:-1], bounds[1:], strict=True):
        yield verdict, (places[begin:end] & np.uint64(0xFFFF_FFFF)).astype(np.int64), slice(begin, end)


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
            pa.array(verdict.cluster, pa.uint64(), mask=verdict.cluster == _ALONE),
            verdict.paragraphs,
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
