"""A renamed copy of a checkpoint: new headers, the tensors' bytes handed over by the system, all or nothing."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from zhen.checkpoint import provenance
from zhen.checkpoint.companions import others
from zhen.checkpoint.disk import locked
from zhen.checkpoint.renaming import BLOCK, Plan, Rewrite
from zhen.checkpoint.stored import readable
from zhen.errors import ZhenError
from zhen.formats.files import TEMPORARY, sync_folder, temporary_folder

_PIECE = 64 << 20
"""Bytes that the system is asked to copy at a time; after each, it begins to write them to the disk."""

_START_WRITING = 2  # SYNC_FILE_RANGE_WRITE
_NOT_HERE = (errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM)
"""How a system or file system says that it can't copy by itself."""


class Copied(NamedTuple):
    """What was copied besides the tensors."""

    written: int
    """Bytes of headers and of small files."""
    left_out: dict[str, str]


def copy_checkpoint(
    plan: Plan,
    out: Path,
    record: bytes,
    check: Callable[[Path], None],
    report: Callable[[float, float, str], None],
) -> Copied:
    """Write the renamed checkpoint to `out`, durably; it gets its name last, once `check` didn't raise.

    Raises ZhenError where it can't be written; then nothing is left.
    """
    with building(out) as folder:
        done = 0
        for rewrite in plan.rewrites:
            target = folder / rewrite.header.file.name
            for size in _copy_tensors(rewrite, target):
                done += size
                report(done, plan.data_bytes, "copied")
        copied = _copy_others(plan, folder, record)
        check(folder)
    return copied._replace(written=copied.written + sum(len(rewrite.new) for rewrite in plan.rewrites))


def refuse_taken(out: Path, file: bool = False) -> None:
    """Raises ZhenError where `out` is there already; an empty folder may be, unless a file is to get its name."""
    empty = not file and out.is_dir() and not out.is_symlink() and not any(out.iterdir())
    if os.path.lexists(out) and not empty:
        expected = "a new name" if file else "a new name, or an empty folder"
        raise ZhenError("exists already", expected=expected, file=out, place="--out")


@contextmanager
def building(out: Path, file: bool = False) -> Iterator[Path]:
    """A hidden folder beside `out`, locked while it is built, that becomes `out` once the block ends without an error.

    With `file` the file called `out.name` in it does. Leftovers of builders that were killed are removed. Raises
    ZhenError for what the system says against it; then nothing is left.
    """
    folder = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out)
        folder = temporary_folder(out)
        with locked(folder):
            yield folder
            sync_folder(folder)
            if out.is_dir():
                out.rmdir()  # it was empty
            os.replace(folder / out.name if file else folder, out)
            sync_folder(out.parent)
    except OSError as error:
        hint = "free space, check rights, run again"
        raise ZhenError(f"could not be written: {error.strerror or error}", file=out, hint=hint) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers(out: Path) -> None:
    for leftover in out.parent.glob(f"{TEMPORARY}*"):
        if leftover.name.partition("-")[2].partition("-")[2] == out.name:
            with suppress(ZhenError), locked(leftover):
                shutil.rmtree(leftover)


def _copy_tensors(rewrite: Rewrite, target: Path) -> Iterator[int]:
    """Write the new header and copy the rest of the file behind it; yields the bytes of each piece."""
    with rewrite.header.file.open("rb", buffering=0) as source, target.open("xb", buffering=0) as copy:
        view = memoryview(rewrite.new)
        while view:
            view = view[copy.write(view) :]
        at, to = len(rewrite.old), len(rewrite.new)
        # up to a block's end by itself, so that file systems that share blocks can share the rest
        piece = -at % BLOCK
        while at < rewrite.header.size:
            size = _copy(source.fileno(), copy.fileno(), at, to, min(piece or _PIECE, rewrite.header.size - at))
            _start_writing(copy.fileno(), to, size)
            at, to, piece = at + size, to + size, 0
            yield size
        shutil.copymode(rewrite.header.file, target)
        os.fsync(copy.fileno())


def _copy(source: int, target: int, at: int, to: int, count: int) -> int:
    """Copy up to `count` bytes; returns how many. Raises OSError, also where the source ends."""
    try:
        if size := os.copy_file_range(source, target, count, at, to):
            return size
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
    data = os.pread(source, min(count, 1 << 20), at)
    if not data:
        raise OSError(errno.EIO, "the source has become shorter")
    return os.pwrite(target, data, to)


def _start_writing(handle: int, at: int, size: int) -> None:
    """Have the system begin to write these bytes to the disk; where it can't, the sync at the end does it all."""
    call = ctypes.CDLL(None).sync_file_range
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    call(handle, at, size, _START_WRITING)


def _copy_others(plan: Plan, folder: Path, record: bytes) -> Copied:
    made = {**plan.companions.changed, provenance.RECORD: record}
    weights = {rewrite.header.file.name for rewrite in plan.rewrites}
    along, left = ([], {}) if plan.alone else others(plan.folder, {*made, *weights, *plan.companions.removed})
    written = 0
    folders: set[Path] = set()
    for name in (*made, *along):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        folders.update(parent for parent in target.parents if parent.is_relative_to(folder))
        if name in made:
            target.write_bytes(made[name])
        else:
            with readable(plan.folder / name):
                source = (plan.folder / name).open("rb")
            with source, target.open("xb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
            shutil.copymode(plan.folder / name, target)
        written += target.stat().st_size
        with target.open("rb") as file:
            os.fsync(file.fileno())
    for made_folder in folders:
        sync_folder(made_folder)
    return Copied(written, left)
