"""The layers' products in float8 while they are trained, by torchao: for GPUs with units for it."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zhen.errors import ZhenError, missing_extra
from zhen.model.transformer import Layer, Transformer
from zhen.train.settings import Scaling

CAPABILITY = (8, 9)
"""CUDA's first with float8: Ada. Hopper has 9.0."""

MULTIPLE = 16
"""Of both sides of every matrix: what the GPU's product asks for."""


def into_float8(model: Transformer, scaling: Scaling, place: str, *, emulate: bool = False) -> None:
    """Have the matrices of the layers multiply in float8 wherever gradients are asked for, in place.

    Weights keep their names and stay as wide as they are; each product rounds both its factors anew, by their largest
    value (Micikevicius et al. 2022, arXiv 2209.05433). `emulate`: the same rounding, on any device. Before the weights
    are cut over processes. `place` is the recipe's field that asked for it. Raises ZhenError where it can't be done.
    """
    lacks = None if emulate else _lacks()
    if lacks:
        raise ZhenError(lacks, expected="a GPU with float8: Ada, Hopper or later", place=place, hint="leave it out")
    try:
        from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    except ModuleNotFoundError:
        raise missing_extra("torchao", "float8", f'{place} = "{scaling}"') from None
    how = replace(Float8LinearConfig.from_recipe_name(scaling), emulate=emulate)
    for number, layer in enumerate(model.model.layers):
        assert isinstance(layer, Layer)
        for name, matrix in layer.named_modules():
            if isinstance(matrix, nn.Linear) and any(side % MULTIPLE for side in matrix.weight.shape):
                shape = " × ".join(f"{side:,}" for side in matrix.weight.shape)
                expected = f"multiples of {MULTIPLE} for float8"
                raise ZhenError(f"layer {number}: {name} is {shape}", expected=expected, place=place)
        convert_to_float8_training(layer, config=how)
        for matrix in layer.modules():
            if isinstance(matrix, nn.Linear):
                _only_with_gradients(matrix)


def _lacks() -> str | None:
    if not torch.cuda.is_available():
        return "no GPU"
    found = torch.cuda.get_device_capability()
    name = torch.cuda.get_device_name()
    return None if found >= CAPABILITY else f"{name} (capability {found[0]}.{found[1]})"


def _only_with_gradients(matrix: nn.Linear) -> None:
    """Without gradients it multiplies as if it were plain: figures are those of the checkpoint, which has no float8."""
    in_float8 = matrix.forward

    def forward(input: Tensor) -> Tensor:
        return in_float8(input) if torch.is_grad_enabled() else F.linear(input, matrix.weight)

    matrix.forward = forward  # type: ignore[method-assign]
