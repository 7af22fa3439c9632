"""What became of a document of a run, and why: read from what the stage `data` left, nothing computed again."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from zhen.data.dedup import ROW_BITS
from zhen.data.leaks import read_benchmarks
from zhen.data.looks import Look, looks
from zhen.errors import ZhenError
from zhen.formats.record import read_record

LEAST_PREFIX = 6
"""Hex digits by which a document may be named."""

MOST_MEMBERS = 20
"""Members of a cluster that are listed."""

_HEX = re.compile(r"[0-9a-fA-F]{1,32}")


class Mention(Struct, frozen=True):
    """A document named by another's fate."""

    id: str
    url: str
    unit: str
    row: int


class Cluster(Struct, frozen=True):
    """The documents that are equal or near to one another."""

    kept: Mention
    size: int
    members: list[Mention]
    """The others, at most MOST_MEMBERS."""


class Leak(Struct, frozen=True):
    """A benchmark item that a document has."""

    file: str
    item: str
    share: float
    words: bool
    """Whether word for word; else asked in other words."""
    passage: str | None
    """Where it is asked in other words."""


class Change(Struct, frozen=True):
    """Lines of a document that were written otherwise; `after` is empty where they were left out."""

    before: list[str]
    after: list[str]


class Fate(Struct, frozen=True):
    """What became of one document, or of one record that gave none."""

    verdict: str
    """`kept`, `held out`, `dropped` or `lost`."""
    rule: str | None
    """The first rule that removed it; of a lost record the reason."""
    value: float | None
    threshold: float | None
    id: str
    url: str
    source: str
    lang: str
    license: str
    unit: str
    row: int | None
    file: str
    at: int | None
    """Place in the file: byte offset of the record or line, row of a table."""
    meta: dict[str, Any]
    characters: int
    text: str
    """As it was read, before anything was left out."""
    rules: list[Look]
    cluster: Cluster | None
    leaks: list[Leak]
    """The greatest shares first: word for word such as are noted, in other words such as are reported."""
    changes: list[Change]


def fates(run: Path, wanted: str) -> list[Fate]:
    """What became of the documents of `run` with the id, the beginning of an id, or the address `wanted`; or of the
    records lost in the file `wanted`.

    Raises ZhenError where the stage isn't done, nothing is found, or several ids begin so.
    """
    data = _data_folder(run)
    places = _by_url(data, wanted)
    if not places and _HEX.fullmatch(wanted):
        places = _by_id(data, wanted.lower())
    if places:
        rules = json.loads((data / "funnel.json").read_bytes())["rules"]
        return [_fate(data, unit, row, rules) for unit, row in places]
    if lost := [_lost(each) for each in _losses(data) if wanted in (each["file"], f"{each['file']}@{each['offset']}")]:
        return lost
    raise _not_found(data, wanted)


def _data_folder(run: Path) -> Path:
    """The run's `data`, finished. Raises ZhenError."""
    data = run / "data"
    if not run.is_dir():
        raise ZhenError(
            "no such run", file=run, expected="the folder of a run", hint="`zhen run` names it, runs/<name>"
        )
    if not (run / "stages").is_dir():
        raise ZhenError(
            "is not a run", file=run, expected="the folder of a run", hint="`zhen run` names it, runs/<name>"
        )
    record = read_record(data) if data.is_dir() else None
    if record is None or record.stage != "data.write":
        found = f"the stage data is done up to {record.stage}" if record else "the stage data is not done yet"
        raise ZhenError(found, file=run, expected="a run that has written its documents", hint="zhen run RECIPE data")
    return data


def _units(data: Path) -> list[str]:
    return sorted(path.stem for path in (data / "documents").glob("unit-*.parquet"))


def _columns(data: Path, folder: str, columns: list[str]) -> Iterator[tuple[str, pa.Table]]:
    """Units and these columns of theirs."""
    for unit in _units(data):
        yield unit, pq.read_table(data / folder / f"{unit}.parquet", columns=columns)


def _by_url(data: Path, wanted: str) -> list[tuple[str, int]]:
    found = []
    for unit, table in _columns(data, "documents", ["url"]):
        found += [(unit, int(row)) for row in np.flatnonzero(np.array(table["url"].to_pylist()) == wanted)]
    return found


def _by_id(data: Path, prefix: str) -> list[tuple[str, int]]:
    if len(prefix) < LEAST_PREFIX:
        raise ZhenError(
            f"{prefix!r}: too short", expected=f"at least {LEAST_PREFIX} hex digits of an id, or an address"
        )
    found: dict[str, list[tuple[str, int]]] = {}
    for unit, table in _columns(data, "signals", ["id"]):
        for row, each in enumerate(table["id"].to_pylist()):
            if each.hex().startswith(prefix):
                found.setdefault(each.hex(), []).append((unit, row))
    if len(found) > 1:
        some = ", ".join(islice(found, 4)) + (", …" if len(found) > 4 else "")
        raise ZhenError(f"{len(found):,} documents have ids that begin with {prefix}", hint=f"one of {some}")
    return next(iter(found.values()), [])


def _row(data: Path, folder: str, unit: str, row: int, columns: Sequence[str] | None = None) -> dict[str, Any]:
    """One row of a unit's table; only its row group is read. Columns that are not there are left out."""
    with pq.ParquetFile(data / folder / f"{unit}.parquet") as file:
        names = [name for name in file.schema_arrow.names if columns is None or name in columns]
        start = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if row < start + rows:
                values: dict[str, Any] = file.read_row_group(group, columns=names).slice(row - start, 1).to_pylist()[0]
                return values
            start += rows
    raise ZhenError(f"has no row {row:,}", file=data / folder / f"{unit}.parquet", hint="zhen verify looks for damage")


def _fate(data: Path, unit: str, row: int, rules: Sequence[dict[str, Any]]) -> Fate:
    document = _row(data, "documents", unit, row)
    signals = _row(data, "signals", unit, row)
    verdict = _row(data, "verdicts", unit, row)
    meta = json.loads(document["meta"] or "{}")
    side, written = _written(data, unit, document["id"]) if verdict["keep"] else ("dropped", None)
    place = verdict.get("cluster")
    return Fate(
        verdict=side,
        rule=verdict["rule"],
        value=verdict["value"],
        threshold=verdict["threshold"],
        id=document["id"].hex(),
        url=document["url"] or "",
        source=document["source"],
        lang=document["lang"],
        license=document["license"] or "",
        unit=unit,
        row=row,
        file=meta.pop("file", ""),
        at=meta.pop("at", None),
        meta=meta,
        characters=len(document["text"]),
        text=document["text"],
        rules=looks(rules, signals, document["lang"]),
        cluster=None if place is None else _cluster(data, place, (unit, row)),
        leaks=_leaks(data, signals["overlaps"]),
        changes=[] if written is None else changes(document["text"], written),
    )


def _written(data: Path, unit: str, wanted: bytes) -> tuple[str, str]:
    """On which side a kept document was written, and as what text."""
    for folder, side in (("held-out", "held out"), ("kept", "kept")):
        with pq.ParquetFile(data / folder / f"{unit}.parquet") as file:
            for group in range(file.num_row_groups):
                ids = file.read_row_group(group, columns=["id"])["id"].to_pylist()
                if wanted in ids:
                    texts = file.read_row_group(group, columns=["text"])["text"]
                    return side, texts[ids.index(wanted)].as_py()
    raise ZhenError(
        f"document {wanted.hex()} is neither kept nor held out",
        file=data / "kept" / f"{unit}.parquet",
        hint="zhen verify looks for damage",
    )


def _cluster(data: Path, place: int, itself: tuple[str, int]) -> Cluster:
    """The cluster whose kept member has `place` (unit << ROW_BITS | row)."""
    units = _units(data)
    members = []
    for unit, table in _columns(data, "verdicts", ["cluster"]):
        same = np.flatnonzero(table["cluster"].fill_null(2**64 - 1).to_numpy() == np.uint64(place))
        members += [(unit, int(row)) for row in same]
    first = units[place >> ROW_BITS], place & (1 << ROW_BITS) - 1
    size = len({*members, first})
    others = [each for each in members if each not in (itself, first)]
    return Cluster(_mention(data, *first), size, [_mention(data, *each) for each in others[:MOST_MEMBERS]])


def _mention(data: Path, unit: str, row: int) -> Mention:
    values = _row(data, "documents", unit, row, ["id", "url"])
    return Mention(values["id"].hex(), values["url"] or "", unit, row)


def _leaks(data: Path, overlaps: Sequence[Mapping[str, Any]]) -> list[Leak]:
    if not overlaps:
        return []
    names = [(each.file, item) for each in read_benchmarks(data) for item in each.items]
    report = json.loads((data / "contamination.json").read_bytes())["report"]
    found = [
        Leak(file, item, round(float(each["share"]), 4), each["words"], each["passage"])
        for each in overlaps
        for file, item in [names[each["item"]]]
        if each["words"] or np.float32(each["share"]) >= np.float32(report)
    ]
    return sorted(found, key=lambda leak: (-leak.share, not leak.words))


def changes(before: str, after: str) -> list[Change]:
    """How the written text differs, by lines."""
    if before == after:
        return []
    old, new = before.split("\n"), after.split("\n")
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return [
        Change(old[begin:end], new[first:last])
        for tag, begin, end, first, last in matcher.get_opcodes()
        if tag != "equal" and any(line.strip() for line in (*old[begin:end], *new[first:last]))
    ]


def _losses(data: Path) -> Iterator[dict[str, Any]]:
    with (data / "lost.jsonl").open("rb") as file:
        for line in file:
            yield json.loads(line)


def _lost(row: dict[str, Any]) -> Fate:
    return Fate(
        "lost", row["reason"], None, None, "", "", row["source"], "", "", "", None, row["file"], row["offset"],
        {"bytes": row["bytes"]} | ({"unpacked": True} if row.get("unpacked") else {}), 0, "", [], None, [], [],
    )  # fmt: skip


def _shared(one: str, other: str) -> int:
    """How many characters the two begin with in common."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _not_found(data: Path, wanted: str) -> ZhenError:
    """The error that names what is nearest."""
    if _HEX.fullmatch(wanted):
        names = {each.hex() for _, table in _columns(data, "signals", ["id"]) for each in table["id"].to_pylist()}
        found, kind = f"no document's id begins with {wanted}", "ids"
    else:
        names = {url for _, table in _columns(data, "documents", ["url"]) for url in table["url"].to_pylist()}
        found, kind = f"no document has the address {wanted!r}", "addresses"
    shared = {name: _shared(name, wanted) for name in names if name}
    close = sorted(shared, key=lambda name: (-shared[name], name))[:200]
    if kind == "addresses":
        close.sort(key=lambda name: -difflib.SequenceMatcher(None, name, wanted).ratio())
    lost = sum(1 for _ in _losses(data))
    hint = f"the nearest {kind}: {', '.join(close[:3])}" if close else None
    if lost:
        more = f"records that were lost before they had one: {lost:,}, see {data / 'lost.jsonl'}"
        hint = f"{hint}; {more}" if hint else more
    return ZhenError(found, file=data, hint=hint)
