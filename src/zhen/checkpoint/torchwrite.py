"""A file of torch.save with nothing but tensors by name, written without torch: a zip archive around a small pickle."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

import numpy as np

from zhen.checkpoint.views import View
from zhen.errors import ZhenError

_STORAGES = {
    "F64": "DoubleStorage",
    "F32": "FloatStorage",
    "F16": "HalfStorage",
    "BF16": "BFloat16Storage",
    "I64": "LongStorage",
    "I32": "IntStorage",
    "I16": "ShortStorage",
    "I8": "CharStorage",
    "U8": "ByteStorage",
    "BOOL": "BoolStorage",
}
_ALIGNMENT = 64
"""Bytes to a multiple of which torch.save puts the data of a tensor, so that it can be mapped."""

_MADE = (1980, 1, 1, 0, 0, 0)


def write_torch(path: Path, views: Sequence[View], done: Callable[[int], None]) -> None:
    """Write `views` as an OrderedDict of tensors that torch.load reads (weights_only, mmap); synced. Needs no torch.

    `done` is called with the bytes of each tensor when it is written. Equal input gives equal bytes. Raises ZhenError
    for a dtype that has no storage in torch.
    """
    root = path.stem
    with path.open("wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            _add(archive, f"{root}/data.pkl", _pickle(views))
            _add(archive, f"{root}/byteorder", b"little")
            for number, view in enumerate(views):
                data = np.ascontiguousarray(view.read()).reshape(-1).view(np.uint8).data
                _add(archive, f"{root}/data/{number}", data, _ALIGNMENT)
                done(data.nbytes)
            _add(archive, f"{root}/version", b"3\n")
        file.flush()
        os.fsync(file.fileno())


def _add(archive: zipfile.ZipFile, name: str, data: bytes | memoryview, alignment: int = 1) -> None:
    entry = zipfile.ZipInfo(name, _MADE)
    entry.external_attr = 0o600 << 16
    # a local header has 30 bytes, the name, and fields of its own: here one of zeros called FB, as torch writes
    begin = archive.fp.tell() + 30 + len(name) + 4  # type: ignore[union-attr]
    if alignment > 1:
        fill = -begin % alignment
        entry.extra = b"FB" + fill.to_bytes(2, "little") + bytes(fill)
    archive.writestr(entry, data)


def _pickle(views: Sequence[View]) -> bytes:
    """`OrderedDict[str, Tensor]` in protocol 2, each tensor the whole of its own storage."""
    made = b"\x80\x02" + _global("collections", "OrderedDict") + b")R("
    for number, view in enumerate(views):
        if view.dtype not in _STORAGES:
            expected = "one of " + ", ".join(_STORAGES)
            raise ZhenError(f"dtype {view.dtype}", expected=expected, place=f"tensor {view.name!r}")
        storage = (
            b"("
            + _text("storage")
            + _global("torch", _STORAGES[view.dtype])
            + _text(str(number))
            + _text("cpu")
            + _integer(prod(view.shape))
            + b"tQ"
        )
        strides = [prod(view.shape[axis + 1 :]) for axis in range(len(view.shape))]
        # no gradient, no hooks
        rest = _tuple(view.shape) + _tuple(strides) + b"\x89" + _global("collections", "OrderedDict") + b")R"
        tensor = _global("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + _integer(0) + rest + b"tR"
        made += _text(view.name) + tensor
    return made + b"u."


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode("ascii")


def _text(value: str) -> bytes:
    data = value.encode("utf-8")
    return b"X" + len(data).to_bytes(4, "little") + data


def _integer(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + value.to_bytes(4, "little")
    return b"\x8a\x08" + value.to_bytes(8, "little")


def _tuple(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"
