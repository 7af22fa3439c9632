"""Training checkpoints: `steps/step-000500/`, all that a run needs to go on with the same bits.

A folder holds every rank's tensors as safetensors, the rest as JSON, and `manifest.json` with the hash of
each file and the place of each tensor. It is built beside its place and renamed, so it is there whole or not
at all; what is damaged afterwards is found by the hashes, and the run goes on from the one before.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor

from zhen.checkpoint.load import DTYPES, tensor_bytes, tensor_from
from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.writer import write_safetensors
from zhen.errors import ZhenError
from zhen.formats.files import (
    Digest,
    publish_folder,
    sha256_file,
    sync_folder,
    temporary_folder,
    write_json,
)
from zhen.formats.record import key_of

MANIFEST = "manifest.json"
STATE = "state.json"
TENSORS = "rank-00000.safetensors"
FORMAT = "zhen-steps-1"

_NEWEST = 2
_STORED = {kind: stored for stored, kind in DTYPES.values()}


class Place(msgspec.Struct, frozen=True):
    """Where a tensor lies: byte offsets `begin` … `end` of `file`."""

    dtype: str
    shape: list[int]
    file: str
    begin: int
    end: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a training checkpoint is made of. `seal` is the hash of all its other fields."""

    format: str
    step: int
    recipe: str
    files: dict[str, tuple[int, str]]
    """Name -> (bytes, sha256)."""
    tensors: dict[str, Place]
    seal: str = ""

    def sealed(self) -> Manifest:
        """The same with its seal."""
        return msgspec.structs.replace(self, seal=key_of(msgspec.structs.replace(self, seal="")))


class Saved(NamedTuple):
    """A training checkpoint that was read."""

    step: int
    recipe: str
    tensors: dict[str, Tensor]
    state: dict[str, Any]


class Steps:
    """The training checkpoints of one run, in one folder. One is written at a time, in a thread."""

    def __init__(self, folder: Path, *, recipe: str, scheduled: Callable[[int], bool], keep: Collection[int]) -> None:
        """`recipe` marks whose they are; `scheduled` tells which steps the recipe saves; `keep` is never deleted."""
        self.folder = folder
        self._recipe = recipe
        self._scheduled = scheduled
        self._keep = {0, *keep}
        self._buffers: dict[str, Tensor] = {}
        self._writer: threading.Thread | None = None
        self._failure: BaseException | None = None

    def newest(self, damaged: Callable[[Path, ZhenError], None]) -> Saved | None:
        """Read the newest one that is whole, or None where there is none.

        Each damaged one passed over is reported to `damaged` and removed, since the run makes it again.
        Raises ZhenError where one belongs to another recipe, or may not be read: that is no damage, and stays.
        """
        for folder in reversed(self._folders()):
            try:
                saved = _read(folder)
            except PermissionError as error:
                raise ZhenError(f"can't be read: {error.strerror}", file=error.filename, hint="check rights") from error
            except ZhenError as error:
                damaged(folder, error)
                _remove(folder)
                continue
            if saved.recipe != self._recipe:
                raise ZhenError(
                    f"was made by recipe {saved.recipe[:12]}",
                    expected=f"recipe {self._recipe[:12]}",
                    file=folder,
                    hint="a changed recipe has a folder of its own; move this one away",
                )
            self._retain()
            return saved
        return None

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Take a private copy of `tensors` and write it, with `state` (JSON values), while the run goes on.

        Waits for the one before. Raises what went wrong with that one.
        """
        self.wait()
        for name in self._buffers.keys() - tensors.keys():
            del self._buffers[name]
        for name, tensor in tensors.items():
            if name not in self._buffers:
                self._buffers[name] = torch.empty(tensor.shape, dtype=tensor.dtype)
            self._buffers[name].copy_(tensor.detach())
        encoded = msgspec.json.encode(state)
        self._writer = threading.Thread(target=self._write_guarded, args=(step, encoded), name="training-checkpoint")
        self._writer.start()

    def wait(self) -> None:
        """Wait until what was handed to `save` is on disk. Raises what went wrong."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def outputs(self) -> Iterator[tuple[Path, Digest | None]]:
        """Every file of every checkpoint, with the digest it had when it was written."""
        for folder in self._folders():
            manifest = _manifest(folder)
            for name, (size, sha256) in manifest.files.items():
                yield folder / name, Digest(size, sha256)
            yield folder / MANIFEST, None

    def _folders(self) -> list[Path]:
        found = (path for path in self.folder.glob("step-*") if path.name[5:].isdecimal())
        return sorted(found, key=lambda path: int(path.name[5:]))

    def _write_guarded(self, step: int, state: bytes) -> None:
        try:
            self._write(step, state)
        except BaseException as error:  # kept for the thread that waits, which raises it
            self._failure = error

    def _write(self, step: int, state: bytes) -> None:
        final = self.folder / f"step-{step:06d}"
        building = temporary_folder(final)
        entries = [
            (name, _STORED[tensor.dtype], tuple(tensor.shape), tensor_bytes(tensor))
            for name, tensor in self._buffers.items()
        ]
        digests = {
            TENSORS: write_safetensors(building / TENSORS, entries, {}),
            STATE: write_json(building / STATE, msgspec.json.decode(state)),
        }
        written = open_checkpoint(building / TENSORS).tensors.values()
        manifest = Manifest(
            format=FORMAT,
            step=step,
            recipe=self._recipe,
            files={name: (digest.bytes, digest.sha256) for name, digest in digests.items()},
            tensors={t.name: Place(t.dtype, list(t.shape), TENSORS, t.begin, t.end) for t in written},
        )
        write_json(building / MANIFEST, msgspec.to_builtins(manifest.sealed()))
        sync_folder(building)
        publish_folder(building, final)
        sync_folder(self.folder)
        self._retain()

    def _retain(self) -> None:
        """Delete all but `keep`, the newest two that the recipe saves, and the newest (made by a stop)."""
        steps = {int(path.name[5:]): path for path in self._folders()}
        scheduled = [step for step in steps if self._scheduled(step)]
        kept = self._keep | set(scheduled[-_NEWEST:]) | set(list(steps)[-1:])
        for step, path in steps.items():
            if step not in kept:
                _remove(path)


def _read(folder: Path) -> Saved:
    """Check every byte, then read. Raises ZhenError naming the file that is not what was written."""
    manifest = _manifest(folder)
    try:
        for name, (size, sha256) in manifest.files.items():
            if sha256_file(folder / name) != (size, sha256):
                raise ZhenError(
                    "is not what was written", expected=f"{size:,} bytes, sha256 {sha256[:12]}", file=folder / name
                )
        state = msgspec.json.decode((folder / STATE).read_bytes())
    except PermissionError:
        raise
    except OSError as error:
        raise ZhenError(f"can't be read: {error.strerror or error}", file=error.filename or folder) from error
    checkpoint = open_checkpoint(folder / TENSORS)
    tensors = {name: tensor_from(info, checkpoint.read(name)) for name, info in checkpoint.tensors.items()}
    return Saved(manifest.step, manifest.recipe, tensors, state)


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except PermissionError:
        raise
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ZhenError(f"no readable manifest: {error}", file=path) from error
    if manifest != manifest.sealed() or manifest.format != FORMAT or folder.name != f"step-{manifest.step:06d}":
        raise ZhenError("the manifest does not agree with its seal", file=path)
    return manifest


def _remove(folder: Path) -> None:
    """Delete a checkpoint, its manifest first, so that half of one is never taken for a whole."""
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder)
