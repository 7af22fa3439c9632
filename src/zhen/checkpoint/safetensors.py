"""One safetensors file: its header, believed only after every number in it has been checked."""

from __future__ import annotations

import os
import stat
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

_NAMES = 250_000
"""Most tensors and metadata keys of one file: twenty times what large shards have; it bounds time and memory."""

_LONGEST = 65_536
"""Most characters of a tensor's entry, which takes about 60; sizes without end would make it larger."""

_OTHER_KINDS = (
    (strictjson.LFS_POINTER, "a Git LFS pointer, not the file itself", strictjson.LFS_HINT),
    (b"GGUF", "a GGUF file", None),
    (b"PK\x03\x04", "a zip archive, as torch.save writes", None),
    (b"\x80", "a pickle", None),
    (b"{", "a JSON file", "name the folder, or its index"),
    (b"<", "a web page or XML", "the download went wrong; fetch the file again"),
)
_MARKS = b"{ \t\r\n"
"""What a header may begin with."""


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
    notes: tuple[str, ...] = ()
    """What is unusual and no fault."""


def begins_header(start: bytes, size: int) -> bool:
    """Whether the first 9 bytes of a file of `size` bytes can be those of safetensors."""
    length = int.from_bytes(start[:8], "little")
    return len(start) >= 9 and length <= min(HEADER_LIMIT, size - 8) and start[8] in _MARKS


def read_header(file: Path) -> Header:
    """The header of a safetensors file, checked against itself and the file's size.

    Raises ZhenError with the rule that is broken, the file, the tensor and the offset in the file.
    """
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ZhenError("no regular file", expected="a safetensors file", file=file, rule="safetensors.file")
        with file.open("rb", buffering=0) as opened:
            size = status.st_size
            start = opened.read(32)
            _refuse_other_kinds(file, start, size)
            if len(start) < 8:
                expected = "at least 8, the header's length"
                raise ZhenError(f"{size} bytes", expected=expected, file=file, rule="safetensors.length")
            length = int.from_bytes(start[:8], "little")
            if length > HEADER_LIMIT or length + 8 > size:
                expected = f"at most {min(HEADER_LIMIT, size - 8)} in a file of {size}"
                rule, place = "safetensors.length", "header length, byte 0"
                raise ZhenError(f"{length} bytes", expected=expected, file=file, place=place, rule=rule)
            return _header(
                strictjson.Scanner(os.pread(opened.fileno(), length, 8), file, "header", 8), length, size, file
            )
    except OSError as error:
        raise ZhenError(f"can't be read: {error.strerror or error}", file=file) from error


def _refuse_other_kinds(file: Path, start: bytes, size: int) -> None:
    for magic, kind, hint in _OTHER_KINDS:
        if start.startswith(magic) and not begins_header(start[:9], size):
            raise ZhenError(kind, expected="safetensors", file=file, hint=hint, rule="safetensors.kind")


def _header(scanner: strictjson.Scanner, length: int, size: int, file: Path) -> Header:
    """The Header whose JSON, of `length` bytes, the scanner holds."""
    start = 8 + length
    notes: list[str] = []
    blank = scanner.at > 0
    found: list[TensorInfo] = []
    metadata: dict[str, str] = {}
    if not scanner.text.startswith("{", scanner.at):
        wrong = f"{scanner.text[scanner.at : scanner.at + 1]!r}"
        raise ZhenError(wrong, expected='"{" first', file=file, place="header, byte 8", rule="safetensors.table")
    for name in scanner.keys():  # noqa: SIM118 - no dict
        if name == "__metadata__":
            if scanner.text.startswith("null", scanner.at):
                scanner.at += 4
                scanner.skip()
                notes.append("__metadata__ is null")
            else:
                metadata = _metadata(scanner, file)
        else:
            found.append(_tensor(name, scanner, start, size, file))
        if len(found) + len(metadata) > _NAMES:
            raise ZhenError(f"more than {_NAMES} names", file=file, place="header", rule="safetensors.count")
    if scanner.at < len(scanner.text):
        behind = f"{scanner.text[scanner.at : scanner.at + 20]!r} behind the table"
        place = f"header, byte {scanner.offset(scanner.at)}"
        raise ZhenError(behind, expected="only white space", file=file, place=place, rule="json.syntax")
    if blank or any(scanner.text.find(mark, scanner.text.rfind("}")) >= 0 for mark in "\n\r\t"):
        notes.append("white space around the header")
    found.sort(key=lambda tensor: (tensor.begin, tensor.end))
    _joined(found, start, size, file)
    if unaligned := [tensor.name for tensor in found if tensor.begin % max(1, BITS[tensor.dtype] // 8)]:
        notes.append(f"not aligned to their elements: {len(unaligned)} tensors, the first {unaligned[0]!r}")
    return Header(file, {tensor.name: tensor for tensor in found}, metadata, start, size, tuple(notes))


def _metadata(scanner: strictjson.Scanner, file: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    rule = "safetensors.metadata"
    if not scanner.text.startswith("{", scanner.at):
        place = f"__metadata__, byte {scanner.offset(scanner.at)}"
        raise ZhenError(_next(scanner), expected="a table of strings", file=file, place=place, rule=rule)
    for key in scanner.keys():  # noqa: SIM118 - no dict
        if not scanner.text.startswith('"', scanner.at):
            place = f"__metadata__.{key[:80]}, byte {scanner.offset(scanner.at)}"
            raise ZhenError(_next(scanner), expected="a string", file=file, place=place, rule=rule)
        found[key] = scanner.string()
        if len(found) > _NAMES:
            break
    return found


def _tensor(name: str, scanner: strictjson.Scanner, start: int, size: int, file: Path) -> TensorInfo:
    """The tensor whose entry the scanner stands before, checked as far as one can be alone."""
    begin = scanner.at

    def refuse(rule: str, found: str, expected: str, hint: str | None = None) -> ZhenError:
        place = f"tensor {name[:200]!r}, byte {scanner.offset(begin)}"
        return ZhenError(found, expected=expected, file=file, place=place, hint=hint, rule=f"safetensors.{rule}")

    if not name:
        raise refuse("name", "a tensor without a name", "a name")
    if not scanner.text.startswith("{", begin):
        raise refuse("entry", _next(scanner), "a table with " + ", ".join(_FIELDS))
    entry = scanner.table(_LONGEST)
    if entry.keys() != set(_FIELDS):
        keys = ", ".join(_short(key) for key in list(entry)[:5]) or "none"
        raise refuse("fields", f"fields {keys}", "just " + ", ".join(_FIELDS))
    dtype, shape, offsets = (entry[field] for field in _FIELDS)
    if not isinstance(dtype, str) or dtype not in BITS:
        hint = did_you_mean(dtype[:20], BITS) if isinstance(dtype, str) else None
        raise refuse("dtype", f"dtype {_short(dtype)}", "one of " + ", ".join(BITS), hint)
    if not _sizes(shape):
        raise refuse("shape", f"shape {_short(shape)}", "a list of sizes from 0 up")
    if not _sizes(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= size - start:
        expected = f"two offsets, 0 ≤ begin ≤ end ≤ {size - start}"
        raise refuse("offsets", f"data_offsets {_short(offsets)}", expected)
    bits = BITS[dtype]
    for dimension in shape:
        bits *= dimension
        if bits >= _MACHINE:
            raise refuse("overflow", f"shape {_short(shape)} of {dtype}", "less than 2^64 bits")
    stored = offsets[1] - offsets[0]
    if bits != 8 * stored:
        needed = f"{bits // 8} bytes" if bits % 8 == 0 else f"{bits} bits, which are no whole bytes"
        raise refuse("size", f"data_offsets of {stored} bytes", f"{needed}, shape {_short(shape)} of {dtype}")
    return TensorInfo(name, dtype, tuple(shape), file, start + offsets[0], start + offsets[1])


def _joined(tensors: list[TensorInfo], start: int, size: int, file: Path) -> None:
    """The tensors, in order, must cover the bytes from `start` to `size` without gap or overlap."""
    at = start
    for tensor in tensors:
        if tensor.begin != at:
            rule, kind = ("hole", "a hole") if tensor.begin > at else ("overlap", "an overlap")
            raise ZhenError(
                f"data_offsets begin at {tensor.begin - start}, {kind}",
                expected=f"{at - start}",
                file=file,
                place=f"tensor {tensor.name[:200]!r}, byte {tensor.begin}",
                rule=f"safetensors.{rule}",
            )
        at = tensor.end
    if at != size:
        found = f"{size - at} bytes behind the last tensor"
        raise ZhenError(found, expected="none", file=file, place=f"data, byte {at}", rule="safetensors.trailing")


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < _MACHINE for item in value)


def _next(scanner: strictjson.Scanner) -> str:
    text = scanner.text[scanner.at : scanner.at + 41]
    return text if len(text) <= 40 else text[:40] + "…"


def _short(value: Any) -> str:
    text = repr(value[:80] if isinstance(value, str | list) else value)
    return text if len(text) <= 80 else text[:77] + "…"
