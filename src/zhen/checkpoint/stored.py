"""What a checkpoint is once it is open, whatever the format on disk."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zhen.checkpoint import strictjson
from zhen.checkpoint.safetensors import TensorInfo
from zhen.errors import ZhenError


class Checkpoint:
    """The tensors of a checkpoint by name, its config, and what was noticed on the way (`notes`).

    Opening reads headers only; `read` maps the file and copies nothing, but for the tensors in `computed`, which don't
    lie in one piece as they are wanted: those are made by a function each. `kind` is the format on disk.
    """

    def __init__(
        self,
        folder: Path,
        tensors: Iterable[TensorInfo],
        config: dict[str, Any] | None,
        *,
        kind: str = "safetensors",
        notes: Sequence[str] = (),
        computed: Mapping[str, Callable[[], memoryview]] | None = None,
    ) -> None:
        self.folder = folder
        self.config = config
        self.kind = kind
        self.notes = list(notes)
        self.tensors: dict[str, TensorInfo] = {}
        for tensor in tensors:
            if tensor.name in self.tensors:
                found = f"also in {self.tensors[tensor.name].file.name}"
                place = f"tensor {tensor.name!r}"
                raise ZhenError(found, expected="one file", file=tensor.file, place=place, rule="index.twice")
            self.tensors[tensor.name] = tensor
        self._computed = computed or {}
        self._maps: dict[Path, memoryview] = {}

    @property
    def files(self) -> list[Path]:
        """The files that hold the tensors, sorted."""
        return sorted({tensor.file for tensor in self.tensors.values()})

    def read(self, name: str) -> memoryview:
        """The bytes of a tensor, mapped read-only from its file; row-major, little-endian."""
        if name not in self.tensors:
            raise ZhenError(f"no tensor {name!r}", file=self.folder)
        if name in self._computed:
            return self._computed[name]()
        tensor = self.tensors[name]
        if tensor.begin == tensor.end:
            return memoryview(b"")
        if tensor.file not in self._maps:
            with tensor.file.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._maps[tensor.file] = memoryview(mapped)
        return self._maps[tensor.file][tensor.begin : tensor.end]

    def release(self) -> None:
        """Let go of the memory of what was read: the system reads it from the files again when it is needed."""
        for view in self._maps.values():
            view.obj.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


@contextmanager
def readable(path: str | Path) -> Iterator[None]:
    """Turns what the system says against reading `path`, or a file in it, into a ZhenError."""
    try:
        yield
    except OSError as error:
        raise ZhenError(f"can't be read: {error.strerror or error}", file=error.filename or path) from error


def read_config(folder: Path) -> dict[str, Any] | None:
    """The parsed config.json of `folder`, None if there is none."""
    file = folder / "config.json"
    if not file.exists():
        return None
    value = strictjson.read(file)
    if not isinstance(value, dict):
        raise ZhenError(type(value).__name__, expected="a table", file=file)
    return value


def read_index(file: Path, suffix: str = ".safetensors") -> tuple[dict[str, str], Any]:
    """(tensor name -> shard's file name, the stated total_size) of an index file.

    Raises ZhenError unless every shard is a plain name that ends in `suffix`, which can't leave the folder.
    """
    value = strictjson.read(file)
    names = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(names, dict):
        expected = "a table of tensor name to file name"
        raise ZhenError("no weight_map", expected=expected, file=file, rule="index.table")
    if not names:
        raise ZhenError("no tensors in weight_map", expected="at least one", file=file, rule="index.table")
    for name, shard in names.items():
        if not isinstance(shard, str) or not _plain(shard) or not shard.endswith(suffix):
            expected = f"a plain file name ending in {suffix}"
            place = f"weight_map {name!r}"
            raise ZhenError(f"{shard!r}", expected=expected, file=file, place=place, rule="index.name")
    metadata = value.get("metadata")
    return names, metadata.get("total_size") if isinstance(metadata, dict) else None


def _plain(name: str) -> bool:
    return name not in ("", ".", "..") and not any(mark in name for mark in ("/", "\\", "\0"))
