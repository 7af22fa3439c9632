"""One safetensors file: its header, believed only after every number in it has been checked."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from zhen.checkpoint import strictjson
from zhen.errors import ZhenError, did_you_mean

HEADER_LIMIT = 100_000_000
"""Largest header in bytes, the reference implementation's limit."""

BITS = {
    **dict.fromkeys(("C64", "F64", "I64", "U64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "U8", "I8"), 8),
    **dict.fromkeys(("F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Bits of an element of each of the format's 22 dtypes."""

_FIELDS = ("dtype", "shape", "data_offsets")
_MACHINE = 1 << 64
"""Sizes are 64-bit in the reference; a product that leaves them is an attack, even where a later factor is 0."""

_OTHER_KINDS = (
    (strictjson.LFS_POINTER, "a Git LFS pointer, not the file itself", strictjson.LFS_HINT),
    (b"GGUF", "a GGUF file", "convert it to safetensors first"),
    (b"PK\x03\x04", "a zip archive, as torch.save writes", "pickle can run code; get or convert to safetensors"),
    (b"\x80", "a pickle", "pickle can run code; get or convert to safetensors"),
    (b"{", "a JSON file", "name the folder, or its index"),
    (b"<", "a web page or XML", "the download went wrong; fetch the file again"),
)


class TensorInfo(NamedTuple):
    """Where a tensor lies: bytes begin … end of `file`, counted from the file's start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    begin: int
    end: int

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)


class Header(NamedTuple):
    """A checked header. `tensors` stand in the order of their bytes, which begin at `data_start`."""

    file: Path
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    data_start: int
    size: int


def read_header(file: Path) -> Header:
    """The header of a safetensors file, checked against itself and the file's size. Raises ZhenError."""
    try:
        with file.open("rb", buffering=0) as opened:
            size = os.fstat(opened.fileno()).st_size
            start = opened.read(32)
            _refuse_other_kinds(file, start)
            if len(start) < 8:
                raise ZhenError(f"{size} bytes", expected="at least 8, the header's length", file=file)
            length = int.from_bytes(start[:8], "little")
            if length > HEADER_LIMIT or length + 8 > size:
                limit = min(HEADER_LIMIT, size - 8)
                raise ZhenError(
                    f"{length} bytes", expected=f"at most {limit} in a file of {size}", file=file, place="header length"
                )
            data = os.pread(opened.fileno(), length, 8)
    except OSError as error:
        raise ZhenError(f"can't be read: {error.strerror or error}", file=file) from error
    return parse_header(data, size, file)


def parse_header(data: bytes, size: int, file: Path) -> Header:
    """The Header in `data` (the JSON alone) of a safetensors file of `size` bytes. Raises ZhenError."""
    if data[:1] != b"{":
        raise ZhenError(f"{data[:1]!r}", expected='"{" as first byte', file=file, place="header")
    if (after := data.rstrip(b" ")[-1:]) != b"}":
        raise ZhenError(f"{after!r} at the end", expected='"}" and then only spaces', file=file, place="header")
    table = strictjson.parse(data, file, "header")
    start = 8 + len(data)
    metadata = _metadata(table.pop("__metadata__", {}), file)
    found = [_tensor(name, entry, start, size, file) for name, entry in table.items()]
    found.sort(key=lambda tensor: (tensor.begin, tensor.end))
    _joined(found, start, size, file)
    return Header(file, {tensor.name: tensor for tensor in found}, metadata, start, size)


def _refuse_other_kinds(file: Path, start: bytes) -> None:
    for magic, kind, hint in _OTHER_KINDS:
        # a header's length may begin with any byte, but then "{" follows as the ninth
        if start.startswith(magic) and start[8:9] != b"{":
            raise ZhenError(kind, expected="safetensors", file=file, hint=hint)


def _metadata(value: Any, file: Path) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ZhenError(_short(value), expected="a table of strings", file=file, place="__metadata__")
    for key, item in value.items():
        if not isinstance(item, str):
            raise ZhenError(_short(item), expected="a string", file=file, place=f"__metadata__.{key}")
    return value


def _tensor(name: str, entry: Any, start: int, size: int, file: Path) -> TensorInfo:
    place = f"tensor {name!r}"
    if not name:
        raise ZhenError("a tensor without a name", expected="a name", file=file, place=place)
    if not isinstance(entry, dict):
        raise ZhenError(_short(entry), expected="a table with " + ", ".join(_FIELDS), file=file, place=place)
    if entry.keys() != set(_FIELDS):
        keys = ", ".join(map(repr, entry)) or "none"
        raise ZhenError(f"fields {keys}", expected="just " + ", ".join(_FIELDS), file=file, place=place)
    dtype, shape, offsets = (entry[field] for field in _FIELDS)
    if not isinstance(dtype, str) or dtype not in BITS:
        hint = did_you_mean(dtype, BITS) if isinstance(dtype, str) else None
        raise ZhenError(
            f"dtype {_short(dtype)}", expected="one of " + ", ".join(BITS), file=file, place=place, hint=hint
        )
    if not _sizes(shape):
        raise ZhenError(f"shape {_short(shape)}", expected="a list of sizes from 0 up", file=file, place=place)
    if not _sizes(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= size - start:
        expected = f"two offsets, 0 ≤ begin ≤ end ≤ {size - start}"
        raise ZhenError(f"data_offsets {_short(offsets)}", expected=expected, file=file, place=place)
    bits = BITS[dtype]
    for dimension in shape:
        bits *= dimension
        if bits >= _MACHINE:
            raise ZhenError(f"shape {_short(shape)} of {dtype}", expected="less than 2^64 bits", file=file, place=place)
    stored = offsets[1] - offsets[0]
    if bits != 8 * stored:
        needed = f"{bits // 8} bytes" if bits % 8 == 0 else f"{bits} bits, which are no whole bytes"
        raise ZhenError(
            f"{stored} bytes", expected=f"{needed}, shape {shape} of {dtype}", file=file, place=f"{place} data_offsets"
        )
    return TensorInfo(name, dtype, tuple(shape), file, start + offsets[0], start + offsets[1])


def _joined(tensors: list[TensorInfo], start: int, size: int, file: Path) -> None:
    """The tensors, in order, must cover the bytes from `start` to `size` without gap or overlap."""
    at = start
    for tensor in tensors:
        if tensor.begin != at:
            kind = "a gap" if tensor.begin > at else "an overlap"
            found = f"begins at {tensor.begin - start}, {kind}"
            raise ZhenError(found, expected=f"{at - start}", file=file, place=f"tensor {tensor.name!r} data_offsets")
        at = tensor.end
    if at != size:
        raise ZhenError(f"{size - at} bytes behind the last tensor", expected="none", file=file, place="data")


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < _MACHINE for item in value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
