"""Tensors to come: a name, a dtype, a shape and how to read it, so that a large model is changed tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zhen.checkpoint.safetensors import BITS
from zhen.checkpoint.stored import Checkpoint
from zhen.checkpoint.writer import Tensor
from zhen.errors import ZhenError

Array = NDArray[Any]

RAW: dict[int, np.dtype[Any]] = {8: np.dtype("u1"), 16: np.dtype("<u2"), 32: np.dtype("<u4"), 64: np.dtype("<u8")}
"""Bits of an element -> the unsigned integers that stand for it."""


class View(NamedTuple):
    """A tensor that is read when it is needed.

    `read` gives an array of `shape` whose elements are the stored bits as unsigned integers of the dtype's width, so
    that a change of order is the same for every dtype and loses nothing. It may lie in a mapped file: only read it.
    """

    name: str
    dtype: str
    """As safetensors names it: "BF16"."""
    shape: tuple[int, ...]
    read: Callable[[], Array]


def views(checkpoint: Checkpoint) -> dict[str, View]:
    """A view of every tensor of a checkpoint, by name. Raises ZhenError for elements narrower than a byte."""
    return {name: _stored(checkpoint, name) for name in checkpoint.tensors}


def _stored(checkpoint: Checkpoint, name: str) -> View:
    tensor = checkpoint.tensors[name]
    if BITS[tensor.dtype] not in RAW:
        place = f"tensor {name!r}"
        raise ZhenError(f"dtype {tensor.dtype}", expected="whole bytes an element", file=tensor.file, place=place)
    raw = RAW[BITS[tensor.dtype]]

    def read() -> Array:
        return np.frombuffer(checkpoint.read(name), dtype=raw).reshape(tensor.shape)

    return View(name, tensor.dtype, tensor.shape, read)


def renamed(view: View, name: str) -> View:
    """The same tensor under another name."""
    return view._replace(name=name)


def rows(view: View, name: str, first: int, count: int) -> View:
    """`count` rows from `first` on."""
    return View(name, view.dtype, (count, *view.shape[1:]), lambda: view.read()[first : first + count])


def part(view: View, name: str, axis: int, number: int, count: int) -> View:
    """Part `number` of `count` equal ones along `axis`. Raises ZhenError for a size that `count` doesn't divide."""
    size, rest = divmod(view.shape[axis], count)
    if rest:
        expected = f"a multiple of {count} along axis {axis}"
        raise ZhenError(f"shape {list(view.shape)}", expected=expected, place=f"tensor {view.name!r}")
    shape = (*view.shape[:axis], size, *view.shape[axis + 1 :])
    cut = (*[slice(None)] * axis, slice(number * size, (number + 1) * size))
    return View(name, view.dtype, shape, lambda: view.read()[cut])


def chosen(view: View, name: str, order: NDArray[np.int64]) -> View:
    """The rows of `order`, int64[rows], in that order."""
    return View(name, view.dtype, (len(order), *view.shape[1:]), lambda: view.read()[order])


def joined(parts: Sequence[View], name: str, axis: int = 0) -> View:
    """The parts one behind the other along `axis`. Raises ZhenError where dtypes or the other sizes differ."""
    first = parts[0]
    for part in parts[1:]:
        others = (part.dtype, part.shape[:axis], part.shape[axis + 1 :])
        if others != (first.dtype, first.shape[:axis], first.shape[axis + 1 :]):
            found = f"{part.dtype} {list(part.shape)}"
            expected = f"to fit {first.name!r}, {first.dtype} {list(first.shape)}"
            raise ZhenError(found, expected=expected, place=f"tensor {part.name!r}")
    size = sum(part.shape[axis] for part in parts)
    shape = (*first.shape[:axis], size, *first.shape[axis + 1 :])
    return View(name, first.dtype, shape, lambda: np.concatenate([part.read() for part in parts], axis=axis))


def written(view: View) -> Tensor:
    """The tensor as the writer takes it."""
    return view.name, view.dtype, view.shape, lambda: np.ascontiguousarray(view.read()).reshape(-1).view(np.uint8).data
