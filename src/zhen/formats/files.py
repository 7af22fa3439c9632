"""Safe files: written under another name, hashed on the way, synced and renamed; folders; locks."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from zhen.errors import ZhenError

TEMPORARY = ".part-"
"""Marks a name that is being written: `.part-<pid>-<name>`. What bears it is never read and may be removed."""


class Digest(NamedTuple):
    """Size in bytes and SHA-256 (hex) of a file's content."""

    bytes: int
    sha256: str


class HashingFile:
    """A binary file that hashes what is written to it. `digest` is final once it is closed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write all of `data`; returns its length in bytes."""
        view = memoryview(data).cast("B")
        self._file.write(view)
        self._hash.update(view)
        self._bytes += len(view)
        return len(view)

    def flush(self) -> None:
        """Hand buffered bytes to the system."""
        self._file.flush()

    def tell(self) -> int:
        """Bytes written so far."""
        return self._bytes

    @property
    def closed(self) -> bool:
        """Whether the file below is closed (asked by libraries that take a file object)."""
        return self._file.closed

    def writable(self) -> bool:
        """Always true (asked by libraries that take a file object)."""
        return True

    def readable(self) -> bool:
        """Always false (asked by libraries that take a file object)."""
        return False

    def seekable(self) -> bool:
        """Always false: the hash runs over the bytes in order."""
        return False

    def close(self) -> None:
        """Do nothing: `atomic_write` closes the file, after it was synced."""

    @property
    def digest(self) -> Digest:
        """Size and SHA-256 of what was written so far."""
        return Digest(self._bytes, self._hash.hexdigest())


def temporary_name(path: Path) -> Path:
    """A sibling of `path` to write to before the rename; unlike any other process's."""
    return path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")


@contextmanager
def atomic_write(path: Path) -> Iterator[HashingFile]:
    """Write `path` so that it appears whole or not at all: temporary sibling, fsync, rename, fsync of the folder.

    Raises ZhenError when the disk is full or the folder can't be written; the temporary file is removed.
    """
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as file:
            hashing = HashingFile(file)
            yield hashing
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):  # the folder itself may be gone or be none
            temporary.unlink(missing_ok=True)
        there = path.parent.is_dir() and not path.is_dir()
        hint = "free space, check rights, run again" if there else "name a file in a folder that is there"
        raise ZhenError(f"could not be written: {error.strerror or error}", file=path, hint=hint) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, data: bytes) -> Digest:
    """Write `data` to `path` atomically."""
    with atomic_write(path) as file:
        file.write(data)
    return file.digest


def write_text(path: Path, text: str) -> Digest:
    """Write `text` to `path` as UTF-8, atomically."""
    return write_bytes(path, text.encode("utf-8"))


def json_bytes(value: Any) -> bytes:
    """`value` as indented UTF-8 JSON with a final newline; keys keep their order."""
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8")


def write_json(path: Path, value: Any) -> Digest:
    """Write `value` as `json_bytes` gives it, atomically."""
    return write_bytes(path, json_bytes(value))


def sha256_file(path: Path) -> Digest:
    """Size and SHA-256 of a file, read in pieces of 1 MiB (memory stays constant)."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
            size += len(piece)
    return Digest(size, digest.hexdigest())


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def temporary_folder(final: Path) -> Path:
    """An empty sibling of `final` to build in before `publish_folder`."""
    folder = temporary_name(final)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def publish_folder(temporary: Path, final: Path) -> None:
    """Rename a built folder to its final name, replacing what is there, durably."""
    if final.exists():
        shutil.rmtree(final)
    os.replace(temporary, final)
    sync_folder(final.parent)


def point(link: Path, target: Path) -> None:
    """Make `link` a symbolic link to `target`, replacing an older link in one step.

    Raises ZhenError where a file or folder has the link's name.
    """
    if link.is_symlink() and Path(os.readlink(link)) == target:
        return
    if link.exists() and not link.is_symlink():
        raise ZhenError(f"is in the way of the link to {target}", file=link, hint="move it elsewhere")
    temporary = temporary_name(link)
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, link)


def remove_leftovers(folder: Path) -> None:
    """Remove what earlier, killed attempts left half-written anywhere below `folder`."""
    for path in sorted(folder.rglob(f"{TEMPORARY}*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, so that no worker outlives a SIGKILL of the run."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)


class FolderLock:
    """An exclusive `flock` on `<folder>/.lock`, which holds the owner's pid and host; it ends with the process."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".lock"
        self._file: IO[str] | None = None

    def __enter__(self) -> FolderLock:
        """Take the lock. Raises ZhenError naming the pid and host that hold it, or where the folder can't be made."""
        folder = self._path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = self._path.open("a+", encoding="utf-8")
        except OSError as error:
            raise ZhenError(
                f"can't be worked in: {error.strerror}", file=folder, hint="choose another folder with --out"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read().strip() or "another process"
            file.close()
            raise ZhenError(
                f"is in use by {owner}",
                file=folder,
                hint="wait for that run to end, or choose another folder with --out",
            ) from error
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        self._file = file
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None
