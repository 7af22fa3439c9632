"""The optimizers behind one face: AdamW, or Muon on the layers' matrices and AdamW on the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from zhen.errors import ZhenError
from zhen.train.cut import Box, box_of, laid_out
from zhen.train.muon import Muon
from zhen.train.settings import LoopSettings
from zhen.train.values import fill

MUON_MOMENTUM = 0.95
"""Jordan et al. 2024, "Muon: an optimizer for hidden layers"."""


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name: those that want a gradient."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def load_trained(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Set the parameters that `trained` gives. Raises ZhenError where `tensors` are others."""
    parameters = trained(model)
    if other := parameters.keys() ^ tensors.keys():
        raise ZhenError(f'the training checkpoint has other tensors than the model, among them "{min(other)}"')
    fill(parameters, lambda name, box: _part(tensors, name, box))


def _part(tensors: Mapping[str, Tensor], name: str, box: Box) -> Tensor:
    """What belongs into `box` of one of `tensors`, which may be whole ones or lie in files."""
    read: Callable[[str, Box], Tensor] | None = getattr(tensors, "part", None)
    return read(name, box) if read else box.of(tensors[name])


class Optimizer:
    """Updates the parameters of one model. State tensors are named `<kind>.<parameter>`, e.g. `exp_avg.lm_head.weight`.

    Decay is decoupled (Loshchilov and Hutter 2019) and falls on matrices only. Muon's updates are scaled by
    0.2·sqrt(larger side), the size of AdamW's, so that one learning rate serves both (Liu et al. 2025, "Muon is
    scalable for LLM training", section 2.2).
    """

    def __init__(self, model: nn.Module, settings: LoopSettings) -> None:
        self._names = {parameter: name for name, parameter in trained(model).items()}
        hidden, matrices, vectors = [], [], []
        for parameter, name in self._names.items():
            if parameter.ndim < 2:
                vectors.append(parameter)
            elif settings.optimizer == "muon" and ".layers." in name:
                hidden.append(parameter)
            else:
                matrices.append(parameter)
        groups = [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        self._parts: list[torch.optim.Optimizer] = []
        if groups:
            adamw = torch.optim.AdamW(
                groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps, fused=True
            )
            self._parts.append(adamw)
        if hidden:
            muon = Muon(
                hidden,
                lr=settings.learning_rate,
                weight_decay=settings.weight_decay,
                momentum=MUON_MOMENTUM,
                adjust_lr_fn="match_rms_adamw",
            )
            self._parts.append(muon)

    @property
    def parameters(self) -> Iterable[nn.Parameter]:
        """The parameters that it updates."""
        return self._names.keys()

    def step(self, learning_rate: float) -> None:
        """Update the parameters by their gradients and forget these."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate
            part.step()
        self.forget()

    def forget(self) -> None:
        """Let go of the gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """The state by name; empty before the first step."""
        return {
            f"{kind}.{name}": value
            for parameter, name in self._names.items()
            for part in self._parts
            for kind, value in part.state.get(parameter, {}).items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over a state that `tensors` gave. Raises ZhenError for a tensor of no parameter."""
        for each in self._parts:
            each.state.clear()
        by_name = {name: parameter for parameter, name in self._names.items()}
        owner = {p: part for part in self._parts for group in part.param_groups for p in group["params"]}
        for name in tensors:
            kind, _, parameter_name = name.partition(".")
            if parameter_name not in by_name:
                raise ZhenError(f'optimizer state "{name}" belongs to no parameter of the model')
            parameter = by_name[parameter_name]
            state = owner[parameter].state[parameter]
            if kind == "step":  # AdamW's count of updates, one number on every process
                state[kind] = tensors[name].to(parameter.device, copy=True)
                continue
            part = _part(tensors, name, box_of(parameter)).to(parameter.device, copy=True)
            state[kind] = laid_out(part, parameter)
