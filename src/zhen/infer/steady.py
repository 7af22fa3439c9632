"""How many rows a matrix product must have for a row's result not to depend on their number."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from zhen.model.transformer import Joined, Transformer

_COUNTS = (*range(1, 10), 12, 15, 16, 17, 32, 33, 64, 128)
_COLUMNS = 64
_MOST = 16
"""Rows that a step is filled up to, at most."""


@torch.inference_mode()
def steady_rows(model: Transformer, most: int) -> int:
    """The least number of rows from which on every row of the model's products has the same bits in any company.

    Libraries compute a few rows in other ways than many, and add in another order then: with MKL 1, 2 and 3 rows in
    float32, with oneDNN 1 row of some shapes in bfloat16. No list of such cases would hold for long, so every
    different shape of the model is tried here, on this machine, up to `most` rows. Beyond 16 rows nothing is promised.
    """
    weight = model.lm_head.weight
    products: dict[object, Callable[[Tensor], Tensor]] = {("head", weight.shape): model.lm_head}
    for name, module in model.named_modules():
        joined = getattr(module, "joined", None)
        if isinstance(joined, Joined) and joined.usable:
            products.setdefault((Joined, joined.weight.shape), joined)
        if isinstance(module, nn.Linear):
            products.setdefault((type(module), module.weight.shape), module)
        elif name == "model.norm":
            products.setdefault(name, module)
    counts = sorted({*(count for count in _COUNTS if count < most), most})
    generator = torch.Generator().manual_seed(0)
    floor = 1
    for product in products.values():
        x = _near_zero(product, most, weight, generator)
        whole = product(x)
        for count in counts:
            if count >= floor and not torch.equal(product(x[:count]), whole[:count]):
                floor = next((other for other in counts if other > count), most)
    return min(floor, _MOST)


def _near_zero(product: Callable[[Tensor], Tensor], rows: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Input [rows, width] of which the product's first columns nearly vanish: the terms cancel out, and what is left
    shows every difference in the order of the sum, which rounding to a short format else hides most of the time."""
    weight = getattr(product, "weight", like)
    width = weight.shape[-1] if weight.ndim == 2 else like.shape[1]
    x = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    if weight.ndim == 2 and weight.is_floating_point():
        some = weight[: min(_COLUMNS, width // 4)].detach().double().cpu()
        x -= torch.linalg.lstsq(some, some @ x.T).solution.T
    return x.to(like.device, like.dtype)
