"""Muon for whole matrices and cut ones, iterating in the number format that the device multiplies fastest in."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim._muon import _adjust_lr

from zhen.model.linear import product_dtype
from zhen.train.cut import box_of, whole


class Muon(torch.optim.Muon):
    """PyTorch's Muon but for two things.

    Matrices that are cut over processes are put together once a step, since only a whole one has a shape; left to
    itself, a DTensor would be put together and cut again by every product. And the iteration is not always in bfloat16:
    on a CPU without units for it that takes longer than the rest of training (1.6 s an update of the demo's model on an
    AMD EPYC with AVX2, of 2.3 s).
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update the parameters by their gradients, in the order of operations of PyTorch's."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                momentum: Tensor = self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter.grad))
                momentum.lerp_(parameter.grad, 1 - group["momentum"])
                update = whole(parameter.grad.lerp(momentum, group["momentum"]))
                update = _orthogonal(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
                box = box_of(parameter)
                box.local.mul_(1 - group["lr"] * group["weight_decay"])
                rate = _adjust_lr(group["lr"], group["adjust_lr_fn"], parameter.shape)
                box.local.add_(box.of(update), alpha=-rate)
        return None


def _orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """The matrix with its singular values brought near 1, by Newton-Schulz: X ← aX + (bA + cA²)X with A = XXᵀ.

    Jordan et al. 2024, "Muon: an optimizer for hidden layers". [m, n] -> [m, n] in `product_dtype`.
    """
    a, b, c = coefficients
    x = matrix.to(product_dtype(matrix.device), copy=True)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x.div_(x.norm().clamp(min=eps))
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
