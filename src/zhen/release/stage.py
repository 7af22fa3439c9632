"""The stage `release`: the model's files, licence, credits, card and records in one folder, sealed and audited."""

from __future__ import annotations

from collections.abc import Mapping

from zhen.audit.checks import audit_checkpoint
from zhen.audit.license import TEXTS, text_of
from zhen.audit.manifest import MANIFEST, render_manifest
from zhen.audit.report import Report
from zhen.errors import ZhenError
from zhen.formats.files import Digest, write_json, write_text
from zhen.formats.record import Figure, Kind
from zhen.formats.stage import Context, Figures
from zhen.release.card import Card, initial, sources
from zhen.release.collect import all_records, clean_record, copy_model, model_stage
from zhen.release.notice import notice
from zhen.release.settings import ReleaseSettings

AUDIT = "audit.json"

NEEDED = ("config.json", "generation_config.json", "tokenizer_config.json")
"""What a checkpoint must bring besides weights so that others can load it."""


def release(context: Context) -> Figures:
    """Make the release in `context.folder`. Weights, tokenizer, configuration, LICENSE and NOTICE are results.

    Raises ZhenError where a stage has no record or the model is not the recorded one; what the audit finds wrong
    does not stop the stage, it is the figure `audit_passed`.
    """
    settings: ReleaseSettings = context.sections["release"]
    name = settings.name or str(context.sections["run.name"])
    records = all_records(context.after)
    stage = model_stage(records)
    files: dict[str, Digest] = {}
    for file, digest in copy_model(context, stage, records[stage]):
        _keep(context, files, file, "result", digest)
    for file in NEEDED:
        if file not in files:
            raise ZhenError(f"{stage} left no {file}", file=context.after[stage], expected="a whole checkpoint")
    cleaned = {stage: clean_record(record) for stage, record in records.items()}
    texts = {"LICENSE": text_of(settings.license), "NOTICE": notice(name, initial(cleaned[stage]), sources(cleaned))}
    for file, text in texts.items():
        _keep(context, files, file, "result", write_text(context.folder / file, text))
    (context.folder / "records").mkdir(exist_ok=True)
    for other, record in cleaned.items():
        file = f"records/{other}.json"
        _keep(context, files, file, "log", write_json(context.folder / file, record))
        context.line.update(len(files), None, "files", file)
        context.stop_here()
    card = Card(records)
    text = card.render(name=name, license=settings.license, license_name=TEXTS[settings.license])
    _keep(context, files, "README.md", "log", write_text(context.folder / "README.md", text))
    _keep(context, files, "figures.json", "log", write_json(context.folder / "figures.json", card.figures_json()))
    manifest = write_text(context.folder / MANIFEST, render_manifest(files))
    context.output(MANIFEST, "log", manifest)
    context.line.update(len(files), len(files), "files", "audit")
    audit = audit_checkpoint(context.folder)
    context.output(AUDIT, "log", write_json(context.folder / AUDIT, audit.to_json()))
    held = f"{len(audit.of('holds'))} of {len(audit.findings)} claims hold"
    context.summary = f"{len(files)} files; audit {'passed' if audit.passed else 'FAILED'}: {held}"
    return _figures(files, card, audit)


def _keep(context: Context, files: dict[str, Digest], name: str, kind: Kind, digest: Digest) -> None:
    files[name] = digest
    context.output(name, kind, digest)


def _figures(files: Mapping[str, Digest], card: Card, audit: Report) -> Figures:
    return {
        "files": Figure(len(files), "files"),
        "bytes": Figure(sum(digest.bytes for digest in files.values()), "bytes"),
        "audit_passed": Figure(audit.passed),
        "claims_held": Figure(len(audit.of("holds")), "claims", n=len(audit.findings)),
        "claims_failed": Figure(len(audit.of("fails")), "claims", n=len(audit.findings)),
        "claims_unchecked": Figure(len(audit.of("could not be checked")), "claims", n=len(audit.findings)),
        "card_figures": Figure(len(card.figures), "figures"),
    }
