"""The few ways in which a rename in place changes files, as the system has them; locks; what a file system can do."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zhen.errors import ZhenError
from zhen.formats.files import temporary_name

_COLLAPSE, _INSERT = 0x08, 0x20  # linux/falloc.h
_F_SETSIG, _SIGURG = 10, 23  # told of a broken lease by a signal that is ignored unless asked for

_NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""How file systems over a network say that folders can't be locked; there a rename in place can't insert, either."""

UNABLE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""How file systems say that they can't insert a range, or not one of that length."""


class Disk:
    """Reads and changes files by path; nothing is durable before `sync`. `written` counts bytes handed to the system.

    A test takes its place to record the sequence of changes, or to lose some of them.
    """

    def __init__(self) -> None:
        self.written = 0

    def size(self, file: Path) -> int | None:
        """Bytes of the file, None where there is none."""
        try:
            return file.stat().st_size
        except FileNotFoundError:
            return None

    def read(self, file: Path, length: int) -> bytes:
        """The first `length` bytes, fewer where the file ends."""
        with file.open("rb", buffering=0) as opened:
            pieces = []
            while length > 0 and (piece := opened.read(length)):
                pieces.append(piece)
                length -= len(piece)
        return b"".join(pieces)

    def first_hole(self, file: Path) -> tuple[int, int]:
        """Begin and end of the first range without storage; both the size where there is none."""
        with file.open("rb", buffering=0) as opened:
            size = os.fstat(opened.fileno()).st_size
            begin = os.lseek(opened.fileno(), 0, os.SEEK_HOLE) if size else 0
            try:
                return begin, os.lseek(opened.fileno(), begin, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:  # no data any more
                    raise
                return begin, size

    def write(self, file: Path, offset: int, data: bytes) -> None:
        """Write over a part of the file."""
        with file.open("r+b", buffering=0) as opened:
            opened.seek(offset)
            view = memoryview(data)
            while view:
                view = view[opened.write(view) :]
        self.written += len(data)

    def create(self, file: Path, data: bytes, like: Path) -> None:
        """Make a file that holds `data`, with the rights of `like` where that is there."""
        with file.open("wb") as opened:
            opened.write(data)
        if like.exists():
            shutil.copymode(like, file)
        self.written += len(data)

    def insert(self, file: Path, length: int) -> None:
        """Put `length` zero bytes, whole blocks, before the first byte. Raises OSError where that can't be done."""
        _fallocate(file, _INSERT, 0, length)

    def collapse(self, file: Path, offset: int, length: int) -> None:
        """Take out a range of whole blocks."""
        _fallocate(file, _COLLAPSE, offset, length)

    def truncate(self, file: Path, size: int) -> None:
        """Cut the file off."""
        os.truncate(file, size)

    def sync(self, path: Path) -> None:
        """Make what was done to a file, or to the names in a folder, durable."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def replace(self, source: Path, target: Path) -> None:
        """Give `source` the name `target`, in one step."""
        os.replace(source, target)

    def remove(self, file: Path) -> None:
        """Take a name away."""
        file.unlink()


def _fallocate(file: Path, mode: int, offset: int, length: int) -> None:
    call = ctypes.CDLL(None, use_errno=True).fallocate
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    with file.open("r+b", buffering=0) as opened:
        while call(opened.fileno(), mode, offset, length):
            if (number := ctypes.get_errno()) != errno.EINTR:
                raise OSError(number, os.strerror(number), str(file))


def block_bytes(folder: Path) -> int:
    """Size of a block of the file system that holds `folder`."""
    return os.statvfs(folder).f_frsize


def can_insert(folder: Path, length: int) -> bool:
    """Whether files in `folder` can be given `length` bytes at their start, tried on a file made for it."""
    trial = temporary_name(folder / "trial")
    disk = Disk()
    try:
        disk.create(trial, b"trial", trial)
        disk.insert(trial, length)
    except OSError as error:
        if error.errno in UNABLE:
            return False
        raise
    finally:
        trial.unlink(missing_ok=True)
    return True


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for one rename; the lock ends with the process. Raises ZhenError where another holds it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            hint = "wait for it to end"
            raise ZhenError("is being renamed by another process", file=folder, hint=hint) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(handle)


def refuse_open_elsewhere(file: Path) -> None:
    """Raises ZhenError where another process has `file` open or mapped: its tensors would move under that process.

    Asked of the system by a lease, which it grants only to a file that nobody else has open; where it knows no leases,
    or the file is another user's, nothing is known and nothing is said.
    """
    handle = os.open(file, os.O_RDONLY)
    try:
        fcntl.fcntl(handle, _F_SETSIG, _SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            hint = "end that process first, or leave out --in-place"
            raise ZhenError("is open in another process", file=file, hint=hint) from error
    finally:
        os.close(handle)
