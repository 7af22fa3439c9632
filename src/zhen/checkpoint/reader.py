"""A checkpoint folder or file, checked whole before anything is read from it. Needs no torch and runs no code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zhen.checkpoint import strictjson
from zhen.checkpoint.safetensors import Header, TensorInfo, read_header
from zhen.checkpoint.stored import Checkpoint, read_config, readable
from zhen.errors import ZhenError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


def open_checkpoint(path: str | Path) -> Checkpoint:
    """The checkpoint in a folder (one file, or shards with their index), of that index, or of one `.safetensors` file.

    Everything is checked: headers, and the index against the shards. Raises ZhenError naming file, tensor, numbers.
    """
    with readable(path):
        path = folder_of_index(Path(path))
        if path.is_dir():
            headers, notes = _folder_headers(path)
            return Checkpoint(path, _tensors(headers), read_config(path), notes=notes)
        if not path.exists():
            raise ZhenError("not found", expected="a checkpoint folder or a .safetensors file", file=path)
        return Checkpoint(path.parent, _tensors([read_header(path)]), read_config(path.parent))


def _tensors(headers: Iterable[Header]) -> list[TensorInfo]:
    return [tensor for header in headers for tensor in header.tensors.values()]


def folder_of_index(path: Path) -> Path:
    """The folder that an index file stands for; any other path as it is."""
    return path.parent if path.name.endswith(".index.json") and path.is_file() else path


def read_index(file: Path, suffix: str = ".safetensors") -> tuple[dict[str, str], Any]:
    """(tensor name -> shard's file name, the stated total_size) of an index file.

    Raises ZhenError unless every shard is a plain name that ends in `suffix`, which can't leave the folder.
    """
    value = strictjson.read(file)
    names = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(names, dict):
        raise ZhenError("no weight_map", expected="a table of tensor name to file name", file=file)
    if not names:
        raise ZhenError("no tensors in weight_map", expected="at least one", file=file)
    for name, shard in names.items():
        if not isinstance(shard, str) or not _plain(shard) or not shard.endswith(suffix):
            expected = f"a plain file name ending in {suffix}"
            raise ZhenError(f"{shard!r}", expected=expected, file=file, place=f"weight_map {name!r}")
    metadata = value.get("metadata")
    return names, metadata.get("total_size") if isinstance(metadata, dict) else None


def _folder_headers(folder: Path) -> tuple[list[Header], list[str]]:
    index, single = folder / INDEX, folder / SINGLE
    if index.exists() and single.exists():
        raise ZhenError(
            f"both {INDEX} and {SINGLE}",
            expected="one of them",
            file=folder,
            hint="loaders differ in which they take; remove the one that isn't meant",
        )
    if index.exists():
        return _sharded(index)
    if single.exists():
        return [read_header(single)], []
    files = weights(folder)
    if len(files) != 1:
        raise ZhenError(
            f"{len(files)} .safetensors files and no {INDEX}" if files else "no .safetensors files",
            expected=f"{SINGLE}, or shards with {INDEX}",
            file=folder,
            hint=_other_weights(folder),
        )
    return [read_header(files[0])], []


def weights(folder: Path) -> list[Path]:
    """The safetensors files in `folder`, without what a killed writer left (those begin with a dot)."""
    return sorted(file for file in folder.glob("*.safetensors") if not file.name.startswith("."))


def _other_weights(folder: Path) -> str | None:
    for pattern in ("*.bin", "*.pth", "*.pt", "*.gguf"):
        if found := sorted(folder.glob(pattern)):
            return f"{found[0].name} is there, but only safetensors is opened: pickle can run code"
    return None


def _sharded(index: Path) -> tuple[list[Header], list[str]]:
    names, stated = read_index(index)
    by_shard: dict[str, set[str]] = {}
    for name, shard in names.items():
        by_shard.setdefault(shard, set()).add(name)
    headers = []
    for shard in sorted(by_shard):
        if not (file := index.parent / shard).exists():
            raise ZhenError("missing", expected=f"the shard named in {INDEX}", file=file)
        header = read_header(file)
        _same_names(header.tensors, by_shard[shard], file)
        headers.append(header)
    actual = sum(header.size - header.data_start for header in headers)
    notes = []
    if type(stated) is not int or stated != actual:
        notes.append(f"{INDEX} states total_size {stated}; the tensors have {actual} bytes")
    if unused := sorted({file.name for file in weights(index.parent)} - by_shard.keys()):
        notes.append(f"not in {INDEX}: " + ", ".join(unused))
    return headers, notes


def _same_names(tensors: Mapping[str, TensorInfo], listed: set[str], file: Path) -> None:
    if extra := sorted(tensors.keys() - listed):
        raise ZhenError(
            f"not listed in {INDEX}", expected="every tensor listed", file=file, place=f"tensor {extra[0]!r}"
        )
    if missing := sorted(listed - tensors.keys()):
        raise ZhenError(f"missing, though {INDEX} lists it here", file=file, place=f"tensor {missing[0]!r}")


def _plain(name: str) -> bool:
    return name not in ("", ".", "..") and not any(mark in name for mark in ("/", "\\", "\0"))
