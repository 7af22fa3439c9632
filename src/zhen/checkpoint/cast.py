"""Number formats of weights: float32, bfloat16 and float16 to each other, rounded to the nearest, ties to even."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhen.checkpoint.views import Array, View
from zhen.errors import ZhenError

Floats = NDArray[np.float32]

PIECE = 1 << 21
"""Numbers that are changed at a time, so that the work needs a few megabytes beside a tensor."""

LARGEST = {"F16": 65504.0, "BF16": float.fromhex("0x1.fep127"), "F32": float.fromhex("0x1.fffffep127")}
"""Largest finite number of each format that a tensor can be cast to."""

_BITS: dict[str, np.dtype[Any]] = {"F16": np.dtype("<u2"), "BF16": np.dtype("<u2"), "F32": np.dtype("<u4")}
_SOURCES = (*LARGEST, "F64")


def cast(view: View, dtype: str) -> View:
    """The tensor in another format: "F32", "BF16" or "F16"; a view of that format already stays as it is.

    Raises ZhenError for a tensor that isn't of floating-point numbers, and on reading, where a finite number is too
    large for the format (it would become infinite). Infinities and NaN stay what they are.
    """
    if view.dtype == dtype:
        return view
    if view.dtype not in _SOURCES or (view.dtype == "F64" and dtype != "F32"):
        expected = f"one of {', '.join(LARGEST)}, to be cast to {dtype}"
        raise ZhenError(f"dtype {view.dtype}", expected=expected, place=f"tensor {view.name!r}")

    def read() -> Array:
        bits = np.ascontiguousarray(view.read()).reshape(-1)
        done = np.empty(bits.size, dtype=_BITS[dtype])
        for piece in pieces(bits.size):
            done[piece] = _narrowed(floats(bits[piece], view.dtype), dtype, view.name)
        return done.reshape(view.shape)

    return View(view.name, dtype, view.shape, read)


def pieces(count: int, multiple: int = 1) -> Iterator[slice]:
    """Slices that cover `count` numbers; each but the last begins and ends at a whole `multiple`."""
    step = max(multiple, PIECE // multiple * multiple)
    return (slice(first, min(first + step, count)) for first in range(0, count, step))


def floats(bits: Array, dtype: str) -> Any:
    """Stored bits as float32, which holds "F32", "BF16" and "F16" exactly; "F64" as float64."""
    if dtype == "BF16":
        return (bits.astype("<u4") << 16).view("<f4")
    if dtype == "F16":
        return bits.view("<f2").astype("<f4")
    return bits.view("<f8" if dtype == "F64" else "<f4")


def exact(view: View, dtype: str) -> Callable[[], Array] | None:
    """How to read `view` as `dtype` if no number changes by that, else None; reads the tensor to find out."""
    narrow = cast(view, dtype)
    try:
        same = np.array_equal(cast(narrow, view.dtype).read(), view.read())
    except ZhenError:  # a number that is too large
        return None
    return narrow.read if same else None


def _narrowed(values: Any, dtype: str, name: str) -> Array:
    """The bits of float32 or float64 `values` in `dtype`."""
    done: Array
    if dtype == "BF16":
        bits = values.view("<u4")
        # half of the last kept place is added, a hair less where the place is even: ties go to the even neighbour
        rounded = (bits + (0x7FFF + ((bits >> 16) & 1)).astype("<u4")) >> 16
        done = np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype("<u2")
        infinite = (done & 0x7FFF) == 0x7F80
    else:
        with np.errstate(over="ignore", under="ignore"):
            made = values.astype("<f2" if dtype == "F16" else "<f4")
        infinite = np.isinf(made)
        done = made.view(_BITS[dtype])
    if infinite.any() and (lost := infinite & np.isfinite(values)).any():
        worst = values[lost][np.abs(values[lost]).argmax()]
        raise ZhenError(
            f"{worst:g}, and {int(lost.sum()) - 1} more numbers too large for {dtype}",
            expected=f"at most {LARGEST[dtype]:g}",
            place=f"tensor {name!r}",
            hint="cast to bf16 or f32, or keep the dtype",
        )
    return done
