"""Matrices and embeddings that stay packed in 8 or 4 bits, and are computed with as they are.

Each stands for the bfloat16 weights that unpacking gives, to the last bit; products add them up in another order.
Group: neighbouring weights of a row that share a scale.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from zhen.model.packed_kernel import BLOCK, STEP, WIDE, kernel

_INPUT_BYTES = 1 << 19
"""Of the rows that are multiplied at a time: they and some of the matrix stay in a core's second cache."""
_SHARED_WORK = 1 << 20
"""Weights from which a product is shared out among threads."""


def computable(rows: int, columns: int, group: int) -> bool:
    """Whether a packed matrix of this shape can be computed with as it is."""
    return rows >= WIDE and columns % group == 0 and group % STEP == 0


class _Weights(nn.Module):
    """Words and scales as buffers, [rows, bytes] and [rows, groups].

    `words` are int8: two codes + 8 a byte, the first in the low bits, or a code. `scales` are the bits of bfloat16
    numbers as int16, so that a change of the model's dtype leaves them alone.
    """

    words: Tensor
    scales: Tensor

    def __init__(self, words: Tensor, scales: Tensor, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.register_buffer("words", words)
        self.register_buffer("scales", scales)

    @property
    def shape(self) -> torch.Size:
        """Of the matrix that it stands for."""
        return torch.Size((self.words.shape[0], self.words.shape[1] * 8 // self.bits))

    def dense(self) -> Tensor:
        """The weights that it stands for, bfloat16 [rows, columns]."""
        return _unpacked(self.words, self.scales, self.bits)


class Packed(_Weights):
    """A packed matrix in the place of a `Linear`, for inference on a CPU of which `packed_kernel.missing` says None.

    A row of the result has the same bits however many rows there are.
    """

    def __init__(self, words: Tensor, scales: Tensor, bits: int) -> None:
        super().__init__(words, scales, bits)
        self._rows, self._columns = self.shape
        self._group = self._columns // scales.shape[1]
        self._at_once = max(1, _INPUT_BYTES // (2 * self._columns * BLOCK)) * BLOCK
        self._product = kernel(bits)

    def forward(self, x: Tensor) -> Tensor:
        """[..., columns] bfloat16 -> [..., rows] bfloat16; sums are in float32."""
        if x.dtype != torch.bfloat16 or x.shape[-1] != self._columns:  # memory is read by address from here on
            raise ValueError(f"{x.dtype} {list(x.shape)} for a packed matrix of {self._columns} columns")
        x = x.contiguous()
        y = x.new_empty((*x.shape[:-1], self._rows))
        count = x.numel() // self._columns
        threads = torch.get_num_threads() if self._rows * self._columns >= _SHARED_WORK else 1
        if threads == 1:
            self._compute(x, y, count, 0, self._rows)
        else:
            cuts = [self._rows * number // threads // WIDE * WIDE for number in range(threads)] + [self._rows]
            list(_pool(threads).map(lambda n: self._compute(x, y, count, cuts[n], cuts[n + 1]), range(threads)))
        return y

    def _compute(self, x: Tensor, y: Tensor, count: int, first: int, end: int) -> None:
        """The rows first … end - 1 of the matrix with all `count` rows of x."""
        columns, rows, group, buffers = self._columns, self._rows, self._group, self._buffers
        words, scales = buffers["words"].data_ptr(), buffers["scales"].data_ptr()  # type: ignore[union-attr]
        scratch = torch.empty(WIDE * columns, dtype=torch.bfloat16) if count > BLOCK else x
        at, to = x.data_ptr(), y.data_ptr()
        for begin in range(0, count, self._at_once):
            some = min(self._at_once, count - begin)
            its, made = at + 2 * begin * columns, to + 2 * begin * rows
            self._product(its, words, scales, made, scratch.data_ptr(), some, first, end, columns, group, rows)


class PackedEmbedding(_Weights):
    """A packed matrix in the place of an `Embedding`; any group will do."""

    dtype = torch.bfloat16
    """Of the vectors."""

    def forward(self, tokens: Tensor) -> Tensor:
        """[...] int64 -> [..., columns] bfloat16."""
        flat = tokens.reshape(-1)
        return _unpacked(self.words[flat], self.scales[flat], self.bits).view(*tokens.shape, -1)


def joined(parts: Sequence[Packed]) -> Packed | None:
    """Matrices over the same input as one; they become parts of it, in place. None where bits or groups differ."""
    kinds = {(part.bits, part.words.shape[1], part.scales.shape[1]) for part in parts}
    if len(kinds) > 1:
        return None
    whole = Packed(torch.cat([p.words for p in parts]), torch.cat([p.scales for p in parts]), parts[0].bits)
    rows = [len(part.words) for part in parts]
    for part, words, scales in zip(
        parts, *(torch.split(each, rows) for each in (whole.words, whole.scales)), strict=True
    ):
        part.words, part.scales = words, scales
    return whole


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "packed")


def _unpacked(words: Tensor, scales: Tensor, bits: int) -> Tensor:
    codes = words
    if bits == 4:
        pairs = words.view(torch.uint8)
        codes = torch.stack((pairs & 15, pairs >> 4), -1).flatten(1).to(torch.int8) - 8
    grouped = codes.float().view(*scales.shape, -1) * scales.view(torch.bfloat16).float()[..., None]
    return grouped.flatten(1).to(torch.bfloat16)
