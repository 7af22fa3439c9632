"""How many rows a matrix product must have, and may have, for a row's result not to depend on their number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from zhen.model.linear import Product
from zhen.model.transformer import TiedHead, Transformer

_COUNTS = (*range(1, 10), 12, 15, 16, 17, 32, 33, 34, 39, 40, 48, 64, 65, 96, 128, 192, 256)
_COLUMNS = 64
_MOST = 16
"""Rows that a step is filled up to, at most."""

_AT_A_TIME = (64, 32, 16, 8, 4, 2, 1)
"""Rows that a product is cut into where it adds many in another order than a few."""


@torch.inference_mode()
def steady_rows(model: Transformer, most: int) -> int:
    """The least number of rows from which on every row of the model's products has the same bits in any company.

    Libraries compute a few rows in other ways than many, and add in another order then: with MKL 1, 2 and 3 rows in
    float32, with oneDNN 1 row of some shapes, with oneDNN and AMX more than 32 of wide inputs in bfloat16, by their
    number. No list of such cases would hold for long, so every different shape of the model is tried here, on this
    machine, up to `most` rows; products that add many rows otherwise are from now on computed by parts (`rows`).
    """
    generator = torch.Generator().manual_seed(0)
    floor = 1
    for alike in _products(model):
        x = _near_zero(alike[0], most, model, generator)
        cuts = [each for each in alike if isinstance(each, Product | TiedHead)]
        for product in cuts:
            product.rows = None
        least, rows = _range(alike[0], x, _AT_A_TIME if cuts else ())
        floor = max(floor, least)
        for product in cuts:
            product.rows = rows
    return floor


def _range(product: Any, x: Tensor, at_a_time: Iterable[int]) -> tuple[int, int | None]:
    """From how many rows on each has the same bits, and by how many at a time; None: by all of x [most, width]."""
    most = len(x)
    made: dict[int, Tensor] = {}

    def least(largest: int, counts: Iterable[int]) -> int:
        """The least of `counts` such that it and all above, up to `largest`, agree."""
        floor = largest
        for count in (largest, *sorted(counts, reverse=True)):
            if count not in made:
                made[count] = product(x[:count])
            if not torch.equal(made[count], made[largest][:count]):
                break
            floor = count
        return floor

    floor = least(most, [count for count in _COUNTS if count < most])
    if floor <= _MOST:
        return floor, None
    for rows in at_a_time:  # the last is 1: a row alone agrees with itself
        # parts are as even as can be: none has fewer than half
        if rows < most and (least_of_part := least(rows, range(1, rows))) <= max(1, min(rows // 2, _MOST)):
            return least_of_part, rows
    return _MOST, None


def _products(model: Transformer) -> Iterable[list[Any]]:
    """All of them, those of one shape and kind together; and the norms, whose sums are as long."""
    found: dict[object, list[Any]] = {"norm": [model.model.norm]}
    if isinstance(model.lm_head, TiedHead):
        found["head"] = [model.lm_head]
    for module in model.modules():
        product = getattr(module, "product", None)
        if product is not None:
            found.setdefault((type(product), product.shape), []).append(product)
        elif isinstance(module, nn.Linear) and not module.weight.is_meta:
            found.setdefault((type(module), module.weight.shape), []).append(module)
    return found.values()


def _near_zero(product: Any, rows: int, model: Transformer, generator: torch.Generator) -> Tensor:
    """Input [rows, width] of which the product's first columns nearly vanish: the terms cancel out, and what is left
    shows every difference in the order of the sum, which rounding to a short format else hides most of the time."""
    weight = product.dense() if hasattr(product, "dense") else product.weight
    width = weight.shape[-1] if weight.ndim == 2 else model.config.hidden_size
    x = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    if weight.ndim == 2 and weight.is_floating_point():
        some = weight[: min(_COLUMNS, width // 4)].detach().double().cpu()
        x -= torch.linalg.lstsq(some, some @ x.T).solution.T
    return x.to(model.device, model.dtype)
