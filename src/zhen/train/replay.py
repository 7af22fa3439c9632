"""Silent errors: now and then an update's loss and gradient are computed twice, and have to have the same bits.

(The idea is Megatron-LM's "re-run state machine".) What gives the same wrong bits each time is not seen here, but by
the product with a known answer at the start (`preflight.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from zhen.errors import ZhenError
from zhen.train.cut import local
from zhen.train.parallel import Layout

Computed = tuple[Tensor, int]
"""Mean loss and targets that counted, as `loop.accumulate` gives them."""

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class _Pass(NamedTuple):
    """What one pass gave: fingerprints of bits."""

    own: list[int]
    """Of what this process computed by itself: last hidden states and the gradient at the embedding."""
    result: list[int]
    """Of the loss, and of its part of the gradient, to which all have added."""


class Replay:
    """Has updates computed twice. All processes do the same ones, since each needs the others."""

    def __init__(
        self, every: int, model: nn.Module, layout: Layout, hosts: Sequence[str], told: Callable[[int, str, str], None]
    ) -> None:
        """`every`: updates between two such, 0 for none; `hosts`: by process.

        `told(update, which, where)` is called about an error: "transient" or "persistent", and the host.
        """
        self._every = every
        self._model = model
        self._layout = layout
        self._hosts = hosts
        self._told = told

    def checked(self, update: int, compute: Callable[[], Computed]) -> Computed:
        """What `compute` gives, which adds to the gradient; computed once more where it is time to compare.

        Where both differ, twice more: an error that does not come again is told, and what stands is the majority's.
        Raises ZhenError where it does.
        """
        if not self._every or update % self._every:
            return compute()
        passes = [self._pass(compute) for _ in range(2)]
        if not self._differ(passes[0][1], passes[1][1]):
            return passes[1][0]
        passes += [self._pass(compute) for _ in range(2)]
        first, second, third, fourth = (found for _, found in passes)
        again = self._differ(third, fourth) or (self._differ(first, fourth) and self._differ(second, fourth))
        which, where = "persistent" if again else "transient", self._where([found.own for _, found in passes])
        self._told(update, which, where)
        if again:
            raise ZhenError(
                "the same update, computed four times, came to different bits",
                place=f"step {update:,}, {where}",
                hint="test that machine's memory and processors before it goes on; the same command goes on from the "
                "last training checkpoint",
            )
        return passes[3][0]

    def _differ(self, one: _Pass, other: _Pass) -> bool:
        """Whether two passes do, on any process."""
        return self._layout.ranks.any(one != other)

    def _where(self, own: list[list[int]]) -> str:
        """The hosts whose own part was not always the same; all of them where each one's was."""
        ranks = self._layout.ranks
        flags = [0.0] * ranks.size
        flags[ranks.rank] = float(any(each != own[0] for each in own))
        found = [host for host, flag in zip(self._hosts, ranks.total(flags), strict=True) if flag]
        return ", ".join(dict.fromkeys(found or self._hosts))

    def _pass(self, compute: Callable[[], Computed]) -> tuple[Computed, _Pass]:
        for parameter in self._model.parameters():
            parameter.grad = None
        with _tapped(self._model) as own:
            computed = compute()
        gradients = [local(each.grad) for each in self._model.parameters() if each.grad is not None]
        prints = [*own, *map(_fingerprint, (computed[0], *gradients))]
        values = torch.stack(prints).tolist()
        return computed, _Pass(values[: len(own)], values[len(own) :])


@contextmanager
def _tapped(model: nn.Module) -> Iterator[list[Tensor]]:
    """Fingerprints of what passes the two ends of the model inside."""
    found: list[Tensor] = []

    def take(tensor: Tensor) -> None:
        found.append(_fingerprint(local(tensor.detach())))

    def begin(_module: nn.Module, _given: object, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(take)

    def end(_module: nn.Module, _given: object, output: Tensor) -> None:
        take(output)

    hooks = [
        model.get_submodule("model.embed_tokens").register_forward_hook(begin),
        model.get_submodule("model.norm").register_forward_hook(end),
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _fingerprint(tensor: Tensor) -> Tensor:
    """The sum of a tensor's bits, taken as whole numbers: another one wherever a single element is. int64[]."""
    return tensor.contiguous().view(_INTEGERS[tensor.element_size()]).sum(dtype=torch.int64)
