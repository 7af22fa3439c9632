"""Codes of 8 or 4 bits into int32 words and back, and packed matrices read as the weights that they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhen.checkpoint.cast import cast, floats
from zhen.checkpoint.packed import PACKED, READ, SCALE, Packed, folded, packed, quantisation
from zhen.checkpoint.stored import Checkpoint
from zhen.checkpoint.views import Array, View, views
from zhen.errors import ZhenError

Codes = NDArray[np.int8]
Words = NDArray[np.uint32]


def pack(codes: Codes, bits: int) -> Words:
    """Codes [rows, columns] of -2^(bits-1) … 2^(bits-1)-1 -> words [rows, columns · bits / 32], rounded up."""
    rows, columns = codes.shape
    each = 32 // bits
    padded = np.zeros((rows, -(-columns // each) * each), dtype=np.uint8)
    padded[:, :columns] = codes.astype(np.int16) + (1 << (bits - 1))
    if bits == 4:
        padded = padded[:, 0::2] | padded[:, 1::2] << 4
    return np.ascontiguousarray(padded).view("<u4")


def unpack(words: Words, bits: int, columns: int) -> Codes:
    """The inverse of `pack`: words -> codes [rows, columns]."""
    data: Any = np.ascontiguousarray(words).view(np.uint8)
    if bits == 4:
        data = np.stack((data & 15, data >> 4), axis=-1).reshape(len(data), -1)
    codes: Codes = (data[:, :columns].astype(np.int16) - (1 << (bits - 1))).astype(np.int8)
    return codes


def whole_views(checkpoint: Checkpoint) -> dict[str, View]:
    """A view of every tensor by name, as `views` gives them; packed matrices as weights in the dtype of their scales.

    Raises ZhenError as `packed` does, and for weights that are quantised in another form.
    """
    if (form := quantisation(checkpoint.config)) not in (None, READ):
        file = checkpoint.folder / "config.json"
        raise ZhenError(f"weights quantised as {form}", expected=READ, file=file, place="quantization_config")
    stored = views(checkpoint)
    found = packed(checkpoint)
    return {
        name: _unpacked(found[name], stored) if name in found else stored[name]
        for name in folded(checkpoint.tensors, found)
    }


def _unpacked(item: Packed, stored: dict[str, View]) -> View:
    words, scales = stored[item.name + PACKED], stored[item.name + SCALE]

    def exact() -> Array:
        codes = unpack(words.read(), item.bits, item.shape[1]).astype(np.float32)
        by_group = codes.reshape(item.shape[0], -1, item.group)
        by_group *= floats(np.ascontiguousarray(scales.read()), item.dtype)[:, :, None]
        return codes.view("<u4")

    return cast(View(item.name, "F32", item.shape, exact), item.dtype)
