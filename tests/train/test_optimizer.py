"""Updates compared with their formulas, decay on matrices only, and a state that can be put back."""

from __future__ import annotations

import msgspec
import pytest
import torch
from torch import Tensor

from zhen.errors import ZhenError
from zhen.model.config import PRESETS
from zhen.model.transformer import Transformer, initialise
from zhen.train import muon
from zhen.train.optimizer import Optimizer
from zhen.train.settings import PretrainSettings

SETTINGS = PretrainSettings(tokens=100, tokens_per_step=10, sequence_length=5, learning_rate=1e-2, weight_decay=0.3)
RATES = (1e-2, 5e-3, 2e-3)


def fresh(tied: bool = True) -> Transformer:
    model = Transformer(msgspec.structs.replace(PRESETS["micro"], vocab_size=50, tie_word_embeddings=tied))
    initialise(model, 1)
    return model


def fill_gradients(model: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def trained(model: Transformer, optimizer: Optimizer, steps: range) -> dict[str, Tensor]:
    for step in steps:
        fill_gradients(model, step)
        optimizer.step(RATES[step])
    return {name: value.clone() for name, value in model.state_dict().items()}


def by_the_formula(weight: Tensor, gradients: list[Tensor], decay: float) -> Tensor:
    """Loshchilov and Hutter 2019, algorithm 2, in float64."""
    weight, first, second = weight.double(), torch.zeros(()).double(), torch.zeros(()).double()
    for number, (gradient, rate) in enumerate(zip(gradients, RATES, strict=True), start=1):
        first = 0.9 * first + 0.1 * gradient.double()
        second = 0.95 * second + 0.05 * gradient.double() ** 2
        update = (first / (1 - 0.9**number)) / ((second / (1 - 0.95**number)).sqrt() + 1e-8)
        weight = weight - rate * update - rate * decay * weight
    return weight


def test_adamw_follows_its_formula_and_decays_matrices_only() -> None:
    model = fresh(tied=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients: dict[str, list[Tensor]] = {name: [] for name in before}
    for step in range(3):
        fill_gradients(model, step)
        for name, parameter in model.named_parameters():
            gradients[name].append(parameter.grad.clone())
    after = trained(model, Optimizer(model, SETTINGS), range(3))
    for name, weight in before.items():
        expected = by_the_formula(weight, gradients[name], 0.0 if "norm" in name else 0.3)
        torch.testing.assert_close(after[name].double(), expected, rtol=1e-5, atol=1e-7)


def test_muon_takes_the_layers_matrices_and_adamw_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "product_dtype", lambda device: torch.bfloat16)  # as PyTorch's has it anywhere
    ours, theirs = fresh(tied=False), fresh(tied=False)
    after = trained(ours, Optimizer(ours, msgspec.structs.replace(SETTINGS, optimizer="muon")), range(3))
    hidden = [p for n, p in theirs.named_parameters() if "_proj" in n]
    reference = torch.optim.Muon(hidden, weight_decay=0.3, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for step in range(3):
        fill_gradients(theirs, step)
        reference.param_groups[0]["lr"] = RATES[step]
        reference.step()
    adamw = fresh(tied=False)
    rest = trained(adamw, Optimizer(adamw, SETTINGS), range(3))
    for name, value in theirs.state_dict().items():
        assert torch.equal(after[name], value if "_proj" in name else rest[name]), name


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (7, 7)])
@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
def test_muon_iterates_on_singular_values(
    shape: tuple[int, int], dtype: torch.dtype, within: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(muon, "product_dtype", lambda device: dtype)
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    a, b, c = 3.4445, -4.775, 2.0315
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    values = values / values.norm()
    for _ in range(5):
        values = a * values + b * values**3 + c * values**5
    made = muon._orthogonal(matrix, (a, b, c), 5, 1e-7)
    assert made.dtype == dtype
    assert (made.double() - left @ values.diag() @ right).abs().max() < within


def test_muon_can_have_all_there_is_to_train() -> None:
    model = fresh()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("up_proj.weight"))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = Optimizer(model, msgspec.structs.replace(SETTINGS, optimizer="muon"))
    fill_gradients(model, 1)
    optimizer.step(1e-2)
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {name for name in before if name.endswith("up_proj.weight")}


@pytest.mark.parametrize("betas", [(0.9, 1.0), (1.0, 0.9), (-0.1, 0.9)])
def test_betas_that_no_average_can_have_are_refused(betas: tuple[float, float]) -> None:
    with pytest.raises(msgspec.ValidationError, match="betas"):
        msgspec.convert(msgspec.to_builtins(SETTINGS) | {"betas": betas}, PretrainSettings)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_state_put_back_goes_on_with_the_same_bits(kind: str) -> None:
    settings = msgspec.structs.replace(SETTINGS, optimizer=kind)
    whole = fresh()
    expected = trained(whole, Optimizer(whole, settings), range(3))
    first = fresh()
    optimizer = Optimizer(first, settings)
    weights, state = trained(first, optimizer, range(2)), optimizer.tensors()
    second = fresh()
    second.load_state_dict(weights)
    again = Optimizer(second, settings)
    again.load({name: value.clone() for name, value in state.items()})
    after = trained(second, again, range(2, 3))
    assert all(torch.equal(after[name], expected[name]) for name in expected)


def test_before_the_first_step_there_is_no_state() -> None:
    assert Optimizer(fresh(), SETTINGS).tensors() == {}


def test_a_state_of_another_model_is_refused() -> None:
    with pytest.raises(ZhenError, match=r"exp_avg\.lm_head\.weight.*no parameter"):
        Optimizer(fresh(tied=True), SETTINGS).load({"exp_avg.lm_head.weight": torch.zeros(1)})
