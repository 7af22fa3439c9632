"""The header of a GGUF file: metadata and tensors, believed only after every number in it has been checked."""

from __future__ import annotations

import mmap
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zhen.errors import ZhenError

TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
"""Number of a tensor type -> (name, numbers in a block, bytes of a block), as ggml defines them."""

_SCALARS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 10: "<u8", 11: "<i8", 12: "<f8"}
_BOOL, _STRING, _ARRAY = 7, 8, 9
_DEEPEST = 4
"""Arrays in arrays that are followed; no file in the field has any."""


class GgufTensor(NamedTuple):
    """A tensor of a GGUF file: bytes begin … end of the file; `shape` as numpy has it, the longest stride first."""

    name: str
    type: str
    shape: tuple[int, ...]
    begin: int
    end: int


class GgufHeader(NamedTuple):
    """A checked header. Metadata values are bool, int, float, str, or lists and numpy arrays of them."""

    file: Path
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]


def read_gguf_header(file: Path) -> GgufHeader:
    """The header of a GGUF file (version 2 or 3, little-endian), checked against itself and the file's size.

    Raises ZhenError naming place, found and expected.
    """
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return _parse(_Bytes(mapped, file))
    except OSError as error:
        raise ZhenError(f"can't be read: {error.strerror or error}", file=file) from error
    except ValueError as error:  # an empty file can't be mapped
        raise ZhenError("0 bytes", expected="a GGUF file", file=file) from error


class _Bytes:
    """The file's bytes, read one behind the other, never past the end."""

    def __init__(self, mapped: mmap.mmap, file: Path) -> None:
        self._mapped = mapped
        self.file = file
        self.size = len(mapped)
        self.at = 0
        self.place = "header"

    def take(self, count: int) -> bytes:
        if count > self.size - self.at:
            raise self.wrong(f"{count} bytes", f"at most the {self.size - self.at} left from byte {self.at} on")
        self.at += count
        return self._mapped[self.at - count : self.at]

    def unsigned(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def string(self) -> str:
        data = self.take(self.unsigned(8))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.wrong(f"byte {self.at - len(data) + error.start} is not UTF-8", "UTF-8") from error

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _BOOL:
            return self._true_or_false(self.take(1))[0]
        if kind in _SCALARS:
            return self._numbers(kind, 1)[0].item()
        if kind != _ARRAY or depth == _DEEPEST:
            raise self.wrong(f"a value of type {kind}", f"a type from 0 to 12, arrays at most {_DEEPEST} deep")
        inner, count = self.unsigned(4), self.unsigned(8)
        if inner in _SCALARS:
            return self._numbers(inner, count)
        if inner == _BOOL:
            return self._true_or_false(self.take(count))
        if count > (self.size - self.at) // 8:  # a string has 8 bytes of length, an array 12
            raise self.wrong(f"an array of {count}", f"at most what fits the {self.size - self.at} bytes left")
        return [self.value(inner, depth + 1) for _ in range(count)]

    def _numbers(self, kind: int, count: int) -> Any:
        dtype = np.dtype(_SCALARS[kind])
        return np.frombuffer(self.take(count * dtype.itemsize), dtype=dtype)

    def _true_or_false(self, data: bytes) -> list[bool]:
        if not set(data) <= {0, 1}:
            raise self.wrong(f"{max(data)} as a truth value", "0 or 1")
        return [byte == 1 for byte in data]

    def wrong(self, found: str, expected: str, hint: str | None = None) -> ZhenError:
        return ZhenError(found, expected=expected, file=self.file, place=self.place, hint=hint)


def _parse(data: _Bytes) -> GgufHeader:
    if (magic := data.take(min(4, data.size))) != b"GGUF":
        raise data.wrong(f"{magic!r}", "GGUF as the first bytes")
    version = data.unsigned(4)
    if version not in (2, 3):
        kind = "a file for big-endian machines" if not version & 0xFFFF else f"version {version}"
        raise data.wrong(kind, "version 2 or 3, little-endian", "make the file anew with a current llama.cpp")
    tensors, keys = data.unsigned(8), data.unsigned(8)
    metadata: dict[str, Any] = {}
    for _ in range(keys):
        data.place = f"metadata key {len(metadata)}"
        key = data.string()
        if not key or key in metadata:
            raise data.wrong(f"key {key!r}" + (" twice" if key else ""), "a name of its own")
        data.place = f"metadata {key!r}"
        metadata[key] = data.value(data.unsigned(4))
    listed = [_listed(data) for _ in range(tensors)]
    return GgufHeader(data.file, metadata, _laid_out(listed, metadata, data))


def _listed(data: _Bytes) -> tuple[GgufTensor, int]:
    """The next tensor in the list, its bytes counted from 0, and its offset among the data."""
    data.place = "the list of tensors"
    name = data.string()
    data.place = f"tensor {name!r}"
    if (dimensions := data.unsigned(4)) > 4:
        raise data.wrong(f"{dimensions} dimensions", "at most 4")
    shape = tuple(data.unsigned(8) for _ in range(dimensions))[::-1]
    if (kind := data.unsigned(4)) not in TYPES:
        raise data.wrong(f"type {kind}", "one of " + ", ".join(name for name, _, _ in TYPES.values()))
    label, block, width = TYPES[kind]
    if block > 1 and (not shape or shape[-1] % block):
        raise data.wrong(f"rows of {shape[-1] if shape else 1}", f"a multiple of {block} for {label}")
    if prod(max(1, size) for size in shape) >= 1 << 60:
        raise data.wrong(f"shape {list(shape)}", "less than 2^60 numbers")
    return GgufTensor(name, label, shape, 0, prod(shape) // block * width), data.unsigned(8)


def _laid_out(listed: list[tuple[GgufTensor, int]], metadata: dict[str, Any], data: _Bytes) -> dict[str, GgufTensor]:
    """The tensors with their places, which must join in the listed order, each at a multiple of the alignment."""
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        data.place = "metadata 'general.alignment'"
        raise data.wrong(repr(alignment), "a power of two")
    start = data.at + -data.at % alignment
    found: dict[str, GgufTensor] = {}
    at = 0
    for tensor, offset in listed:
        data.place = f"tensor {tensor.name!r}"
        if not tensor.name or tensor.name in found:
            raise data.wrong(f"name {tensor.name!r}" + (" twice" if tensor.name else ""), "a name of its own")
        if offset != at:
            raise data.wrong(f"offset {offset}", f"{at}, behind the tensor before it")
        begin, end = start + offset, start + offset + tensor.end
        if end > data.size:
            raise data.wrong(f"bytes {begin} to {end}", f"at most {data.size}, the file's size")
        found[tensor.name] = tensor._replace(begin=begin, end=end)
        at = offset + tensor.end + -tensor.end % alignment
    if listed and data.size > start + at:
        data.place = "data"
        raise data.wrong(f"{data.size - start - at} bytes behind the last tensor", "none")
    return found
