"""A rename in place that can be cut off at any instant: written down first, then done, and finished by the next opener.

Only the journal is synced before the files are touched, and all of them before it is removed: three waits for the disk,
however many files. Between, a crash may lose any part of what was done. Each file is in one of five states, which its
size and first bytes tell apart, so that a rename goes on, or back, from anywhere:

- `old`: as it was.
- `torn`: as long as it was; some sectors of its header have been written over already.
- `shifting`: as long as it will be, but not all of its blocks have moved. A file system may move them in several
  transactions, the last block first; the gap then lies where it stopped.
- `headless`: moved; at the start there are zeros, or some sectors of the new header.
- `new`.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from zhen.checkpoint.disk import Disk, locked
from zhen.errors import ZhenError
from zhen.formats.files import TEMPORARY, temporary_name

JOURNAL = ".zhen-rename.journal"

SECTOR = 512
"""Bytes that a disk writes whole or not at all."""

State = Literal["old", "torn", "shifting", "headless", "new"]


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """A file of tensors whose header changes."""

    file: str
    inode: int
    size: int
    """Bytes before the rename."""
    insert: int
    """Bytes that the file grows by at its start, whole blocks; 0 where the new header fits."""
    old: bytes
    """All before the first tensor's bytes: the header's length, the header."""
    new: bytes
    """The same afterwards, `insert` bytes longer."""


class Small(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is replaced whole; None stands for no file."""

    file: str
    old: bytes | None
    new: bytes | None


class Journal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rename in place, all of it."""

    version: Literal[1] = 1
    folder: int
    """The folder's inode. A journal that came with other files, copied or downloaded, is not obeyed."""
    weights: list[Weights]
    files: list[Small]


def encode(journal: Journal) -> bytes:
    """The journal as it is stored: SHA-256 of the rest on a line, then JSON."""
    body = msgspec.json.encode(journal)
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def decode(data: bytes, file: Path) -> Journal | None:
    """The journal in `data`; None where it isn't whole, for then nothing was begun.

    Raises ZhenError where it is none, or names a file outside its folder.
    """
    digest, _, body = data.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        return None
    try:
        journal = msgspec.json.decode(body, type=Journal)
    except msgspec.DecodeError as error:
        raise ZhenError(f"is no journal: {error}", file=file) from error
    for name in [weights.file for weights in journal.weights] + [small.file for small in journal.files]:
        if name in ("", ".", "..", JOURNAL) or "/" in name or "\0" in name:
            raise ZhenError(f"file {name!r}", expected="a file of this folder", file=file)
    return journal


def begin(folder: Path, journal: Journal, disk: Disk) -> None:
    """Write the journal down, durably; from here on the rename is finished or taken back, by whoever comes."""
    file = folder / JOURNAL
    disk.create(file, encode(journal), file)
    disk.sync(file)
    disk.sync(folder)


def forward(folder: Path, journal: Journal, disk: Disk) -> None:
    """Bring every file to its new state, durably."""
    for weights in journal.weights:
        file = folder / weights.file
        state = _gathered(weights, file, disk)
        if state in ("old", "torn") and weights.insert:
            disk.insert(file, weights.insert)
        if state != "new":
            disk.write(file, 0, weights.new)
    _replace(folder, journal, {small.file: small.new for small in journal.files}, disk)


def back(folder: Path, journal: Journal, disk: Disk) -> None:
    """Bring every file to its old state, durably."""
    for weights in journal.weights:
        file = folder / weights.file
        state = _gathered(weights, file, disk)
        moved = weights.insert if state in ("headless", "new") else 0
        if state != "old":
            disk.write(file, moved, weights.old)
        if moved:
            disk.collapse(file, 0, moved)
    _replace(folder, journal, {small.file: small.old for small in journal.files}, disk)


def end(folder: Path, disk: Disk) -> None:
    """Take the journal away: what is there now stays."""
    disk.remove(folder / JOURNAL)
    disk.sync(folder)


def sweep(folder: Path, journal: Journal) -> None:
    """Remove half-written files that a killed rename left beside those it was to replace."""
    names = {JOURNAL, *(small.file for small in journal.files)}
    for path in folder.glob(f"{TEMPORARY}*"):
        if path.name.removeprefix(TEMPORARY).partition("-")[2] in names:
            with suppress(OSError):
                path.unlink()


def take_back(folder: Path, journal: Journal, disk: Disk) -> None:
    """Undo what was begun. Where that fails too, the journal stays and the next opener tries."""
    with suppress(OSError, ZhenError):
        back(folder, journal, disk)
        end(folder, disk)
        sweep(folder, journal)


def recover(path: Path) -> None:
    """Finish the rename in place that was cut off in the folder that `path` is or lies in, if one was.

    Where it can't go on it is taken back. Whatever opens a checkpoint calls this first; without a journal it costs a
    look.     Raises ZhenError where a rename runs right now, and where the files are between old and new and can't be
    mended: they may not be written, or are not those that the journal was written for.
    """
    folder = path if path.is_dir() else path.parent
    file = folder / JOURNAL
    if not os.path.lexists(file):
        return
    with locked(folder):
        if not file.is_symlink() and file.is_file():
            journal = decode(file.read_bytes(), file)
            if journal is None:
                with suppress(OSError):
                    file.unlink()
            else:
                settle(folder, journal, Disk())
                sweep(folder, journal)


def settle(folder: Path, journal: Journal, disk: Disk) -> None:
    """What `recover` does once it has the lock and the journal."""
    reason = _why_not(folder, journal)
    if reason:
        if _whole(folder, journal, disk):
            return  # all old or all new: whole as it is, whatever became of the journal
        hint = "open it once as a user who may write it, where the rename was begun; or fetch the files again"
        raise ZhenError(f"a rename was cut off here, and {reason}", file=folder, hint=hint)
    finish(folder, journal, disk)


def finish(folder: Path, journal: Journal, disk: Disk) -> None:
    """Bring all to the new state; where the system refuses that, to the old one."""
    try:
        forward(folder, journal, disk)
    except OSError:
        back(folder, journal, disk)
    end(folder, disk)


def _whole(folder: Path, journal: Journal, disk: Disk) -> bool:
    states = {state_of(weights, folder / weights.file, disk) for weights in journal.weights}
    found = [(small, _content(folder / small.file, disk)) for small in journal.files]
    return (states <= {"old"} and all(content == small.old for small, content in found)) or (
        states <= {"new"} and all(content == small.new for small, content in found)
    )


def _why_not(folder: Path, journal: Journal) -> str | None:
    """Why this process may not touch the files, None where it may."""
    if folder.stat().st_ino != journal.folder:
        return "the files have been copied since"
    for weights in journal.weights:
        file = folder / weights.file
        if not file.exists() or file.stat().st_ino != weights.inode:
            return f"{weights.file} is another file since"
    for path in (folder, *(folder / weights.file for weights in journal.weights)):
        if not os.access(path, os.W_OK):
            return f"{path.name} may not be written"
    return None


def state_of(weights: Weights, file: Path, disk: Disk) -> State:
    """In which of the five states a file is. Raises ZhenError for one that no rename leaves."""
    size, old, new, insert = disk.size(file), weights.old, weights.new, weights.insert
    if size == weights.size + insert:
        head = disk.read(file, len(new))
        if head == new:
            return "new"
        if insert and _mixed(head, bytes(insert) + old, new):
            return "headless"
        begin, end = disk.first_hole(file)
        kept = min(begin, len(old))
        if insert and begin and (end - begin == insert or end == size) and _mixed(head[:kept], old, new[insert:]):
            return "shifting"
    if size == weights.size:
        head = disk.read(file, len(old))
        if head == old:
            return "old"
        if _mixed(head, old, new[insert:]):
            return "torn"
    found = "missing" if size is None else f"{size} bytes, with a header that is neither the old nor the new one"
    hint = f"restore the file, or remove {JOURNAL} if it is a file of its own"
    raise ZhenError(found, expected="the file as a rename that was cut off leaves it", file=file, hint=hint)


def _mixed(head: bytes, one: bytes, other: bytes) -> bool:
    """Whether each sector of `head` is that of `one` or that of `other`."""
    for at in range(0, len(head), SECTOR):
        end = min(at + SECTOR, len(head))
        if head[at:end] not in (one[at:end], other[at:end]):
            return False
    return True


def _gathered(weights: Weights, file: Path, disk: Disk) -> State:
    """The state, after the gap that a shift of blocks left where it stopped has been closed."""
    state = state_of(weights, file, disk)
    if state != "shifting":
        return state
    begin, end = disk.first_hole(file)
    if end == weights.size + weights.insert:  # nothing has moved: the gap is the end
        disk.truncate(file, weights.size)
    else:
        disk.collapse(file, begin, weights.insert)
    disk.sync(file)
    return state_of(weights, file, disk)


def _content(file: Path, disk: Disk) -> bytes | None:
    size = disk.size(file)
    return None if size is None else disk.read(file, size)


def _replace(folder: Path, journal: Journal, contents: dict[str, bytes | None], disk: Disk) -> None:
    """Give the small files their contents; sync all files of the journal, and the folder."""
    for name, content in contents.items():
        file = folder / name
        if _content(file, disk) == content:
            continue
        if content is None:
            disk.remove(file)
        else:
            temporary = temporary_name(file)
            disk.create(temporary, content, file)
            disk.replace(temporary, file)
    for name in [weights.file for weights in journal.weights] + [
        name for name in contents if contents[name] is not None
    ]:
        disk.sync(folder / name)
    disk.sync(folder)
