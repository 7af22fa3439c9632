"""LoRA beside PEFT, preferences beside TRL."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from zhen.checkpoint.load import load_model, save_model
from zhen.model.transformer import Transformer
from zhen.train.optimizer import trained
from zhen.tune.lora import Adapted, adapt, merge, save_adapter
from zhen.tune.losses import preference_losses
from zhen.tune.settings import TARGETS, LoraSettings

SETTINGS = [
    LoraSettings(rank=4, alpha=6.0),
    LoraSettings(rank=3, alpha=8.0, stabilised=True, targets=["q_proj", "down_proj"]),
]
TOKENS = torch.randint(9, 400, (2, 12), generator=torch.Generator().manual_seed(1))


def adapted(base: Path, settings: LoraSettings) -> Transformer:
    """A model whose adapters do something."""
    model, generator = load_model(base, torch.float32), torch.Generator().manual_seed(2)
    adapt(model, settings, 7)
    for module in model.modules():
        if isinstance(module, Adapted):
            with torch.no_grad():
                module.lora_B.copy_(0.05 * torch.randn(module.lora_B.shape, generator=generator))
    return model


@pytest.mark.parametrize("settings", SETTINGS)
def test_merged_is_applied(base: Path, settings: LoraSettings) -> None:
    model = adapted(base, settings)
    applied = model(TOKENS)
    merge(model)
    torch.testing.assert_close(model(TOKENS), applied, rtol=1e-5, atol=1e-5)
    plain = load_model(base, torch.float32)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert (plain(TOKENS) - applied).abs().max() > 1e-2


def test_a_fresh_adapter_changes_nothing_and_alone_is_trained(base: Path) -> None:
    model, plain = load_model(base, torch.float32), load_model(base, torch.float32)
    adapt(model, SETTINGS[0], 7)
    assert torch.equal(model(TOKENS), plain(TOKENS))
    names = trained(model)
    assert len(names) == 2 * len(TARGETS) * model.config.num_hidden_layers
    assert all(".lora_" in name for name in names)
    other = load_model(base, torch.float32)
    adapt(other, SETTINGS[0], 7)
    assert all(torch.equal(one, trained(other)[name]) for name, one in names.items())


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT of transformers
@pytest.mark.parametrize("settings", SETTINGS)
def test_peft_loads_the_adapter_and_has_the_same_loss_and_gradient(
    base: Path, tmp_path: Path, settings: LoraSettings
) -> None:
    peft = pytest.importorskip("peft", reason="PEFT is not installed")
    transformers = pytest.importorskip("transformers")
    model = adapted(base, settings)
    save_adapter(model, settings, tmp_path / "adapter")
    save_model(load_model(base, torch.float32), tmp_path / "base", "float32", None, 64)
    other = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    other = peft.PeftModel.from_pretrained(other, tmp_path / "adapter", is_trainable=True)
    logits = model(TOKENS)
    torch.testing.assert_close(other(TOKENS).logits, logits, rtol=1e-4, atol=1e-5)
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten())
    theirs = other(TOKENS, labels=TOKENS).loss
    torch.testing.assert_close(theirs, loss)
    loss.backward()
    theirs.backward()
    gradients = {name: parameter.grad for name, parameter in other.named_parameters() if parameter.requires_grad}
    for name, parameter in trained(model).items():
        expected = gradients[f"base_model.model.{name}.default.weight"]
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-6)


def loss_of_trl(trainer: Any, logprobs: torch.Tensor, reference: torch.Tensor, beta: float) -> torch.Tensor:
    """What TRL's trainer makes of given log-probabilities: chosen first, then rejected."""
    sides = torch.cat([logprobs[0::2], logprobs[1::2]])[:, None]
    outputs = SimpleNamespace(log_probs=sides, entropy=sides, mean_logits=sides, is_top1=sides > 0)
    made = MagicMock(
        beta=beta,
        loss_types=["sigmoid"],
        loss_weights=[1.0],
        f_divergence_type="reverse_kl",
        precompute_ref_logps=True,
        aux_loss_enabled=False,
        use_weighting=False,
        ld_alpha=None,
        label_smoothing=0.0,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
    )
    made.accelerator.gather_for_metrics = made.accelerator.gather = lambda value: value
    inputs = {
        "input_ids": torch.ones(len(sides), 2, dtype=torch.int64),
        "attention_mask": torch.ones(len(sides), 2, dtype=torch.int64),
        "completion_mask": torch.tensor([[0, 1]] * len(sides)),
        "ref_chosen_logps": reference[0::2],
        "ref_rejected_logps": reference[1::2],
    }
    found: torch.Tensor = trainer.DPOTrainer._compute_loss(made, MagicMock(return_value=outputs), inputs, False)
    return found


def test_the_loss_of_preferences_is_the_papers() -> None:
    """Rafailov et al. 2023, equation 7, pair by pair; a margin of 1.5 by hand: ln(1 + e^-0.75) with beta 0.5."""
    logprobs, reference = [-1.0, -3.0, -20.0, -2.0], [-2.0, -2.5, -15.0, -4.0]
    found = preference_losses(torch.tensor(logprobs), torch.tensor(reference), 0.5).tolist()
    ratios = [math.exp(after - before) for after, before in zip(logprobs, reference, strict=True)]
    shares = [(better / worse) ** 0.5 for better, worse in zip(ratios[0::2], ratios[1::2], strict=True)]
    assert found == pytest.approx([-math.log(share / (1 + share)) for share in shares])
    assert found[0] == pytest.approx(0.386871, abs=1e-6)


@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_the_loss_of_preferences_is_trls(beta: float) -> None:
    trainer = pytest.importorskip("trl.trainer.dpo_trainer", reason="TRL is not installed")
    generator = torch.Generator().manual_seed(3)
    logprobs, reference = -40 * torch.rand(12, generator=generator), -40 * torch.rand(12, generator=generator)
    expected = loss_of_trl(trainer, logprobs, reference, beta)
    torch.testing.assert_close(preference_losses(logprobs, reference, beta).mean(), expected)
