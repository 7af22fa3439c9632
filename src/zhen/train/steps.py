"""Training checkpoints: `steps/step-000500/`, all that a run needs to go on with the same bits.

A folder holds every process's part of the tensors as safetensors, the rest as JSON, and `manifest.json` with the hash
of each file and the place of each part. It is built beside its place and renamed, so it is there whole or not at all;
what is damaged afterwards is found by the hashes, and the run goes on from the one before. Any number of processes,
cut in any way, can go on from it.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor

from zhen.checkpoint.load import DTYPES, tensor_bytes, tensor_from
from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.stored import Checkpoint
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
from zhen.train.cut import Box, box_of
from zhen.train.ranks import ALONE, Ranks

MANIFEST = "manifest.json"
STATE = "state.json"
FORMAT = "zhen-steps-2"

_NEWEST = 2
_STORED = {kind: stored for stored, kind in DTYPES.values()}
_KINDS = dict(DTYPES.values())


class Piece(msgspec.Struct, frozen=True):
    """A part of a tensor: byte offsets `begin` … `end` of `file`, and where it begins in the whole."""

    file: str
    begin: int
    end: int
    offset: list[int]
    shape: list[int]


class Place(msgspec.Struct, frozen=True):
    """Where a tensor lies; its pieces cover it."""

    dtype: str
    shape: list[int]
    pieces: list[Piece]


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


class Parts(Mapping[str, Tensor]):
    """The tensors of a training checkpoint by name, read when they are asked for."""

    def __init__(self, folder: Path, tensors: Mapping[str, Place], below: str = "") -> None:
        """Only those whose names begin with `below`, which is left out of them."""
        self._folder = folder
        self._tensors = tensors
        self._below = below
        self._names = [name.removeprefix(below) for name in tensors if name.startswith(below)]
        self._open: dict[str, Checkpoint] = {}

    def __getitem__(self, name: str) -> Tensor:
        place = self._tensors[self._below + name]
        return self.part(name, Box(torch.empty(place.shape, device="meta"), (), (0,) * len(place.shape), True))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def below(self, prefix: str) -> Parts:
        """Those whose names begin with `prefix`."""
        return Parts(self._folder, self._tensors, self._below + prefix)

    def part(self, name: str, box: Box) -> Tensor:
        """What belongs into `box`, from the pieces that lie in it. Raises ZhenError where they don't cover it."""
        place = self._tensors[self._below + name]
        found = torch.empty(box.local.shape, dtype=_KINDS[place.dtype])
        elements = 0
        for piece in place.pieces:
            meeting = _overlap(box.offset, found.shape, piece.offset, piece.shape)
            if meeting is not None:
                inside, there = meeting
                found[inside] = self._read(self._below + name, piece)[there]
                elements += found[inside].numel()
        if elements != found.numel():
            raise ZhenError("has parts of a tensor only", file=self._folder, place=f"tensor {self._below + name!r}")
        return found

    def _read(self, name: str, piece: Piece) -> Tensor:
        if piece.file not in self._open:
            self._open[piece.file] = open_checkpoint(self._folder / piece.file)
        checkpoint = self._open[piece.file]
        return tensor_from(checkpoint.tensors[name], checkpoint.read(name))


def _overlap(
    offset: Sequence[int], size: Sequence[int], other: Sequence[int], other_size: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
    """Where two boxes meet, in the indices of the first and of the second; None where they don't."""
    begins = [max(a, b) for a, b in zip(offset, other, strict=True)]
    ends = [min(a + n, b + m) for a, n, b, m in zip(offset, size, other, other_size, strict=True)]
    if any(begin >= end for begin, end in zip(begins, ends, strict=True)):
        return None
    both = list(zip(begins, ends, strict=True))
    return (
        tuple(slice(begin - at, end - at) for (begin, end), at in zip(both, offset, strict=True)),
        tuple(slice(begin - at, end - at) for (begin, end), at in zip(both, other, strict=True)),
    )


class Saved(NamedTuple):
    """A training checkpoint that was found whole."""

    step: int
    recipe: str
    tensors: Parts
    state: dict[str, Any]


class Steps:
    """The training checkpoints of one run, in one folder. One is written at a time, in a thread."""

    def __init__(
        self,
        folder: Path,
        *,
        recipe: str,
        scheduled: Callable[[int], bool],
        keep: Collection[int],
        reach: int = 0,
        ranks: Ranks = ALONE,
    ) -> None:
        """`recipe` marks whose they are; `scheduled` tells which steps the recipe saves; `keep` is never deleted.

        From each on that is kept as the newest, one can go back by `reach` steps and need no older ones than are kept.

        With several processes, all call each method; process 0 alone makes and removes folders.
        """
        self.folder = folder
        self._ranks = ranks
        self._recipe = recipe
        self._scheduled = scheduled
        self._keep = {0, *keep}
        self._reach = reach
        self._buffers: dict[str, Tensor] = {}
        self._boxes: dict[str, Box] = {}
        self._writer: threading.Thread | None = None
        self._failure: BaseException | None = None

    def newest(self, damaged: Callable[[Path, ZhenError], None]) -> Saved | None:
        """Read the newest one that is whole, or None where there is none.

        Each damaged one passed over is reported to `damaged` and removed, since the run makes it again.
        Raises ZhenError where one belongs to another recipe, or may not be read: that is no damage, and stays.
        """
        found = self._ranks.shared(lambda: self._newest(damaged))
        if found is None:
            return None
        return opened(self.folder / found)

    def _newest(self, damaged: Callable[[Path, ZhenError], None]) -> str | None:
        """The name of the newest folder that is whole."""
        for folder in reversed(self._folders()):
            try:
                recipe = _checked(folder).recipe
            except PermissionError as error:
                raise ZhenError(f"can't be read: {error.strerror}", file=error.filename, hint="check rights") from error
            except ZhenError as error:
                damaged(folder, error)
                _remove(folder)
                continue
            if recipe != self._recipe:
                raise ZhenError(
                    f"was made by recipe {recipe[:12]}",
                    expected=f"recipe {self._recipe[:12]}",
                    file=folder,
                    hint="a changed recipe has a folder of its own; move this one away",
                )
            self._retain()
            return folder.name
        return None

    def remove(self, unwanted: Callable[[int, Mapping[str, Any]], bool]) -> None:
        """Delete those for whose step and state `unwanted` says so. Process 0 alone calls."""
        for folder in self._folders():
            try:
                state = msgspec.json.decode((folder / STATE).read_bytes())
            except (OSError, msgspec.DecodeError):
                continue  # damaged: it is told where it would be gone on from
            if unwanted(int(folder.name[5:]), state):
                _remove(folder)

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Take a private copy of `tensors` and write it, with `state` (JSON values), while the run goes on.

        Waits for the one before. Raises what went wrong with that one.
        """
        self.wait()
        boxes = {name: box_of(tensor.detach()) for name, tensor in tensors.items()}
        self._boxes = {name: box for name, box in boxes.items() if box.owned and (box.local.numel() or not box.shape)}
        for name in self._buffers.keys() - self._boxes.keys():
            del self._buffers[name]
        for name, box in self._boxes.items():
            if name not in self._buffers:
                self._buffers[name] = torch.empty(box.local.shape, dtype=box.local.dtype)
            self._buffers[name].copy_(box.local)
        encoded = msgspec.json.encode(state)
        final = self.folder / f"step-{step:06d}"
        building = Path(self._ranks.shared(lambda: str(temporary_folder(final))))
        whole = {name: list(box.shape) for name, box in boxes.items()}
        self._writer = threading.Thread(
            target=self._write_guarded, args=(step, encoded, building, whole), name="training-checkpoint"
        )
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

    def _write_guarded(self, step: int, state: bytes, building: Path, whole: Mapping[str, list[int]]) -> None:
        try:
            self._write(step, state, building, whole)
        except BaseException as error:  # kept for the thread that waits, which raises it
            self._failure = error

    def _write(self, step: int, state: bytes, building: Path, whole: Mapping[str, list[int]]) -> None:
        try:
            part: Any = self._write_part(building)
        except BaseException as error:
            self._ranks.gathered({"failed": str(error)})
            raise
        parts = self._ranks.gathered(part)
        if self._ranks.rank:
            return
        for at, given in enumerate(parts):
            if "failed" in given:
                raise ZhenError(f"process {at} could not write its part: {given['failed']}", file=building)
        files = {given["file"]: (given["bytes"], given["sha256"]) for given in parts}
        state_digest = write_json(building / STATE, msgspec.json.decode(state))
        manifest = Manifest(
            format=FORMAT,
            step=step,
            recipe=self._recipe,
            files=files | {STATE: (state_digest.bytes, state_digest.sha256)},
            tensors=_places(parts, whole),
        )
        write_json(building / MANIFEST, msgspec.to_builtins(manifest.sealed()))
        sync_folder(building)
        publish_folder(building, self.folder / f"step-{step:06d}")
        sync_folder(self.folder)
        self._retain()

    def _write_part(self, building: Path) -> dict[str, Any]:
        """Write what this process holds; returns the file, its digest and what lies where, as JSON values."""
        path = building / f"rank-{self._ranks.rank:05d}.safetensors"
        entries = [
            (name, _STORED[tensor.dtype], tuple(tensor.shape), tensor_bytes(tensor))
            for name, tensor in self._buffers.items()
        ]
        digest = write_safetensors(path, entries, {})
        pieces = {
            info.name: [info.dtype, info.begin, info.end, list(self._boxes[info.name].offset), list(info.shape)]
            for info in open_checkpoint(path).tensors.values()
        }
        return {"file": path.name, "bytes": digest.bytes, "sha256": digest.sha256, "pieces": pieces}

    def _retain(self) -> None:
        """Delete all but `keep`, the newest two that the recipe saves, the newest (made by a stop), those in reach."""
        steps = {int(path.name[5:]): path for path in self._folders()}
        scheduled = [step for step in steps if self._scheduled(step)]
        kept = self._keep | set(scheduled[-_NEWEST:]) | set(list(steps)[-1:])
        if self._reach:
            far = max([step for step in scheduled if step <= scheduled[-1] - self._reach], default=0)
            kept |= {step for step in scheduled if step >= far}
        for step, path in steps.items():
            if step not in kept:
                _remove(path)


def _places(parts: Sequence[Mapping[str, Any]], whole: Mapping[str, list[int]]) -> dict[str, Place]:
    """Where each tensor lies, from what every process wrote."""
    kinds: dict[str, str] = {}
    pieces: dict[str, list[Piece]] = {}
    for part in parts:
        for name, (dtype, begin, end, offset, shape) in part["pieces"].items():
            kinds[name] = dtype
            pieces.setdefault(name, []).append(Piece(part["file"], begin, end, offset, shape))
    return {name: Place(kinds[name], shape, pieces[name]) for name, shape in whole.items() if name in pieces}


def _checked(folder: Path) -> Manifest:
    """The manifest, after every byte was checked. Raises ZhenError naming the file that is not what was written."""
    manifest = _manifest(folder)
    try:
        for name, (size, sha256) in manifest.files.items():
            if sha256_file(folder / name) != (size, sha256):
                raise ZhenError(
                    "is not what was written", expected=f"{size:,} bytes, sha256 {sha256[:12]}", file=folder / name
                )
        msgspec.json.decode((folder / STATE).read_bytes())
    except PermissionError:
        raise
    except OSError as error:
        raise ZhenError(f"can't be read: {error.strerror or error}", file=error.filename or folder) from error
    return manifest


def opened(folder: Path) -> Saved:
    """A training checkpoint whose bytes were checked."""
    manifest = _manifest(folder)
    state = msgspec.json.decode((folder / STATE).read_bytes())
    return Saved(manifest.step, manifest.recipe, Parts(folder, manifest.tensors), state)


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
