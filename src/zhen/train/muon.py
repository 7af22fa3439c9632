"""Muon where matrices are cut over processes: each is put together once a step, since only a whole one has a shape."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim._muon import _adjust_lr, _zeropower_via_newtonschulz

from zhen.train.cut import box_of, whole


class CutMuon(torch.optim.Muon):
    """PyTorch's Muon. Left to itself, a DTensor would be put together and cut again by every product within it."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update the parameters by their gradients, in the order of operations of PyTorch's."""
        for group in self.param_groups:
            for parameter in group["params"]:
                assert isinstance(parameter, DTensor)
                if parameter.grad is None:
                    continue
                momentum: Tensor = self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter.grad))
                momentum.lerp_(parameter.grad, 1 - group["momentum"])
                update = whole(parameter.grad.lerp(momentum, group["momentum"]))
                update = _zeropower_via_newtonschulz(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
                box = box_of(parameter)
                box.local.mul_(1 - group["lr"] * group["weight_decay"])
                rate = _adjust_lr(group["lr"], group["adjust_lr_fn"], parameter.shape)
                box.local.add_(box.of(update), alpha=-rate)
        return None
