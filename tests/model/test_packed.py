"""Products of packed weights: against the weights that they stand for, row by row, in any company."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zhen.model.packed import Packed, PackedEmbedding, computable, joined
from zhen.model.packed_kernel import missing

computes = pytest.mark.skipif(missing() is not None, reason=f"packed weights are not computed with: {missing()}")
GENERATOR = torch.Generator().manual_seed(5)


def made(rows: int, columns: int, bits: int, group: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random words and scales, and, by plain arithmetic in float64, what they stand for rounded to bfloat16."""
    half = 1 << (bits - 1)
    codes = torch.randint(-half, half, (rows, columns), generator=GENERATOR)
    scales = (torch.rand(rows, columns // group, generator=GENERATOR) * 0.1 + 0.01).bfloat16()
    weight = (codes.view(rows, -1, group) * scales.double()[..., None]).view(rows, columns).bfloat16()
    words = codes if bits == 8 else codes[:, ::2] + 8 + 16 * (codes[:, 1::2] + 8)
    return words.to(torch.uint8).view(torch.int8), scales.view(torch.int16), weight


SHAPES = [(6, 64, 32), (37, 96, 96), (130, 512, 128), (12, 2048, 64)]


@computes
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("rows", "columns", "group"), SHAPES)
def test_products_are_those_of_the_unpacked_weights(rows: int, columns: int, group: int, bits: int) -> None:
    words, scales, weight = made(rows, columns, bits, group)
    matrix = Packed(words, scales, bits)
    assert torch.equal(matrix.dense(), weight)
    for count in (1, 2, 3, 4, 5, 6, 33, 300):
        x = torch.randn(count, columns, generator=GENERATOR).bfloat16()
        exact = x.double() @ weight.double().T
        # a sum of `columns` terms in float32 is off by at most this share of the terms' sizes; then one rounding
        terms = x.double().abs() @ weight.double().abs().T
        bound = terms * columns * 2.0**-24 + exact.abs() * 2.0**-8
        assert ((matrix(x).double() - exact).abs() <= bound).all()


@computes
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_row_has_the_same_bits_in_any_company(bits: int, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        words, scales, weight = made(1100, 1024, bits, 128)
        matrix = Packed(words, scales, bits)
        x = torch.randn(70, 1024, generator=GENERATOR)
        # what cancels out nearly, so that another order of the sums shows
        x -= torch.linalg.lstsq(weight[:64].float(), weight[:64].float() @ x.T).solution.T
        x = x.bfloat16()
        whole = matrix(x)
        for count in (1, 2, 3, 4, 5, 7, 8, 16, 31, 64):
            assert torch.equal(matrix(x[:count]), whole[:count])
            assert torch.equal(matrix(x[70 - count :]), whole[70 - count :])
    finally:
        torch.set_num_threads(before)


@computes
def test_joined_matrices_give_the_same_bits_and_take_no_more_memory() -> None:
    parts = [Packed(*made(rows, 128, 4, 32)[:2], 4) for rows in (24, 8, 8)]
    x = torch.randn(2, 3, 128, generator=GENERATOR).bfloat16()
    due = torch.cat([part(x) for part in parts], -1)
    whole = joined(parts)
    assert whole is not None
    assert torch.equal(whole(x), due)
    assert torch.equal(torch.cat([part(x) for part in parts], -1), due)
    storages = {t.untyped_storage().data_ptr() for m in (*parts, whole) for t in m.buffers()}
    assert storages == {t.untyped_storage().data_ptr() for t in whole.buffers()}
    assert joined([parts[0], Packed(*made(8, 128, 8, 32)[:2], 8)]) is None


@pytest.mark.parametrize("bits", [4, 8])
def test_an_embedding_gives_the_unpacked_vectors(bits: int) -> None:
    words, scales, weight = made(50, 48, bits, 12)
    tokens = torch.tensor([[3, 49, 0], [7, 7, 1]])
    assert torch.equal(PackedEmbedding(words, scales, bits)(tokens), weight[tokens])


@computes
def test_changing_the_models_dtype_leaves_packed_weights_alone() -> None:
    words, scales, weight = made(8, 64, 4, 32)
    assert torch.equal(Packed(words, scales, 4).float().dense(), weight)


@pytest.mark.parametrize(("shape", "due"), [((8, 96, 48), False), ((5, 64, 32), False), ((6, 64, 32), True)])
def test_shapes_that_are_not_computed_with_are_told(shape: tuple[int, int, int], due: bool) -> None:
    assert computable(*shape) is due


@computes
@pytest.mark.parametrize("x", [torch.zeros(2, 32).bfloat16(), torch.zeros(2, 64)], ids=["narrow", "float32"])
def test_other_input_is_refused_before_it_is_read(x: Tensor) -> None:
    words, scales, _ = made(8, 64, 4, 32)
    with pytest.raises(ValueError, match="64 columns"):
        Packed(words, scales, 4)(x)
