"""Writes safetensors: one file or shards with their index, atomically, hashed on the way. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path

from zhen.checkpoint.reader import INDEX, SINGLE
from zhen.checkpoint.safetensors import BITS, HEADER_LIMIT
from zhen.errors import ZhenError
from zhen.formats.files import Digest, atomic_write, write_json

Bytes = bytes | bytearray | memoryview
Tensor = tuple[str, str, Sequence[int], Bytes | Callable[[], Bytes]]
"""Name, dtype ("BF16"), shape, and its bytes (row-major, little-endian) or a function that gives them when they are
written, so that a large model isn't held twice."""

PYTORCH = {"format": "pt"}
"""The metadata by which loaders know that the tensors are PyTorch's."""


def write_safetensors(path: Path, tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> Digest:
    """Write one safetensors file. Equal input gives equal bytes.

    Tensors lie by falling width of their dtype, so that all are aligned, and otherwise as given; the header is padded
    with spaces to a multiple of 8. Raises ZhenError for what the format can't hold.
    """
    ordered = sorted(tensors, key=lambda tensor: -BITS.get(tensor[1], 0))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, dtype, shape, _ in ordered:
        if name in header or name in ("", "__metadata__"):
            raise ZhenError(f"tensor name {name!r}", expected="a name of its own", file=path)
        end = at + stored_bytes(name, dtype, shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_LIMIT:
        raise ZhenError(f"a header of {len(text)} bytes", expected=f"at most {HEADER_LIMIT}", file=path)
    with atomic_write(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name, dtype, shape, data in ordered:
            view = memoryview(data() if callable(data) else data)
            if view.nbytes != (size := stored_bytes(name, dtype, shape)):
                raise ZhenError(f"{view.nbytes} bytes", expected=f"{size}", file=path, place=f"tensor {name!r}")
            if size:
                file.write(view)
    return file.digest


def write_sharded(
    folder: Path, tensors: Sequence[Tensor], shard_bytes: int, metadata: Mapping[str, str] = PYTORCH
) -> dict[str, Digest]:
    """Write `tensors` as `model.safetensors`, or as shards of at most `shard_bytes` and their index.

    A tensor larger than that has a shard of its own. The index comes last. Returns file name -> size and SHA-256.
    """
    shards: list[list[Tensor]] = [[]]
    room = shard_bytes
    for tensor in tensors:
        size = stored_bytes(*tensor[:3])
        if size > room and shards[-1]:
            shards.append([])
            room = shard_bytes
        shards[-1].append(tensor)
        room -= size
    if len(shards) == 1:
        return {SINGLE: write_safetensors(folder / SINGLE, tensors, metadata)}
    digests: dict[str, Digest] = {}
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        if twice := [name for name, *_ in shard if name in weight_map]:
            raise ZhenError(f"tensor name {twice[0]!r}", expected="a name of its own", file=folder)
        digests[file] = write_safetensors(folder / file, shard, metadata)
        weight_map |= {name: file for name, *_ in shard}
    total = sum(stored_bytes(*tensor[:3]) for tensor in tensors)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    digests[INDEX] = write_json(folder / INDEX, index)
    return digests


def stored_bytes(name: str, dtype: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor. Raises ZhenError for an unknown dtype or a shape that is no whole number of bytes."""
    if dtype not in BITS:
        raise ZhenError(f'dtype "{dtype}"', expected="one of " + ", ".join(BITS), place=f"tensor {name!r}")
    size, rest = divmod(prod(shape) * BITS[dtype], 8)
    if rest or any(dimension < 0 for dimension in shape):
        raise ZhenError(f"shape {list(shape)} of {dtype}", expected="a whole number of bytes", place=f"tensor {name!r}")
    return size
