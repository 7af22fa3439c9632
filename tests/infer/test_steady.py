"""The number of rows from which on company changes no bit, on shapes for which a few rows are computed otherwise."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
import torch
import torch.nn.functional as F

from zhen.infer.steady import steady_rows
from zhen.model.config import PRESETS
from zhen.model.linear import Product
from zhen.model.transformer import Transformer, initialise


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_from_the_steady_number_on_a_row_has_the_same_bits_in_any_company(dtype: torch.dtype) -> None:
    config = msgspec.structs.replace(
        PRESETS["micro"], hidden_size=256, intermediate_size=1536, num_hidden_layers=1, vocab_size=300
    )
    model = Transformer(config)
    initialise(model, 1)
    model = model.to(dtype)
    model.join()
    least = steady_rows(model, 80)
    assert 1 <= least <= 16
    down = model.model.layers[0].mlp.down_proj
    generator = torch.Generator().manual_seed(5)
    with torch.inference_mode():
        for _ in range(20):
            x = torch.randn(80, 1536, generator=generator).to(dtype)
            whole = down(x)
            for count in (least, least + 1, 16, 31, 64):
                assert torch.equal(down(x[:count]), whole[:count])


@pytest.mark.parametrize("beyond", [0, 5, 40])
def test_a_product_that_adds_many_rows_otherwise_is_cut(monkeypatch: pytest.MonkeyPatch, beyond: int) -> None:
    plain = Product._whole

    def otherwise(self: Product, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-2] <= beyond:
            return plain(self, x)
        weight, half = self.dense(), x.shape[-1] // 2 + 3 * x.shape[-2]
        return F.linear(x[..., :half], weight[:, :half]) + F.linear(x[..., half:], weight[:, half:])

    monkeypatch.setattr(Product, "_whole", otherwise)
    config = msgspec.structs.replace(PRESETS["micro"], hidden_size=64, intermediate_size=1024, vocab_size=300)
    model = Transformer(config)
    initialise(model, 1)
    model.join()
    least = steady_rows(model, 100)
    generator = torch.Generator().manual_seed(5)
    for down in (layer.mlp.down_proj for layer in model.model.layers):
        x = torch.randn(100, 1024, generator=generator)
        whole = down(x)
        for count in (least, 7, 33, 65, 99):
            if count >= least:
                assert torch.equal(down(x[:count]), whole[:count])
