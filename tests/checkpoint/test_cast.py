"""Casts are torch's, bit for bit, on every 16-bit number and on float32s of every kind; overflow is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zhen.checkpoint.cast import cast, exact
from zhen.checkpoint.views import View
from zhen.errors import ZhenError

TORCH = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
RAW = {"F32": np.uint32, "BF16": np.uint16, "F16": np.uint16}


def view(bits: np.ndarray, dtype: str) -> View:
    return View("t", dtype, bits.shape, lambda: bits)


def torchs(bits: np.ndarray, source: str, target: str) -> np.ndarray:
    raw = torch.from_numpy(bits.copy()).view(TORCH[source]).to(TORCH[target])
    return raw.view(torch.int32 if target == "F32" else torch.int16).numpy().view(RAW[target])


def floats_of_every_kind() -> np.ndarray:
    made = np.random.default_rng(0).integers(0, 1 << 32, 200_000, dtype=np.uint32)
    # halves between two numbers of either narrow format, and their neighbours
    ties = np.arange(0, 1 << 16, 3, dtype=np.uint32)
    edges = [ties << 16 | low for low in (0x7FFF, 0x8000, 0x8001, 0x0FFF, 0x1000, 0x1001, 0x3000)]
    return np.concatenate([made, *edges])


@pytest.mark.parametrize("source", ["BF16", "F16"])
def test_every_16_bit_number_widens_exactly(source: str) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    wide = cast(view(bits, source), "F32").read().view(np.float32)
    theirs = torchs(bits, source, "F32").view(np.float32)
    assert np.array_equal(wide, theirs, equal_nan=True)
    assert np.array_equal(np.signbit(wide), np.signbit(theirs))


@pytest.mark.parametrize("target", ["BF16", "F16"])
def test_rounding_is_to_the_nearest_ties_to_even(target: str) -> None:
    bits = floats_of_every_kind()
    theirs = torchs(bits, "F32", target)
    values = bits.view(np.float32)
    infinite = torch.from_numpy(theirs.copy()).view(TORCH[target]).isinf().numpy()
    fits = ~(infinite & np.isfinite(values)) & ~np.isnan(values)
    assert np.array_equal(cast(view(bits[fits], "F32"), target).read(), theirs[fits])


@pytest.mark.parametrize("source", ["F32", "BF16"])
def test_a_number_that_would_become_infinite_is_refused_and_named(source: str) -> None:
    bits = torch.tensor([1.0, -70000.0, 65504.0, float("inf")]).to(TORCH[source])
    raw = bits.view(torch.int32 if source == "F32" else torch.int16).numpy().view(RAW[source])
    with pytest.raises(ZhenError, match="too large for F16") as error:
        cast(view(raw, source), "F16").read()
    assert "-7" in error.value.found
    assert error.value.place == "tensor 't'"


@pytest.mark.parametrize("source", ["F32", "BF16"])
def test_infinities_and_nan_stay(source: str) -> None:
    raw = torch.tensor([float("inf"), -float("inf"), float("nan")]).to(TORCH[source])
    bits = raw.view(torch.int32 if source == "F32" else torch.int16).numpy().view(RAW[source])
    for target in TORCH:
        found = torch.from_numpy(
            cast(view(bits, source), target).read().copy().view(np.int32 if target == "F32" else np.int16)
        )
        values = found.view(TORCH[target]).float()
        assert values[0] == float("inf")
        assert values[1] == -float("inf")
        assert values[2].isnan()


@pytest.mark.parametrize("source", ["BF16", "F16"])
def test_what_was_widened_comes_back_exactly(source: str) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    finite = bits[np.isfinite(cast(view(bits, source), "F32").read().view(np.float32))]
    wide = cast(view(finite, source), "F32").read()
    read = exact(view(wide, "F32"), source)
    assert read is not None
    assert np.array_equal(read(), finite)
    assert exact(view(wide + 1, "F32"), source) is None


def test_whole_numbers_are_not_cast() -> None:
    with pytest.raises(ZhenError, match="dtype I64"):
        cast(View("n", "I64", (1,), lambda: np.zeros(1, np.uint64)), "BF16")
