"""How many rows a matrix product must have for a row's result not to depend on their number."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from zhen.model.transformer import Linear, Transformer

_COUNTS = (*range(1, 10), 12, 15, 16, 17, 32, 33, 64, 128)
_COLUMNS = 64
_MOST = 16
"""Rows that a step is filled up to, at most."""


@torch.inference_mode()
def steady_rows(model: Transformer, most: int) -> int:
    """The least number of rows from which on every row of the model's products has the same bits in any company.

    Libraries compute a few rows in other ways than many, and add in another order then: with MKL 1, 2 and 3 rows in
    float32, with oneDNN 1 row of some shapes. No list of such cases would hold for long, so every
    different shape of the model is tried here, on this machine, up to `most` rows. Beyond 16 rows nothing is promised.
    """
    counts = sorted({*(count for count in _COUNTS if count < most), most})
    generator = torch.Generator().manual_seed(0)
    floor = 1
    for product in _products(model):
        x = _near_zero(product, most, model, generator)
        whole = product(x)
        for count in counts:
            if count >= floor and not torch.equal(product(x[:count]), whole[:count]):
                floor = next((other for other in counts if other > count), most)
    return min(floor, _MOST)


def _products(model: Transformer) -> Iterable[Callable[[Tensor], Tensor]]:
    """One of each shape and kind, and the norm, whose sums are as long."""
    found: dict[object, Callable[[Tensor], Tensor]] = {"norm": model.model.norm, "head": model.lm_head}
    for module in model.modules():
        product = getattr(module, "product", None)
        if product is not None:
            found.setdefault((type(product), product.shape), product)
        elif isinstance(module, nn.Linear) and not module.weight.is_meta:
            found.setdefault((type(module), module.weight.shape), module)
    return found.values()


def _near_zero(product: Any, rows: int, model: Transformer, generator: torch.Generator) -> Tensor:
    """Input [rows, width] of which the product's first columns nearly vanish: the terms cancel out, and what is left
    shows every difference in the order of the sum, which rounding to a short format else hides most of the time."""
    if isinstance(product, Linear) and product.product is not None:
        product = product.product
    weight = product.dense() if hasattr(product, "dense") else product.weight
    width = weight.shape[-1] if weight.ndim == 2 else model.config.hidden_size
    x = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    if weight.ndim == 2 and weight.is_floating_point():
        some = weight[: min(_COLUMNS, width // 4)].detach().double().cpu()
        x -= torch.linalg.lstsq(some, some @ x.T).solution.T
    return x.to(model.device, model.dtype)
