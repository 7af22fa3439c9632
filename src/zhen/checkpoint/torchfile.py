"""PyTorch's files (`.bin`, `.pth`, `.pt`): the tensors in them, found without unpickling. Needs no torch."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zhen.checkpoint import pickles
from zhen.checkpoint.safetensors import BITS, TensorInfo
from zhen.checkpoint.stored import Checkpoint, read_config, read_index, readable
from zhen.checkpoint.ziparchive import Member, members, read_member
from zhen.errors import ZhenError

INDEX = "pytorch_model.bin.index.json"
WRAPPERS = ("state_dict", "model", "module")
"""Keys under which trainers put the table of tensors beside their own state."""

_BESIDE = ("version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id")
"""Members of a torch.save archive that hold no tensors."""
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""What the first two pickles of the format before PyTorch 1.6 say."""


class _File(NamedTuple):
    """A file opened: what its pickle describes, where each storage's bytes lie, and their order in an element."""

    file: Path
    value: Any
    storages: Mapping[str, tuple[int, int]]
    big_endian: bool


def open_torch(path: str | Path) -> Checkpoint:
    """The checkpoint in a file of torch.save, or in a folder with `pytorch_model*.bin` (and its index).

    Nothing is run: `pickles.walk` takes the pickle for a description. The tensors are those of a flat table, or of the
    one under "state_dict", "model" or "module"; what else is there is noted. Tensors that don't lie in order in the
    file (transposed, sliced with a step, of the other byte order) are put in order when they are read. Raises
    ZhenError for everything that isn't just tensors, with the rule and the offset.
    """
    with readable(path):
        path = Path(path)
        folder = path if path.is_dir() else path.parent
        files, notes = _shards(path) if path.is_dir() else ([path], [])
        tensors: list[TensorInfo] = []
        computed: dict[str, Callable[[], memoryview]] = {}
        for file in files:
            opened = _open(file)
            table, beside = _table(opened)
            notes += [f"{file.name}: {note}" for note in beside]
            for name, tensor in table.items():
                info, in_order = _placed(name, tensor, opened)
                tensors.append(info)
                if not in_order:
                    computed[name] = partial(_in_order, opened, tensor)
        if path.is_dir() and (folder / INDEX).exists():
            _as_listed(folder / INDEX, tensors)
        return Checkpoint(folder, tensors, read_config(folder), kind="torch", notes=notes, computed=computed)


def says(file: Path) -> str:
    """What a file that loaders unpickle holds: "it holds only tensors", "it names os.system (…), …"."""
    runs = "loading it may run any program"
    try:
        with file.open("rb") as opened:
            head = opened.read(pickles.LARGEST)
        if not head.startswith((b"PK", b"\x80")):  # a pickle of protocol 0 or 1, if it is one
            pickles.walk(head, file)
            return runs
        open_torch(file)
    except ZhenError as error:
        if error.rule in ("pickle.name", "pickle.opcode"):
            return f"it {error.found} ({error.place}), and {runs}"
        return runs
    return "it holds only tensors"


def _shards(folder: Path) -> tuple[list[Path], list[str]]:
    found = sorted(file for file in folder.glob("pytorch_model*.bin") if not file.name.startswith("."))
    if (folder / INDEX).exists():
        names, _ = read_index(folder / INDEX, ".bin")
        files = [folder / name for name in sorted(set(names.values()))]
        if missing := [file for file in files if not file.exists()]:
            expected = f"the shard named in {INDEX}"
            raise ZhenError("missing", expected=expected, file=missing[0], rule="index.shard")
        unused = [file.name for file in found if file not in files]
        return files, [f"not in {INDEX}: " + ", ".join(unused)] if unused else []
    if len(found) != 1:
        raise ZhenError(f"{len(found)} pytorch_model*.bin and no {INDEX}", expected="one, or an index", file=folder)
    return found, []


def _as_listed(index: Path, tensors: Iterable[TensorInfo]) -> None:
    """Raises ZhenError unless each tensor is in the shard that the index names, and each that it names is there."""
    names, _ = read_index(index, ".bin")
    there = {tensor.name: tensor.file.name for tensor in tensors}
    for name in sorted(there.keys() | names.keys()):
        if there.get(name) != names.get(name):
            found = f"in {there[name]}" if name in there else "missing"
            expected = f"in {names[name]}" if name in names else f"not listed in {index.name}"
            rule = "index.unlisted" if name not in names else "index.missing"
            raise ZhenError(found, expected=expected, file=index, place=f"tensor {name!r}", rule=rule)


def _open(file: Path) -> _File:
    if not file.is_file():
        raise ZhenError("no regular file", expected="a file of torch.save", file=file, rule="torch.file")
    with file.open("rb") as opened:
        start = opened.read(4)
    if start == b"PK\x03\x04":
        return _open_zip(file)
    if start[:1] == b"\x80":
        return _open_legacy(file)
    hint = "a tar archive of PyTorch before 0.1.10, or no file of torch.save at all; save it again with torch.save"
    raise ZhenError(
        "no zip archive and no pickle", expected="a file of torch.save", file=file, hint=hint, rule="torch.file"
    )


def _open_zip(file: Path) -> _File:
    found = members(file)
    roots = [name.removesuffix("/data.pkl") for name in found if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1:
        hint = "not every zip archive is one of torch.save" if not roots else None
        raise ZhenError(f"{len(roots)} members data.pkl", expected="one", file=file, hint=hint, rule="torch.members")
    inside = {name.removeprefix(f"{roots[0]}/"): member for name, member in found.items()}
    storages: dict[str, tuple[int, int]] = {}
    for name, member in inside.items():
        if name.startswith("data/") and name.count("/") == 1:
            storages[name.removeprefix("data/")] = member.begin, member.end
        elif name not in _BESIDE and name != "data.pkl":
            hint = "TorchScript holds a program" if name.startswith("code/") or name == "constants.pkl" else None
            expected = "only tensors and their description"
            raise ZhenError(f"member {name!r}", expected=expected, file=file, hint=hint, rule="torch.members")
    order = _small(file, inside["byteorder"]) if "byteorder" in inside else b"little"
    if order not in (b"little", b"big"):
        raise ZhenError(f"byteorder {order!r}", expected="little or big", file=file, rule="torch.byteorder")
    pickle = inside["data.pkl"]
    if pickle.end - pickle.begin > pickles.LARGEST:
        found_size = f"{pickle.end - pickle.begin} bytes"
        raise ZhenError(
            found_size, expected=f"at most {pickles.LARGEST}", file=file, place="data.pkl", rule="pickle.size"
        )
    data = read_member(file, pickle)
    value, end = pickles.walk(data, file, "data.pkl")
    if end != len(data):
        found_behind = f"{len(data) - end} bytes behind the pickle"
        raise ZhenError(found_behind, expected="none", file=file, place="data.pkl", rule="pickle.trailing")
    return _File(file, value, storages, order == b"big")


def _small(file: Path, member: Member) -> bytes:
    return read_member(file, member) if member.end - member.begin <= 16 else b""


def _open_legacy(file: Path) -> _File:
    """Five pickles (magic, protocol, system, value, keys), then of each key the number of elements and the elements."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        data = opened.read(pickles.LARGEST)
    at = 0
    values: list[Any] = []
    found: dict[str, pickles.Storage] = {}
    for _ in ("magic", "protocol", "system", "value", "keys"):
        value, length = pickles.walk(data[at:], file, "pickle", at, found)
        values.append(value)
        at += length
        if values[:2] != [_MAGIC, _PROTOCOL][: len(values)]:
            hint = "only files of torch.save are read"
            raise ZhenError("a pickle", expected="a file of torch.save", file=file, hint=hint, rule="torch.magic")
    system, keys = values[2], values[4]
    if not isinstance(system, dict) or type(keys) is not list or any(type(key) is not str for key in keys):
        raise ZhenError("a damaged file of torch.save", file=file, rule="torch.magic")
    storages: dict[str, tuple[int, int]] = {}
    with file.open("rb") as opened:
        for key in keys:
            opened.seek(at)
            stated = int.from_bytes(opened.read(8), "little")
            if key not in found or key in storages or stated != found[key].elements:
                raise ZhenError(f"{stated} elements", file=file, place=f"storage {key!r}", rule="torch.storage")
            begin, at = at + 8, at + 8 + stated * BITS[found[key].dtype] // 8
            storages[key] = begin, at
    if at != size:
        raise ZhenError(f"the storages end at {at}", expected=f"{size}", file=file, rule="torch.storage")
    return _File(file, values[3], storages, system.get("little_endian") is False)


def _table(opened: _File) -> tuple[dict[str, pickles.Tensor], list[str]]:
    """(the table of tensors by name, what else the file holds)."""
    value, notes = opened.value, []
    if isinstance(value, dict) and not _tensors(value):
        inner = [key for key in WRAPPERS if isinstance(value.get(key), dict) and _tensors(value[key])]
        if len(inner) == 1:
            beside = sorted(str(key)[:40] for key in value if key != inner[0])
            notes = [f'the tensors under "{inner[0]}" are read; also there: {", ".join(beside)}'] if beside else []
            value = value[inner[0]]
    found = _tensors(value) if isinstance(value, dict) else {}
    if not found:
        keys = [str(key)[:40] for key in value][:5] if isinstance(value, dict) else []
        what = f"a table of {', '.join(keys)}, …" if keys else f"a {type(value).__name__.lower()}"
        expected = 'a flat table of tensors, or one under "state_dict", "model" or "module"'
        raise ZhenError(what, expected=expected, file=opened.file, rule="torch.table")
    if others := [str(key)[:40] for key in value if key not in found]:
        shown = ", ".join(others[:5]) + (", …" if len(others) > 5 else "")
        notes.append(f"no tensors, and not read: {shown}")
    return found, notes


def _tensors(table: Mapping[Any, Any]) -> dict[str, pickles.Tensor]:
    return {key: value for key, value in table.items() if type(key) is str and isinstance(value, pickles.Tensor)}


def _placed(name: str, tensor: pickles.Tensor, opened: _File) -> tuple[TensorInfo, bool]:
    """(where a tensor lies, whether its bytes lie there as they are wanted). The storage's size is checked."""
    storage = tensor.storage
    width = BITS[storage.dtype] // 8
    place = f"tensor {name!r}"
    if storage.key not in opened.storages:
        found = f"storage {storage.key!r} is missing"
        raise ZhenError(found, file=opened.file, place=place, rule="torch.storage")
    first, end = opened.storages[storage.key]
    if end - first != storage.elements * width:
        expected = f"{storage.elements} elements of {storage.dtype}"
        raise ZhenError(f"{end - first} bytes", expected=expected, file=opened.file, place=place, rule="torch.storage")
    begin = first + tensor.offset * width if 0 not in tensor.shape else first
    info = TensorInfo(name, storage.dtype, tensor.shape, opened.file, begin, begin + prod(tensor.shape) * width)
    return info, (_contiguous(tensor) and not (opened.big_endian and width > 1)) or 0 in tensor.shape


def _contiguous(tensor: pickles.Tensor) -> bool:
    wanted = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.strides), strict=True):
        if size != 1 and stride != wanted:
            return False
        wanted *= size
    return True


def _in_order(opened: _File, tensor: pickles.Tensor) -> memoryview:
    """A tensor's bytes row by row, little-endian, gathered from its storage."""
    storage = tensor.storage
    # complex numbers are two floats, each in the byte order of the machine that wrote them
    parts = 2 if storage.dtype == "C64" else 1
    width = BITS[storage.dtype] // 8
    element = np.dtype(f"{'>' if opened.big_endian else '<'}u{width // parts}")
    first, end = opened.storages[storage.key]
    with opened.file.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        stored = np.frombuffer(mapped, dtype=element, count=(end - first) // element.itemsize, offset=first)
        strides = [stride * width for stride in tensor.strides] + [element.itemsize] * (parts - 1)
        shape = [*tensor.shape] + [parts] * (parts - 1)
        seen = np.lib.stride_tricks.as_strided(stored[tensor.offset * parts :], shape, strides, writeable=False)
        out = np.ascontiguousarray(seen, dtype=element.newbyteorder("<")).copy()
        del seen, stored  # a map can't be closed while an array looks into it
    return memoryview(out.reshape(-1).view(np.uint8).data)
