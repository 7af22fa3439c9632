"""Check of a renamed or converted checkpoint: tensors are those of the source, its licences came along."""

from __future__ import annotations

from collections.abc import Iterator

from zhen.audit.finding import Finding, counted, fails, holds, unchecked
from zhen.audit.folder import Folder
from zhen.checkpoint.proof import hash_tensors
from zhen.checkpoint.provenance import RECORD, Provenance, read_provenance
from zhen.errors import ZhenError
from zhen.formats.files import sha256_file

_TENSORS = "the tensors are those of the checkpoint that this one is a renaming of"
_LICENSE = "the licence files of the checkpoint that this one was made of are here, unchanged"


def check_origin(folder: Folder) -> Iterator[Finding]:
    """Every tensor's SHA-256 against zhen-record.json, and the licence files it names; nothing without that record."""
    if not folder.has(RECORD):
        return
    try:
        if not folder.inside(RECORD):
            raise ZhenError("is a link out of the folder, or no file", expected="a file", file=RECORD)
        record = read_provenance(folder.root)
    except ZhenError as error:
        yield fails("claims.origin", _TENSORS, error.text(), fix="rename the source again", file=RECORD)
        return
    if record is None:
        return
    if record.kind == "converted":
        yield unchecked("claims.origin", _TENSORS, f"it is a conversion ({_steps(record)})", severity="note")
    else:
        yield _tensors(folder, record)
    yield from _license(folder, record)


def _tensors(folder: Folder, record: Provenance) -> Finding:
    if folder.checkpoint is None or folder.checkpoint.kind != "safetensors":
        return unchecked("claims.origin", _TENSORS, "the safetensors files could not be opened", severity="error")
    tensors = folder.checkpoint.tensors
    fix = "rename the source again, or remove the record"
    if others := sorted(tensors.keys() ^ record.tensors.keys()):
        where = "not recorded" if others[0] in tensors else "not here"
        evidence = f"{counted(len(others), 'tensor')} only on one side, first {others[0]!r}, {where}"
        return fails("claims.origin", _TENSORS, evidence, fix=fix, file=RECORD)
    if unknown := [name for name, origin in record.tensors.items() if origin.sha256 is None]:
        evidence = f"the record has no hash of {counted(len(unknown), 'tensor')}: it was renamed with --no-verify"
        return unchecked("claims.origin", _TENSORS, evidence, fix="rename the source again without --no-verify")
    found = hash_tensors(tensors.values())
    differing = sorted(name for name, digest in found.items() if record.tensors[name].sha256 != digest)
    if differing:
        evidence = f"{counted(len(differing), 'tensor')} with another SHA-256, first {differing[0]!r}"
        return fails("claims.origin", _TENSORS, evidence, fix=fix, file=RECORD)
    stated = f"; its licence: {record.license.stated}" if record.license.stated else ""
    evidence = f"SHA-256 of {counted(len(found), 'tensor')} as recorded ({_steps(record)}){stated}"
    return holds("claims.origin", _TENSORS, evidence)


def _steps(record: Provenance) -> str:
    return "; ".join(f"{step.source} to {step.target} by {step.tool}" for step in record.steps)


def _license(folder: Folder, record: Provenance) -> Iterator[Finding]:
    files = record.license.files
    if not files:
        return
    for name, digest in files.items():
        if not (folder.has(name) and folder.inside(name)):
            yield fails("license.origin", _LICENSE, "is not here", fix="put it back", file=name)
        elif sha256_file(folder.root / name).sha256 != digest:
            evidence = "has another SHA-256 than in the source"
            yield fails("license.origin", _LICENSE, evidence, fix="put the source's back beside", file=name)
        else:
            yield holds("license.origin", _LICENSE, f"{name} as recorded")
