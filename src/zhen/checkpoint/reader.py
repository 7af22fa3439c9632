"""A checkpoint folder or file, checked whole before anything is read from it. Needs no torch and runs no code."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from zhen.checkpoint.journal import recover
from zhen.checkpoint.safetensors import Header, TensorInfo, begins_header, read_header
from zhen.checkpoint.stored import Checkpoint, read_config, read_index, readable
from zhen.errors import ZhenError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
TORCH_INDEX_END = ".bin.index.json"


def open_checkpoint(path: str | Path) -> Checkpoint:
    """The checkpoint in a folder, of an index, or in one file, whatever its format; its content decides, not its name.

    Safetensors (one file, or shards with their index), PyTorch's `.bin`/`.pth` (`torchfile`), GGUF (`gguf`), and
    Meta's folders (`consolidated`). Of a folder that has several, safetensors is read and the others are noted.
    Everything is checked: headers, and the index against the shards. Raises ZhenError naming file, tensor, numbers.
    """
    with readable(path):
        path = Path(path)
        recover(path)
        if path.is_file() and path.name.endswith(TORCH_INDEX_END):
            return _opened("torchfile", path.parent)
        path = folder_of_index(path)
        if path.is_dir():
            return _open_folder(path)
        if not path.exists():
            raise ZhenError("not found", expected="a checkpoint folder or file", file=path)
        if (module := _format_of(path)) is not None:
            return _opened(module, path)
        headers = [read_header(path)]
        return Checkpoint(path.parent, _tensors(headers), read_config(path.parent), notes=_noted(headers))


def _open_folder(folder: Path) -> Checkpoint:
    others = {
        "torchfile": _visible(folder, "pytorch_model*.bin"),
        "gguf": _visible(folder, "*.gguf"),
        "consolidated": _consolidated(folder),
    }
    if (folder / INDEX).exists() or (folder / SINGLE).exists():
        headers, notes = _folder_headers(folder)
        notes += [f"also here and not read: {files[0].name}" for files in others.values() if files]
        return Checkpoint(folder, _tensors(headers), read_config(folder), notes=_noted(headers) + notes)
    if others["consolidated"]:
        return _opened("consolidated", folder)
    if others["torchfile"]:
        return _opened("torchfile", folder)
    if others["gguf"] and not weights(folder):
        return _opened("gguf", _first_of(others["gguf"], folder))
    headers, notes = _folder_headers(folder)
    return Checkpoint(folder, _tensors(headers), read_config(folder), notes=_noted(headers) + notes)


def _consolidated(folder: Path) -> list[Path]:
    """The weights of a folder of Meta's form; `consolidated.safetensors` only beside the `params.json` it needs."""
    return _visible(folder, "consolidated*.pth", *["consolidated.safetensors"] * (folder / "params.json").exists())


def _first_of(files: list[Path], folder: Path) -> Path:
    """The one GGUF file, or the first of a model that is split into several."""
    parts = [file for file in files if re.search(r"-\d{5}-of-\d{5}\.gguf$", file.name)]
    if len(files) > 1 and len(parts) < len(files):
        raise ZhenError(f"{len(files)} .gguf files", expected="one", file=folder, hint=f"name one: {files[0]}")
    return files[0]


def _format_of(file: Path) -> str | None:
    """The module that opens a file of another format than safetensors, by its first bytes."""
    if not file.is_file():
        return None
    with file.open("rb", buffering=0) as opened:
        start = opened.read(9)
        size = os.fstat(opened.fileno()).st_size
    if begins_header(start, size):  # its length may begin with any bytes
        return None
    if start.startswith(b"GGUF"):
        return "gguf"
    return "torchfile" if start.startswith((b"PK\x03\x04", b"\x80")) else None


def _opened(module: str, path: Path) -> Checkpoint:
    """What the `open_…` function of another format's module gives; the module is imported when it is needed."""
    if module == "gguf":
        from zhen.checkpoint.gguf import open_gguf

        return open_gguf(path)
    if module == "consolidated":
        from zhen.checkpoint.consolidated import open_consolidated

        return open_consolidated(path)
    from zhen.checkpoint.torchfile import open_torch

    return open_torch(path)


def _visible(folder: Path, *patterns: str) -> list[Path]:
    """The files of these names, without what a killed writer left (those begin with a dot)."""
    found = (file for pattern in patterns for file in folder.glob(pattern))
    return sorted(file for file in found if not file.name.startswith("."))


def _tensors(headers: Iterable[Header]) -> list[TensorInfo]:
    return [tensor for header in headers for tensor in header.tensors.values()]


def _noted(headers: Iterable[Header]) -> list[str]:
    return [f"{header.file.name}: {note}" for header in headers for note in header.notes]


def folder_of_index(path: Path) -> Path:
    """The folder that an index file stands for; any other path as it is."""
    return path.parent if path.name.endswith(".index.json") and path.is_file() else path


def _folder_headers(folder: Path) -> tuple[list[Header], list[str]]:
    index, single = folder / INDEX, folder / SINGLE
    if index.exists() and single.exists():
        raise ZhenError(
            f"both {INDEX} and {SINGLE}",
            expected="one of them",
            file=folder,
            hint="loaders differ in which they take; remove the one that isn't meant",
            rule="index.both",
        )
    if index.exists():
        return _sharded(index)
    if single.exists():
        return [read_header(single)], []
    files = weights(folder)
    if len(files) != 1:
        raise ZhenError(
            f"{len(files)} .safetensors files and no {INDEX}" if files else "no .safetensors files",
            expected=f"{SINGLE}, or shards with {INDEX}" + ("" if files else "; or a GGUF file, .bin, Meta's folder"),
            file=folder,
            hint=_other_weights(folder),
        )
    return [read_header(files[0])], []


def weights(folder: Path) -> list[Path]:
    """The safetensors files in `folder`, without what a killed writer left (those begin with a dot)."""
    return _visible(folder, "*.safetensors")


def _other_weights(folder: Path) -> str | None:
    found = _visible(folder, "*.bin", "*.pth", "*.pt", "*.gguf")
    return f"{found[0].name} is there; name that file" if found else None


def _sharded(index: Path) -> tuple[list[Header], list[str]]:
    names, stated = read_index(index)
    by_shard: dict[str, set[str]] = {}
    for name, shard in names.items():
        by_shard.setdefault(shard, set()).add(name)
    headers = []
    for shard in sorted(by_shard):
        if not (file := index.parent / shard).exists():
            raise ZhenError("missing", expected=f"the shard named in {INDEX}", file=file, rule="index.shard")
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
        found, place = f"not listed in {INDEX}", f"tensor {extra[0]!r}"
        raise ZhenError(found, expected="every tensor listed", file=file, place=place, rule="index.unlisted")
    if missing := sorted(listed - tensors.keys()):
        found, place = f"missing, though {INDEX} lists it here", f"tensor {missing[0]!r}"
        raise ZhenError(found, file=file, place=place, rule="index.missing")
