"""A file taken alone through what the stage `data` would do with it: scan's own reading, decide's own rules."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
from msgspec import Struct

from zhen.data import benchmarks, privacy, report
from zhen.data.decide import judge, removing_rules
from zhen.data.fate import Change, changes
from zhen.data.looks import Look, looks
from zhen.data.rules import RULES
from zhen.data.sandbox import extractor
from zhen.data.scan import ScanJob, UnitStatistics, scan_unit
from zhen.data.settings import SAMPLEWEB, DataSettings, Source
from zhen.data.sources import file_format
from zhen.data.tables import publish
from zhen.data.units import Part, Unit
from zhen.errors import ZhenError

_HEAD = 512
_UNIT = "unit-00000"


class Tried(Struct, frozen=True):
    """One document of the file, as the recipe would see it if it were alone."""

    verdict: str
    """`kept` or `dropped`."""
    rule: str | None
    """The first rule that removes it."""
    value: float | None
    threshold: float | None
    lang: str
    url: str
    license: str
    meta: dict[str, Any]
    characters: int
    text: str
    """As it is read."""
    rules: list[Look]
    redacted: dict[str, int]
    """Kind of personal data -> places that are put out of sight."""
    changes: list[Change]


class Trial(Struct, frozen=True):
    """What came of a file."""

    documents: list[Tried]
    lost: list[dict[str, Any]]
    """Records that could not be read: offset, bytes, reason."""
    skipped: dict[str, int]
    """Records that hold no page, by reason."""
    not_judged: list[str]
    """What needs more than this file, and why."""


def try_file(settings: DataSettings, file: Path, content: bytes | None = None, tasks: Path | None = None) -> Trial:
    """The documents of `file` under the rules of `settings`. With `content` that is what is read, `file` names it.

    `tasks`: the folder of the built-in web's questions, if it is there. Of the recipe's sources, the first whose
    columns fit is taken. Raises ZhenError where the file cannot be read at all.
    """
    against = settings.contamination.against
    outside = [path for path in against if tasks is not None or path.split("/")[0] != SAMPLEWEB]
    not_judged = ["duplicates: they are told among all documents of a run (`zhen why` does)"]
    not_judged += [
        f"contamination by {path}: the built-in web is not made yet" for path in against if path not in outside
    ]
    files = tuple(benchmarks.files(outside, tasks))
    with tempfile.TemporaryDirectory(prefix="zhen-try-") as name:
        folder = Path(name)
        data, location = content, file
        if data is None:
            data = _head(file)
        else:
            location = folder / "content"
            location.write_bytes(data)
        path = file.name if file_format(file.name) else f"{file.name}{_suffix(data[:_HEAD])}"
        try:
            statistics = _scan(settings, folder, Part(0, path, str(location), location.stat().st_size), files)
        finally:
            extractor().close()
        return Trial(
            _tried(settings, folder) if statistics.documents else [],
            [json.loads(line) for line in (folder / "units" / f"{_UNIT}.jsonl").read_bytes().splitlines()],
            statistics.skipped,
            not_judged,
        )


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_HEAD)
    except OSError as error:
        raise ZhenError(f"cannot be read: {error.strerror}", file=file) from error


def _suffix(head: bytes) -> str:
    """What a file without a known name is taken for."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    lower = start[:_HEAD].lower()
    if start.startswith(b"WARC/"):
        return ".warc"
    if lower.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<?xml")):
        return ".html"
    return ".jsonl" if start.startswith((b'{"', b'{ "')) else ".txt"


def _scan(settings: DataSettings, folder: Path, part: Part, files: tuple[benchmarks.File, ...]) -> UnitStatistics:
    """Scan the file into `folder`, with the columns of each source until one gives a document."""
    sources: Sequence[Source] = settings.sources or (Source(name="file", path=part.path),)
    for source in sorted(sources, key=lambda source: source.columns is not None):
        columns = settings.contamination.columns
        job = ScanJob(Unit(0, [part]), (source,), str(folder), settings.extract, [], files, columns)
        answer = scan_unit(msgspec.json.encode(job).decode())
        statistics = msgspec.json.decode(answer, type=UnitStatistics)
        publish(folder, statistics.temporary)
        if statistics.documents:
            break
    return statistics


def _tried(settings: DataSettings, folder: Path) -> list[Tried]:
    path = folder / "signals" / f"{_UNIT}.parquet"
    documents = pq.read_table(folder / "documents" / f"{_UNIT}.parquet").to_pylist()
    signals = pq.read_table(path).to_pylist()
    verdict = judge(path, settings.rules, settings.contamination.threshold)
    removed = removing_rules(verdict)
    rules = report.funnel_table({}, {rule.name: rule.in_force(settings.rules) for rule in RULES})["rules"]
    kinds = settings.privacy.kinds if settings.privacy.redact else ()
    found = []
    for row, (document, values) in enumerate(zip(documents, signals, strict=True)):
        text, counts = privacy.redact(document["text"], kinds)
        rule = removed[row]
        seen = looks(rules, values, document["lang"])
        found.append(
            Tried(
                verdict="kept" if rule is None else "dropped",
                rule=rule,
                value=None if rule is None else float(verdict.values[row]),
                threshold=None if rule is None else float(verdict.thresholds[row]),
                lang=document["lang"],
                url=document["url"] or "",
                license=document["license"] or "",
                meta=json.loads(document["meta"]),
                characters=len(document["text"]),
                text=document["text"],
                rules=seen,
                redacted=dict(sorted(counts.items())),
                changes=changes(document["text"], text),
            )
        )
    return found
