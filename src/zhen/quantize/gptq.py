"""GPTQ (Frantar et al. 2023, arXiv 2210.17323): each column makes good the errors of those before it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zhen.errors import ZhenError
from zhen.quantize.round import Rounded, find_scales, to_codes

BLOCK = 128
"""Columns after whose end the columns behind are brought up to date (section 3.3, step 2)."""

_DAMPINGS = 5
"""How often the damping is made ten times larger where the Hessian can't be factored."""


class Hessian:
    """2 X X^T of a matrix's inputs X over calibration text, but for the factor 2, which changes nothing."""

    def __init__(self, columns: int, device: torch.device) -> None:
        self.sum = torch.zeros(columns, columns, device=device)

    def add(self, inputs: Tensor) -> None:
        """Count inputs [..., columns] in."""
        flat = inputs.reshape(-1, inputs.shape[-1]).float()
        self.sum.addmm_(flat.T, flat)

    def output_error(self, weight: Tensor, quantised: Tensor) -> float:
        """The relative error of the matrix's outputs over the text: the root of |(Q - W) X|² / |W X|²."""
        left = _energy(quantised - weight, self.sum)
        return math.sqrt(left / max(_energy(weight, self.sum), 1e-30))


def gptq(weight: Tensor, hessian: Tensor, bits: int, group: int, dtype: torch.dtype, damping: float) -> Rounded:
    """The codes of float32 `weight` [rows, columns] for inputs of `hessian` [columns, columns].

    Scales are found beforehand, weighted by the Hessian's diagonal; columns are then taken from the one with the
    largest inputs down, which changes the order of the work and not of what is stored.
    """
    rows, columns = weight.shape
    diagonal = hessian.diagonal()
    scales = find_scales(
        weight.view(rows, -1, group), bits, dtype, (diagonal + damping * diagonal.mean()).view(-1, group)
    )
    order = torch.argsort(diagonal, descending=True, stable=True)
    by_column = scales.repeat_interleave(group, dim=1)[:, order]
    inverse = _inverse_factor(hessian[order][:, order], damping)
    left = weight[:, order]  # a copy: what is still to be stored, errors so far made good
    codes = torch.empty_like(left)
    for begin in range(0, columns, BLOCK):
        end = min(begin + BLOCK, columns)
        errors = torch.empty(rows, end - begin, device=weight.device)
        for at in range(begin, end):
            code = to_codes(left[:, at], by_column[:, at], bits)
            codes[:, at] = code
            error = (left[:, at] - code * by_column[:, at]) / inverse[at, at]
            errors[:, at - begin] = error
            left[:, at:end].addr_(error, inverse[at, at:end], alpha=-1)
        left[:, end:].addmm_(errors, inverse[begin:end, end:], alpha=-1)
    made = torch.empty_like(codes)
    made[:, order] = codes
    return Rounded(made.to(torch.int8), scales.to(dtype))


def _inverse_factor(hessian: Tensor, damping: float) -> Tensor:
    """The upper Cholesky factor of the damped Hessian's inverse (section 3.3, step 3), float32.

    Raises ZhenError where inputs that aren't finite leave none.
    """
    mean = float(hessian.diagonal().mean())
    for times in range(_DAMPINGS):
        damped = hessian.clone()
        # an input that is always 0 says nothing about its column
        damped.diagonal().add_(max(mean, 1e-12) * damping * 10**times)
        lower, failed = torch.linalg.cholesky_ex(damped)
        upper: Tensor
        if not failed:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not failed and bool(torch.isfinite(upper).all()):
                return upper
    raise ZhenError(
        "the activations of the calibration text can't be used",
        expected="finite ones",
        hint='the weights may be damaged; `zhen audit` looks at them. method = "rtn" needs no activations',
    )


def _energy(weight: Tensor, hessian: Tensor) -> float:
    """|W X|² by the sum over X X^T."""
    return float(((weight @ hessian) * weight).sum().clamp_min(0))
