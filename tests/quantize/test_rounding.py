"""Rounding and GPTQ against what can be worked out otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zhen.checkpoint.packing import pack, unpack
from zhen.errors import ZhenError
from zhen.model.size import weight_group
from zhen.quantize.gptq import Hessian, gptq
from zhen.quantize.round import find_scales, round_to_nearest


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.sampled_from([4, 8]), st.integers(1, 5), st.integers(1, 70), st.integers(0, 99))
def test_packed_codes_come_back(bits: int, rows: int, columns: int, seed: int) -> None:
    half = 1 << (bits - 1)
    codes = np.random.default_rng(seed).integers(-half, half, (rows, columns)).astype(np.int8)
    words = pack(codes, bits)
    assert words.shape == (rows, -(-columns * bits // 32))
    assert np.array_equal(unpack(words, bits, columns), codes)


@pytest.mark.parametrize("bits", [4, 8])
def test_words_are_those_of_compressed_tensors(bits: int) -> None:
    helpers = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers", reason="an oracle")
    half = 1 << (bits - 1)
    codes = np.random.default_rng(3).integers(-half, half, (6, 48)).astype(np.int8)
    theirs = helpers.pack_to_int32(torch.from_numpy(codes), bits)
    assert np.array_equal(pack(codes, bits).view(np.int32), theirs.numpy())


@given(st.integers(1, 400), st.integers(8, 128))
def test_the_group_divides_and_no_larger_one_of_its_kind_does(columns: int, group: int) -> None:
    found = weight_group(columns, group)
    larger = [size for size in range(found + 1, min(group, columns) + 1) if columns % size == 0]
    assert columns % found == 0
    assert group not in larger
    assert not any(size % 32 == 0 for size in larger)
    assert found == group or found % 32 == 0 or not larger


@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_errs_by_half_a_step_at_most_within_the_codes(bits: int) -> None:
    weight = normal(16, 64)
    made = round_to_nearest(weight, bits, 32, torch.bfloat16)
    half = 1 << (bits - 1)
    scales = made.scales.float().repeat_interleave(32, 1)
    inside = (weight / scales > -half - 0.5) & (weight / scales < half - 0.5)
    exact = made.codes.float() * scales
    assert ((exact - weight).abs() <= scales / 2 * 1.0001)[inside].all()
    assert inside.float().mean() > 0.98


def test_scales_are_no_worse_than_the_one_of_the_largest_weight() -> None:
    weight = normal(8, 4, 32)

    def error(scales: torch.Tensor) -> torch.Tensor:
        codes = torch.clamp(torch.round(weight / scales[:, :, None]), -8, 7)
        return ((codes * scales[:, :, None] - weight) ** 2).sum(2)

    plain = (weight.abs().amax(2) / 7.5).bfloat16().float()
    assert (error(find_scales(weight, 4, torch.bfloat16)) <= error(plain)).all()


def test_a_group_of_zeros_stays_zero() -> None:
    weight = torch.zeros(2, 32)
    assert not round_to_nearest(weight, 4, 16, torch.float16).weight().any()


def test_gptq_is_rounding_where_inputs_are_independent() -> None:
    weight = normal(8, 64)
    made = gptq(weight, torch.eye(64), 4, 32, torch.bfloat16, damping=0.01)
    assert torch.equal(made.weight(), round_to_nearest(weight, 4, 32, torch.bfloat16).weight())


def plainly(weight: torch.Tensor, hessian: torch.Tensor, scales: torch.Tensor, damping: float) -> torch.Tensor:
    """Optimal brain quantisation in a fixed order (arXiv 2208.11580), the inverse updated a column at a time."""
    damped = hessian.double() + damping * hessian.diagonal().mean() * torch.eye(len(hessian)).double()
    inverse, left, codes = torch.linalg.inv(damped), weight.double().clone(), torch.zeros_like(weight)
    for at in torch.argsort(hessian.diagonal(), descending=True, stable=True).tolist():
        codes[:, at] = torch.clamp(torch.round(left[:, at] / scales[:, at]), -8, 7)
        error = (left[:, at] - codes[:, at] * scales[:, at]) / inverse[at, at]
        left -= error[:, None] * inverse[at]
        inverse = inverse - inverse[:, at : at + 1] * inverse[at : at + 1] / inverse[at, at]
        inverse[at, at] = 1.0  # done with: nothing reaches it any more
    return codes


def test_gptq_is_optimal_brain_quantisation() -> None:
    inputs = normal(400, 160, seed=1) @ normal(160, 160, seed=2)
    hessian = Hessian(160, torch.device("cpu"))
    hessian.add(inputs.view(4, 100, 160))
    weight = normal(6, 160, seed=3)
    made = gptq(weight, hessian.sum, 4, 32, torch.bfloat16, damping=0.01)
    scales = made.scales.float().repeat_interleave(32, 1)
    same = made.codes.float() == plainly(weight, hessian.sum, scales, 0.01)
    assert same.float().mean() > 0.99  # a tie may fall to the other side in float32


def test_gptq_moves_the_outputs_less_than_rounding() -> None:
    inputs = normal(600, 128, seed=4) @ normal(128, 128, seed=5)
    hessian = Hessian(128, torch.device("cpu"))
    hessian.add(inputs)
    weight = normal(32, 128, seed=6)
    errors = {}
    for name, made in (
        ("gptq", gptq(weight, hessian.sum, 4, 128, torch.bfloat16, 0.01)),
        ("rtn", round_to_nearest(weight, 4, 128, torch.bfloat16)),
    ):
        moved = inputs @ (made.weight() - weight).T
        errors[name] = float(moved.norm() / (inputs @ weight.T).norm())
        assert hessian.output_error(weight, made.weight()) == pytest.approx(errors[name], rel=1e-2)
    assert errors["gptq"] < 0.8 * errors["rtn"]


def test_inputs_that_are_never_there_do_no_harm() -> None:
    inputs = normal(50, 64)
    inputs[:, :20] = 0
    hessian = Hessian(64, torch.device("cpu"))
    hessian.add(inputs)
    made = gptq(normal(4, 64, seed=7), hessian.sum, 4, 32, torch.bfloat16, 0.01)
    assert torch.isfinite(made.weight()).all()


def test_activations_that_are_not_finite_are_told() -> None:
    with pytest.raises(ZhenError, match="calibration text"):
        gptq(normal(4, 64), torch.full((64, 64), torch.nan), 4, 32, torch.bfloat16, 0.01)
