"""Layers that multiply in float8 where they are trained: by torchao's emulation, beside rounding done here."""

from __future__ import annotations

import sys

import msgspec
import pytest
import torch
from torch import Tensor

from zhen.errors import ZhenError
from zhen.model.config import PRESETS, ModelConfig
from zhen.model.transformer import Transformer, initialise
from zhen.train import float8
from zhen.train.batch import Batch
from zhen.train.float8 import into_float8
from zhen.train.loop import CrossEntropy, accumulate, clip_gradient
from zhen.train.optimizer import Optimizer
from zhen.train.parallel import Layout
from zhen.train.settings import PretrainSettings, Scaling

# what torchao says of itself and of torch where it is imported
pytestmark = pytest.mark.filterwarnings("ignore")

CONFIG = msgspec.structs.replace(PRESETS["micro"], vocab_size=96)
PLACE = "pretrain.float8"


def fresh(config: ModelConfig = CONFIG) -> Transformer:
    model = Transformer(config)
    initialise(model, 1)
    return model


def batch() -> Batch:
    tokens = torch.arange(8 * 33).reshape(8, 33) * 5 % 96
    every = torch.ones(8, 32, dtype=torch.bool)
    return Batch(tokens[:, :-1], tokens[:, 1:], every, ~every)


def losses(model: Transformer, steps: int) -> list[float]:
    """Before each of some updates."""
    settings = PretrainSettings(tokens=10_000, tokens_per_step=256, sequence_length=32, learning_rate=3e-3)
    optimizer, found = Optimizer(model, settings), []
    for _ in range(steps):
        loss, _ = accumulate(model, batch(), micro_batch=4, dtype=torch.float32, loss=CrossEntropy())
        clip_gradient(optimizer, settings.gradient_clip)
        optimizer.step(settings.learning_rate)
        found.append(loss.item())
    return found


def rounded(values: Tensor, dtype: torch.dtype, by_row: bool) -> Tensor:
    """What values become in float8, scaled so that the largest, of all or of each row, is the largest there is."""
    largest = values.abs().amax(-1, keepdim=True) if by_row else values.abs().max()
    scale = torch.finfo(dtype).max / largest
    if by_row:  # torchao's rows have powers of two
        scale = torch.exp2(torch.floor(torch.log2(scale)))
    return (values * scale).to(dtype).float() / scale


@pytest.mark.parametrize("scaling", ["tensorwise", "rowwise", "rowwise_with_gw_hp"])
def test_products_and_their_gradients_are_those_of_rounded_factors(scaling: Scaling) -> None:
    model = fresh()
    weight = model.model.layers[0].mlp.up_proj.weight.detach().clone()
    into_float8(model, scaling, PLACE, emulate=True)
    matrix = model.model.layers[0].mlp.up_proj
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(48, 32, generator=generator, requires_grad=True)
    into = torch.randn(48, 96, generator=generator)
    y = matrix(x)
    y.backward(into)

    row = scaling != "tensorwise"
    e4m3, e5m2 = torch.float8_e4m3fn, torch.float8_e5m2
    back = e4m3 if row else e5m2
    torch.testing.assert_close(y, rounded(x, e4m3, row) @ rounded(weight, e4m3, row).T)
    exact = scaling == "rowwise_with_gw_hp"
    torch.testing.assert_close(x.grad, rounded(into, back, row) @ rounded(weight.T, e4m3, row).T)
    outer = into.T @ x if exact else rounded(into.T, back, row) @ rounded(x.T, e4m3, row).T
    torch.testing.assert_close(matrix.weight.grad, outer)


def test_what_is_measured_is_not_rounded_and_names_stay() -> None:
    plain, model = fresh(), fresh()
    into_float8(model, "tensorwise", PLACE, emulate=True)
    assert list(model.state_dict()) == list(plain.state_dict())
    tokens = batch().tokens
    with torch.no_grad():
        assert torch.equal(model(tokens), plain(tokens))
    assert not torch.equal(model(tokens), plain(tokens))


@pytest.mark.parametrize("scaling", ["tensorwise", "rowwise"])
def test_it_learns_as_float32_does(scaling: Scaling) -> None:
    def change(model: Transformer) -> None:
        into_float8(model, scaling, PLACE, emulate=True)

    model = Layout().build(CONFIG, change)
    initialise(model, 1)
    wide, narrow = losses(fresh(), 30), losses(model, 30)
    assert wide[-1] < 0.7 * wide[0]
    assert narrow != wide
    assert narrow == pytest.approx(wide, rel=0.02)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_without_a_gpu_it_is_refused() -> None:
    with pytest.raises(ZhenError, match="no GPU"):
        into_float8(fresh(), "rowwise", PLACE)


def test_a_gpu_that_has_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA A100")
    with pytest.raises(ZhenError, match=r"A100 \(capability 8.0\); expected a GPU with float8"):
        into_float8(fresh(), "rowwise", PLACE)


def test_without_torchao_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float8, "_lacks", lambda: None)
    monkeypatch.setitem(sys.modules, "torchao.float8", None)
    with pytest.raises(ZhenError) as caught:
        into_float8(fresh(), "rowwise", PLACE)
    assert caught.value.hint == "pip install 'zhen[float8]'"


def test_matrices_that_the_gpu_does_not_take_are_refused() -> None:
    odd = msgspec.structs.replace(CONFIG, intermediate_size=100)
    with pytest.raises(ZhenError, match=r"layer 0: mlp.gate_proj is 100 × 32; expected multiples of 16"):
        into_float8(fresh(odd), "rowwise", PLACE, emulate=True)


def test_impossible_combinations_are_problems() -> None:
    settings = PretrainSettings(
        tokens=10_000, tokens_per_step=256, sequence_length=32, learning_rate=3e-3, float8="rowwise", dtype="float32"
    )
    cut = msgspec.structs.replace(settings, dtype=None, parallel=msgspec.structs.replace(settings.parallel, tensor=2))
    assert [field for field, *_ in settings.problems()] == ["float8", "warmup_steps"]
    assert [field for field, *_ in cut.problems()] == ["parallel.tensor", "warmup_steps"]
