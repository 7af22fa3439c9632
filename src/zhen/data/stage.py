"""The three parts of the stage `data`: scan (text and signals, once), decide (verdicts), write (what is kept)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zhen.data import benchmarks, engine, leaks, report
from zhen.data import decide as verdicts
from zhen.data.contamination import too_short
from zhen.data.holdout import Cut, WriteAnswer, WriteJob, Written, cut_language, unit_outputs, write_unit
from zhen.data.rules import RULES
from zhen.data.scan import ScanJob, UnitStatistics, scan_unit
from zhen.data.settings import (
    MADE,
    ContaminationSettings,
    DuplicatesSettings,
    ExtractSettings,
    PrivacySettings,
    RulesSettings,
    Source,
)
from zhen.data.sources import HASH_LIMIT, SourceFile, source_files, source_inputs
from zhen.data.tables import publish
from zhen.data.units import Unit, plan_table, plan_units
from zhen.errors import ZhenError
from zhen.formats.files import Digest, atomic_write, write_json
from zhen.formats.record import Input
from zhen.formats.stage import Context, Figures


def scan_inputs(sections: Mapping[str, Any]) -> list[Input]:
    """The files of sources (with their hashes up to 10 GB in all) and benchmarks. Raises ZhenError for missing ones."""
    return [*source_inputs(sections["data.sources"]), *benchmarks.inputs(sections["data.contamination.against"])]


def scan(context: Context) -> Figures:
    """`documents/`, `signals/`, `units/` (statistics and losses of each unit), `units.json`, `lost.jsonl`."""
    sources: Sequence[Source] = context.sections["data.sources"]
    extract: ExtractSettings = context.sections["data.extract"]
    found = [source_files(source, context.after) for source in sources]
    units = plan_units([files for files, _ in found])
    names = [source.name for source in sources]
    plan = plan_table(units, names, [others for _, others in found])
    context.output("units.json", "result", write_json(context.folder / "units.json", plan))
    for name, others in plan["other_files"].items():
        kinds = ", ".join(f"{suffix} {count:,}" for suffix, count in others.items())
        context.line.note(f"source {name}: files of no known format are left aside ({kinds})")
    for folder in ("documents", "signals", "units"):
        (context.folder / folder).mkdir(exist_ok=True)
    done = {unit.name: statistics for unit in units if (statistics := _unit_done(context.folder, unit))}
    hashed = _hashed_while_reading(sources, [files for files, _ in found])
    against, columns = _benchmarks(context)
    folder = str(context.folder.resolve())
    jobs = [
        msgspec.json.encode(ScanJob(unit, tuple(sources), folder, extract, hashed, against, columns)).decode()
        for unit in units
        if unit.name not in done
    ]
    _scan_progress(context, done, len(units))
    with closing(engine.map_units(scan_unit, jobs, workers=_workers(context), ray=context.ray)) as answers:
        for answer in answers:
            statistics = msgspec.json.decode(answer, type=UnitStatistics)
            publish(context.folder, statistics.temporary)
            statistics.temporary = {}
            write_json(context.folder / "units" / f"{statistics.unit}.json", msgspec.to_builtins(statistics))
            done[statistics.unit] = statistics
            _scan_progress(context, done, len(units))
            context.stop_here()
    revisions = {
        f"{name}/{file.path}": file.revision for name, (files, _) in zip(names, found, strict=True) for file in files
    }
    return _finish_scan(context, [done[unit.name] for unit in units], sources, revisions)


def _benchmarks(context: Context) -> tuple[tuple[benchmarks.File, ...], tuple[str, ...]]:
    """The benchmark files and their columns; writes `benchmarks.json`, which numbers the items."""
    columns: tuple[str, ...] = context.sections["data.contamination.columns"]
    files = tuple(
        benchmarks.files(context.sections["data.contamination.against"], context.after.get("sampleweb/tasks"))
    )
    table = []
    for file in files:
        items = benchmarks.items(file, columns)
        if not items:
            raise ZhenError("no item was found in it", file=file.name, place=benchmarks.PLACE, hint="check `columns`")
        short = [items[number].name for number in too_short(items)]
        table.append(msgspec.to_builtins(leaks.Benchmark(file.name, [item.name for item in items], short)))
    context.output(leaks.BENCHMARKS, "result", write_json(context.folder / leaks.BENCHMARKS, table))
    return files, columns


def _unit_done(folder: Path, unit: Unit) -> UnitStatistics | None:
    """The statistics of a unit that an earlier attempt finished, or None."""
    path = folder / "units" / f"{unit.name}.json"
    try:
        statistics = msgspec.json.decode(path.read_bytes(), type=UnitStatistics)
    except (OSError, msgspec.DecodeError):
        return None
    whole = all(
        (folder / output).is_file() and (folder / output).stat().st_size == digest.bytes
        for output, digest in statistics.outputs.items()
    )
    return statistics if whole else None


def _scan_progress(context: Context, done: Mapping[str, UnitStatistics], total: int) -> None:
    documents = sum(statistics.documents for statistics in done.values())
    lost = sum(statistics.lost for statistics in done.values())
    context.line.update(len(done), total, "units", f"{documents:,} documents · {lost:,} records lost")


def _hashed_while_reading(sources: Sequence[Source], files: Sequence[Sequence[SourceFile]]) -> list[str]:
    """Locations of the outside files that were too many, or too far, to hash when the run was planned."""
    budget, locations = HASH_LIMIT, []
    for source, found in zip(sources, files, strict=True):
        for file in found if source.path not in MADE else []:
            size = file.bytes or 0
            if not file.remote and size <= budget and os.access(file.location, os.R_OK):
                budget -= size
            else:
                locations.append(file.location)
    return locations


def _finish_scan(
    context: Context,
    units: Sequence[UnitStatistics],
    sources: Sequence[Source],
    revisions: Mapping[str, str | None],
) -> Figures:
    context.line.update(len(units), len(units), "units", "gathering what was lost")
    with atomic_write(context.folder / "lost.jsonl") as file:
        for unit in units:
            file.write((context.folder / "units" / f"{unit.unit}.jsonl").read_bytes())
    context.output("lost.jsonl", "result", file.digest)
    for unit in units:
        for output, digest in unit.outputs.items():
            context.output(output, "result", digest)
        context.output(f"units/{unit.unit}.json", "result")
        for path, digest in unit.sha256.items():
            context.input_hashed(Input(path, digest.bytes, digest.sha256, revisions[path]))
    read = {name for unit in units for name in unit.by_source}
    for source in sources:
        if source.name not in read:
            raise _nothing_read(context.folder, source)
    lost = sum(unit.lost for unit in units)
    if lost:
        context.line.note(f"{lost:,} records or files could not be read; each is listed in lost.jsonl")
    context.summary = report.scan_words(units)
    return report.scan_figures(units)


def _nothing_read(folder: Path, source: Source) -> ZhenError:
    reasons = []
    with (folder / "lost.jsonl").open("rb") as file:
        for line in file:
            row = msgspec.json.decode(line)
            if row["source"] == source.name:
                reasons.append(f"{row['file']}: {row['reason']}")
            if len(reasons) == 3:
                break
    return ZhenError(
        f"source {source.name!r} gave no document" + (f" ({'; '.join(reasons)})" if reasons else ""),
        expected="at least one page or text",
        file=source.path,
        place="data.sources",
        hint='columns = { text = "…" } says which column holds the text'
        if any("no '" in r or "column" in r for r in reasons)
        else None,
    )


def _workers(context: Context) -> int:
    return engine.cluster_cores(context.ray) if context.ray else context.workers


def decide(context: Context) -> Figures:
    """`verdicts/`, `funnel.json` and `contamination.json`, from the signals of data.scan alone."""
    settings: RulesSettings = context.sections["data.rules"]
    duplicates: DuplicatesSettings = context.sections["data.duplicates"]
    contamination: ContaminationSettings = context.sections["data.contamination"]
    paths = sorted((context.after["data.scan"] / "signals").glob("unit-*.parquet"))
    (context.folder / "verdicts").mkdir(exist_ok=True)
    total = 2 * len(paths)
    judged = []
    context.line.update(0, total, "units")
    for done, path in enumerate(paths, 1):
        judged.append(verdicts.judge(path, settings, contamination.threshold))
        context.line.update(done, total, "units", "rules")
        context.stop_here()
    verdicts.remove_duplicates(judged, context.ray)
    repeats: Figures = {}
    if duplicates.near:
        context.line.update(len(paths), total, "units", "near-duplicates")
        repeats |= report.near_figures(verdicts.remove_near(judged, paths, duplicates.jaccard, context.ray))
        context.stop_here()
    if duplicates.paragraphs:
        context.line.update(len(paths), total, "units", "paragraphs")
        most = duplicates.paragraph_documents
        repeats |= report.paragraph_figures(verdicts.remove_paragraphs(judged, paths, settings, most, context.ray))
    for done, (path, verdict) in enumerate(zip(paths, judged, strict=True), len(paths) + 1):
        output = context.folder / "verdicts" / path.name
        with atomic_write(output) as file:
            pq.write_table(verdicts.verdict_table(verdict), file, compression="zstd")
        context.output(output, "result", file.digest)
        context.line.update(done, total, "units", "duplicates")
        context.stop_here()
    funnel = report.merge_funnels(verdicts.funnel_counts(verdict) for verdict in judged)
    table = report.funnel_table(funnel, _thresholds(settings))
    context.output("funnel.json", "result", write_json(context.folder / "funnel.json", table))
    found = leaks.leak_table(
        leaks.read_benchmarks(context.after["data.scan"]),
        paths,
        list(map(verdicts.removing_rules, judged)),
        contamination,
    )
    context.output("contamination.json", "result", write_json(context.folder / "contamination.json", found))
    figures = report.decide_figures(funnel) | repeats | leaks.leak_figures(found)
    if not figures["documents_kept"].value:
        raise ZhenError(
            "the rules keep no document at all",
            place="data.rules",
            hint=f"{context.folder / 'funnel.json'} counts what each rule removed",
        )
    context.summary = report.decide_words(funnel)
    return figures


def _thresholds(settings: RulesSettings) -> dict[str, dict[str, float | None]]:
    """Rule -> language (`*`: any other) -> the threshold in force, or None."""
    return {rule.name: rule.in_force(settings) for rule in RULES}


def write(context: Context) -> Figures:
    """`kept/` and `held-out/`, a file a unit each; `units/` (what was written of each); `redacted.json`."""
    scanned, decided = context.after["data.scan"], context.after["data.decide"]
    names = sorted(path.stem for path in (decided / "verdicts").glob("unit-*.parquet"))
    context.line.update(0, len(names), "units", "choosing held-out documents")
    cuts = _cuts(context, scanned, decided, names)
    privacy: PrivacySettings = context.sections["data.privacy"]
    done: dict[str, dict[str, Digest | None]] = {}
    for name in names:
        outputs = unit_outputs(name)
        if all((context.folder / output).is_file() for output in outputs):
            done[name] = dict.fromkeys(outputs)
    for folder in ("kept", "held-out", "units"):
        (context.folder / folder).mkdir(exist_ok=True)
    jobs = [
        msgspec.json.encode(
            WriteJob(
                name,
                str((scanned / "documents" / f"{name}.parquet").resolve()),
                str((decided / "verdicts" / f"{name}.parquet").resolve()),
                str(context.folder.resolve()),
                context.sections["run.seed"],
                cuts,
                privacy.kinds if privacy.redact else (),
            )
        ).decode()
        for name in names
        if name not in done
    ]
    context.line.update(len(done), len(names), "units")
    with closing(engine.map_units(write_unit, jobs, workers=_workers(context), ray=context.ray)) as answers:
        for answer in answers:
            unit = msgspec.json.decode(answer, type=WriteAnswer)
            publish(context.folder, unit.temporary)
            done[unit.unit] = dict(unit.outputs)
            context.line.update(len(done), len(names), "units")
            context.stop_here()
    for name in names:
        for output, digest in done[name].items():
            context.output(output, "result", digest)
    written = report.merge_written(
        msgspec.json.decode((context.folder / "units" / f"{name}.json").read_bytes(), type=Written) for name in names
    )
    table = report.redacted_table(written)
    context.output("redacted.json", "result", write_json(context.folder / "redacted.json", table))
    context.summary = report.write_words(written)
    return report.write_figures(written)


def _cuts(context: Context, scanned: Path, decided: Path, names: Sequence[str]) -> dict[str, Cut]:
    """Where each language's kept documents are cut."""
    ids: dict[str, list[bytes]] = {}
    sizes: dict[str, list[NDArray[np.int64]]] = {}
    for name in names:
        signals = pq.read_table(scanned / "signals" / f"{name}.parquet", columns=["id", "lang", "bytes"])
        keep = pq.read_table(decided / "verdicts" / f"{name}.parquet", columns=["keep"])["keep"]
        kept = signals.filter(keep)
        for lang in sorted(kept["lang"].unique().to_pylist()):
            rows = kept.filter(np.array(kept["lang"].to_pylist()) == lang)
            ids.setdefault(lang, []).extend(rows["id"].to_pylist())
            sizes.setdefault(lang, []).append(rows["bytes"].to_numpy())
    cuts = {}
    for lang in sorted(ids):
        lengths = np.concatenate(sizes[lang])
        cut = cut_language(
            ids[lang],
            lengths,
            seed=context.sections["run.seed"],
            share=context.sections["data.held_out"],
            least_bytes=context.sections["data.held_out_bytes"],
        )
        if cut is not None:
            cuts[lang] = cut
    return cuts
