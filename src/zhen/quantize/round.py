"""Rounding to the nearest code by group: the scales, the codes, and what they give back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_SHARES = 24
_SMALLEST_SHARE = 0.6
"""Scales that are tried: from the largest weight over half the codes down to this share of it."""


class Rounded(NamedTuple):
    """A quantised matrix: codes int8 [rows, columns], and scales [rows, columns / group] as they are stored."""

    codes: Tensor
    scales: Tensor

    def weight(self) -> Tensor:
        """The weights that it stands for, float32 [rows, columns], rounded to the dtype of the scales."""
        rows, columns = self.codes.shape
        by_group = self.codes.float().view(rows, self.scales.shape[1], -1) * self.scales.float()[:, :, None]
        return by_group.to(self.scales.dtype).float().view(rows, columns)


def to_codes(weight: Tensor, scales: Tensor, bits: int) -> Tensor:
    """The nearest codes, float32: `weight` over `scales` (of one shape), rounded, within -2^(bits-1) … 2^(bits-1)-1."""
    half = 1 << (bits - 1)
    return torch.clamp(torch.round(weight / scales), -half, half - 1)


def find_scales(weight: Tensor, bits: int, dtype: torch.dtype, importance: Tensor | None = None) -> Tensor:
    """The scales of groups, weight [rows, groups, size] float32 -> [rows, groups] float32, each a number of `dtype`.

    Of some scales below the one that holds the largest weight it takes the one with the least squared error, each
    column's multiplied by `importance` [groups, size] where that is given.
    """
    most = weight.abs().amax(dim=2) / ((1 << (bits - 1)) - 0.5)
    most = torch.where(most > 0, most, torch.ones_like(most))
    best, least = torch.empty_like(most), torch.full_like(most, torch.inf)
    for share in torch.linspace(1.0, _SMALLEST_SHARE, _SHARES).tolist():
        scales = (most * share).to(dtype).float().clamp_min(torch.finfo(dtype).tiny)
        errors = (to_codes(weight, scales[:, :, None], bits) * scales[:, :, None] - weight) ** 2
        error = (errors if importance is None else errors * importance).sum(dim=2)
        best = torch.where(error < least, scales, best)
        least = torch.minimum(error, least)
    return best


def round_to_nearest(weight: Tensor, bits: int, group: int, dtype: torch.dtype) -> Rounded:
    """Each weight of float32 [rows, columns] by itself; `group` divides the columns."""
    grouped = weight.view(len(weight), -1, group)
    scales = find_scales(grouped, bits, dtype)
    codes = to_codes(grouped, scales[:, :, None], bits).to(torch.int8)
    return Rounded(codes.view(weight.shape), scales.to(dtype))
