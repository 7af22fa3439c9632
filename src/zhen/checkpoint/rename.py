"""`zhen rename`: a checkpoint under another naming scheme's names. Only headers are written; no weight is touched."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from zhen.checkpoint import journal, provenance
from zhen.checkpoint.copying import copy_checkpoint, refuse_taken
from zhen.checkpoint.disk import Disk, block_bytes, can_insert, locked, refuse_open_elsewhere
from zhen.checkpoint.proof import hash_tensors
from zhen.checkpoint.reader import folder_of_index
from zhen.checkpoint.renaming import BLOCK, Plan, Witness, plan_rename
from zhen.checkpoint.safetensors import TensorInfo, read_header
from zhen.checkpoint.stored import readable
from zhen.errors import ZhenError

Report = Callable[[float, float, str], None]
"""Told bytes done, bytes in all, and of what."""

_COPY = "leave out --in-place: the copy goes to a new folder"


class Renamed(msgspec.Struct, frozen=True, kw_only=True):
    """What a rename did, or would do; its JSON keys are a contract."""

    folder: str
    """Where the renamed checkpoint is."""
    source: str
    """Naming scheme before."""
    target: str
    renamed: dict[str, str]
    """Old name -> new name of every tensor whose name changes."""
    files: list[str]
    """Files beside the weights that are new or have new content."""
    left_out: dict[str, str]
    """Files that are not in the renamed checkpoint -> why."""
    notes: list[str]
    in_place: bool
    dry_run: bool
    bytes_copied: int
    """Bytes of tensors that were copied; 0 in place. On file systems that share blocks they may take no room."""
    bytes_written: int
    """Bytes of headers, journal and small files."""
    seconds: float
    """Wall time in all, made durable."""
    seconds_of_proof: float
    """Of it, for hashing every tensor before and after."""
    verified: bool
    """Whether SHA-256 of every tensor before and after was compared, and is equal."""


class Wanted(NamedTuple):
    """How a checkpoint is to be renamed."""

    target: str
    maps: Sequence[tuple[str, str]] = ()
    out: Path | None = None
    """The new folder; None names it after the old one and the target. Not with `in_place`."""
    in_place: bool = False
    verify: bool = True
    force: bool = False
    dry_run: bool = False
    witness: Witness | None = None
    """What may tell an unknown naming beside names and shapes: the loss on a text."""


def rename_checkpoint(
    path: str | Path, wanted: Wanted, report: Report = lambda done, total, what: None, disk: Disk | None = None
) -> Renamed:
    """Give the tensors of a checkpoint the names of another scheme, in a new folder or in place.

    The files beside the weights follow; `zhen-record.json` says where all came from. In place, a kill at any instant
    leaves what the next opening of the folder turns into the old or the new checkpoint, whole. Raises ZhenError where
    it can't be done, and where a tensor's hash differs afterwards; then the old checkpoint stays.
    """
    started = time.monotonic()
    disk = disk or Disk()
    with readable(path):
        path = Path(path).absolute()
        if not path.exists():
            raise ZhenError("not found", expected="a checkpoint folder or a .safetensors file", file=path)
        if wanted.in_place and wanted.out:
            raise ZhenError("--in-place and --out", expected="one of them")
        folder = folder_of_index(path)
        folder = folder if folder.is_dir() else folder.parent
        work = _in_place if wanted.in_place else _copied
        return work(path, folder, wanted, report, disk, started)


def _in_place(path: Path, folder: Path, wanted: Wanted, report: Report, disk: Disk, started: float) -> Renamed:
    journal.recover(folder)
    with locked(folder):
        block = max(BLOCK, block_bytes(folder))
        plan = plan_rename(path, wanted.target, wanted.maps, block, wanted.witness)
        _refuse_in_place(plan, wanted.force)
        if wanted.dry_run:
            return _answer(plan, plan.folder, wanted, started)
        proof = _Proof(wanted.verify, plan, report)
        before = proof.hashes(_tensors([rewrite.header.file for rewrite in plan.rewrites]))
        steps = _journal(plan, before)
        try:
            journal.begin(folder, steps, disk)
            journal.forward(folder, steps, disk)
            proof.compare(before, _tensors([rewrite.header.file for rewrite in plan.rewrites]))
        except BaseException:
            journal.take_back(folder, steps, disk)
            raise
        journal.end(folder, disk)
        journal.sweep(folder, steps)
    return _answer(plan, plan.folder, wanted, started, proof, bytes_written=disk.written)


def _copied(path: Path, folder: Path, wanted: Wanted, report: Report, disk: Disk, started: float) -> Renamed:
    plan = plan_rename(path, wanted.target, wanted.maps, witness=wanted.witness)
    name = f"{path.stem if plan.alone else folder.name}-{wanted.target}"
    out = (wanted.out or (folder / name if plan.alone else folder.with_name(name))).absolute()
    refuse_taken(out)
    if wanted.dry_run:
        return _answer(plan, out, wanted, started)
    proof = _Proof(wanted.verify, plan, report)
    before = proof.hashes(_tensors([rewrite.header.file for rewrite in plan.rewrites]))
    record = provenance.encode(_record(plan, before))

    def check(built: Path) -> None:
        proof.compare(before, _tensors([built / rewrite.header.file.name for rewrite in plan.rewrites]))

    copied = copy_checkpoint(plan, out, record, check, report)
    left = plan.companions.removed | copied.left_out
    return _answer(plan, out, wanted, started, proof, bytes_written=copied.written, left=left)


class _Proof:
    """Hashes before and after, and the time they took."""

    def __init__(self, wanted: bool, plan: Plan, report: Report) -> None:
        self.wanted = wanted
        self.seconds = 0.0
        self._plan = plan
        self._report = report

    def hashes(self, tensors: list[TensorInfo], what: str = "hashed before") -> dict[str, str]:
        """SHA-256 by name; none where none are wanted."""
        if not self.wanted:
            return {}
        started = time.monotonic()
        total = self._plan.data_bytes
        found = hash_tensors(tensors, lambda done: self._report(done, total, what))
        self.seconds += time.monotonic() - started
        return found

    def compare(self, before: dict[str, str], after: list[TensorInfo]) -> None:
        """Hash the tensors again, under their new names. Raises ZhenError where one differs."""
        found = self.hashes(after, "hashed after")
        for old, digest in before.items():
            new = self._plan.renamed[old]
            if found.get(new) != digest:
                raise ZhenError(
                    f"SHA-256 {found.get(new, 'of nothing')[:16]} after",
                    expected=f"{digest[:16]} as before",
                    place=f"tensor {new!r}",
                    file=self._plan.folder,
                    hint="the disk or the memory is at fault, or another process wrote to the file",
                )


def _tensors(files: Sequence[Path]) -> list[TensorInfo]:
    return [tensor for file in files for tensor in read_header(file).tensors.values()]


def _refuse_in_place(plan: Plan, force: bool) -> None:
    """Raises ZhenError where a rename in place would change more than this folder, or can't be done."""
    small = [plan.folder / name for name in (*plan.companions.changed, *plan.companions.removed)]
    files = [rewrite.header.file for rewrite in plan.changed]
    for file in (*files, *small):
        if not force and (file.is_symlink() or file.stat().st_nlink > 1):
            kind = "a symbolic link" if file.is_symlink() else "a file with several names (hard links)"
            raise ZhenError(f"is {kind}: what shares it would change too", file=file, hint=f"{_COPY}, or add --force")
    if len({(file.stat().st_dev, file.stat().st_ino) for file in files}) < len(files):
        raise ZhenError("two of the weights' names are one file", file=plan.folder, hint=_COPY)
    for path in (plan.folder, *files):
        if not os.access(path, os.W_OK):
            raise ZhenError("may not be written", file=path, hint=_COPY)
    for file in files:
        refuse_open_elsewhere(file)
    disk = Disk()
    for rewrite in plan.changed:
        grown = len(rewrite.new) - len(rewrite.old)
        home = rewrite.header.file.resolve().parent
        if grown and not can_insert(home, grown):
            found = "this file system can't insert room at the start of a file"
            hint = f"ext4 and XFS can; {_COPY}"
            raise ZhenError(found, expected=f"fallocate with insert-range, {grown} bytes", file=home, hint=hint)
        if grown and disk.first_hole(rewrite.header.file)[0] < rewrite.header.size:
            raise ZhenError("is a sparse file", expected="one without holes", file=rewrite.header.file, hint=_COPY)


def _journal(plan: Plan, hashes: dict[str, str]) -> journal.Journal:
    contents: dict[str, bytes | None] = {**plan.companions.changed, **dict.fromkeys(plan.companions.removed)}
    if not plan.alone:
        contents[provenance.RECORD] = provenance.encode(_record(plan, hashes))
    small = []
    for name, content in contents.items():
        file = plan.folder / name
        small.append(journal.Small(file=name, old=file.read_bytes() if file.exists() else None, new=content))
    weights = [
        journal.Weights(
            file=rewrite.header.file.name,
            inode=rewrite.header.file.stat().st_ino,
            size=rewrite.header.size,
            insert=len(rewrite.new) - len(rewrite.old),
            old=rewrite.old,
            new=rewrite.new,
        )
        for rewrite in plan.changed
    ]
    return journal.Journal(folder=plan.folder.stat().st_ino, weights=weights, files=small)


def _record(plan: Plan, hashes: dict[str, str]) -> provenance.Provenance:
    step = provenance.step_of(plan.source, plan.target, plan.renamed)
    gone = [*plan.companions.changed, *plan.companions.removed]
    return provenance.provenance(plan.folder, step, plan.renamed, hashes, gone)


def _answer(
    plan: Plan,
    folder: Path,
    wanted: Wanted,
    started: float,
    proof: _Proof | None = None,
    *,
    bytes_written: int = 0,
    left: dict[str, str] | None = None,
) -> Renamed:
    done = proof is not None
    record = [] if plan.alone and wanted.in_place else [provenance.RECORD]
    return Renamed(
        folder=str(folder),
        source=plan.source,
        target=plan.target,
        renamed={old: new for old, new in plan.renamed.items() if old != new},
        files=sorted([*plan.companions.changed, *record]),
        left_out=plan.companions.removed if left is None else left,
        notes=plan.evidence + plan.companions.notes,
        in_place=wanted.in_place,
        dry_run=not done,
        bytes_copied=plan.data_bytes if done and not wanted.in_place else 0,
        bytes_written=bytes_written,
        seconds=time.monotonic() - started,
        seconds_of_proof=proof.seconds if proof else 0.0,
        verified=bool(proof and proof.wanted),
    )
