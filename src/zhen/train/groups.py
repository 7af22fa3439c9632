"""How large gradient, weights and activations are, by group of parameters: looked at now and then, changing nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from zhen.model.transformer import Transformer
from zhen.train.cut import total_norm, whole
from zhen.train.kernel import precision

EVERY = 10
"""Steps between two looks. One costs as much as half a percent of ten steps (docs/watch.md has the figures)."""

PROBE_TOKENS = 256
"""Tokens of the step's first sequence whose activations are looked at."""

GROUPS = ("embedding", "attention", "feed_forward", "norms", "head")
"""A tied head has no parameters of its own, but its logits are activations."""

_MARKS = {"embed_tokens": "embedding", "self_attn": "attention", "mlp": "feed_forward", "lm_head": "head"}

Sizes = dict[str, float | None]
"""Group -> value; None where it is not finite."""


def due(step: int) -> bool:
    """Whether update `step` (from 1) is looked at: a function of its number alone."""
    return step == 1 or step % EVERY == 0


def group_of(name: str) -> str:
    """The group of a parameter, by its name; an adapter's belong where they are added."""
    return next((group for mark, group in _MARKS.items() if mark in name), "norms")


def look(model: Transformer, tokens: Tensor, dtype: torch.dtype) -> dict[str, Sizes]:
    """Norm of the gradient (before clipping), RMS of the weights and RMS of the activations, by group.

    `tokens` [1, T] int64 passes through the model once more, without gradient, dropout or random numbers, and leaves
    weights, gradient and the state of every generator as they are.
    """
    gradients, weights = _gathered(model)
    norms = {group: total_norm(given) for group, given in gradients.items()}
    rms = {
        group: total_norm(given) / math.sqrt(sum(each.numel() for each in given)) for group, given in weights.items()
    }
    activations = _activations(model, tokens, dtype)
    found = {"gradient_norm": norms, "weight_rms": rms, "activation_rms": activations}
    values = iter(torch.stack([v.float() for part in found.values() for v in part.values()]).tolist())
    return {what: {group: _finite(next(values)) for group in part} for what, part in found.items()}


def _gathered(model: nn.Module) -> tuple[dict[str, list[Tensor]], dict[str, list[Tensor]]]:
    """Gradients and weights by group, in the order of GROUPS; groups without any are missing."""
    gradients: dict[str, list[Tensor]] = {group: [] for group in GROUPS}
    weights: dict[str, list[Tensor]] = {group: [] for group in GROUPS}
    for name, parameter in model.named_parameters():
        weights[group_of(name)].append(parameter.detach())
        if parameter.grad is not None:
            gradients[group_of(name)].append(parameter.grad)
    return _filled(gradients), _filled(weights)


def _filled(groups: Mapping[str, list[Tensor]]) -> dict[str, list[Tensor]]:
    return {group: given for group, given in groups.items() if given}


@torch.no_grad()
def _activations(model: Transformer, tokens: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """Root of the mean square of what each group puts out, over its layers: float32[] by group."""
    squares: dict[str, list[Tensor]] = {group: [] for group in GROUPS}

    def taking(group: str) -> Callable[[nn.Module, object, Tensor], None]:
        def take(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            squares[group].append(whole(output.float().square().sum()) / output.numel())

        return take

    watched: list[tuple[nn.Module, str]] = [(model.model.embed_tokens, "embedding"), (model.model.norm, "norms")]
    for layer in model.model.layers:
        watched += [(layer.get_submodule("self_attn"), "attention"), (layer.get_submodule("mlp"), "feed_forward")]
    hooks = [module.register_forward_hook(taking(group)) for module, group in watched]
    training = model.training
    model.eval()
    try:
        with precision(tokens.device, dtype, tokens.shape[1]):
            squares["head"].append(model(tokens).float().square().mean())
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return {group: torch.stack(given).mean().sqrt() for group, given in squares.items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
