"""Sums in a fixed order: the same bits, however many processes share the work.

Rounding makes a sum depend on its order. Here the micro-batches of an update are leaves 0 … V-1 of one binary tree, and
what they give is added along it: leaf v is worked on by process v mod N, so that each round of the processes brings the
next N leaves. N only has to divide V.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp._fully_shard._fsdp_api import ReduceScatter


class Tree:
    """Adds up lists of tensors, pairwise: as many as log2 of them wait for their partner."""

    def __init__(self) -> None:
        self.leaves = 0
        self._waiting: list[tuple[int, list[Tensor]]] = []

    def push(self, leaf: list[Tensor]) -> None:
        """Add the next leaf. Takes it over: it must not be changed afterwards."""
        self.leaves += 1
        size = 1
        while self._waiting and self._waiting[-1][0] == size:
            _, before = self._waiting.pop()
            torch._foreach_add_(before, leaf)
            leaf, size = before, 2 * size
        self._waiting.append((size, leaf))

    def total(self) -> list[Tensor]:
        """The sum of all leaves; the tree is empty afterwards."""
        _, total = self._waiting.pop()
        while self._waiting:
            _, before = self._waiting.pop()
            torch._foreach_add_(before, total)
            total = before
        self.leaves = 0
        return total


class OwnGradients:
    """The sum over micro-batches of gradients that one process has whole."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._tree = Tree()

    def take(self) -> None:
        """Take in the gradient of a micro-batch."""
        self._tree.push([p.grad if p.grad is not None else torch.zeros_like(p) for p in self._parameters])
        for parameter in self._parameters:
            parameter.grad = None

    def give(self) -> None:
        """Set the gradients to their sum."""
        total = self._tree.total()
        torch._foreach_add_(total, 0.0)  # as where the sum is added to zeros: no -0
        for parameter, gradient in zip(self._parameters, total, strict=True):
            parameter.grad = gradient


class TreeReduceScatter(ReduceScatter):
    """What fully_shard calls with the gradients of a micro-batch: nothing comes out until all leaves went in."""

    def __init__(self, leaves: int) -> None:
        """`leaves`: micro-batches of an update, on all processes."""
        self._leaves = leaves
        self._tree = Tree()

    def allocate(self, size: Iterable[int | torch.SymInt], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Memory for the input and the output."""
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(
        self,
        output_tensor: Tensor,
        input_tensor: Tensor,
        group: dist.ProcessGroup,
        op: object,
        async_op: bool = False,
    ) -> None:
        """input_tensor [N · shard]: a part for each process; output_tensor [shard]: the sum, with the last leaf."""
        parts = torch.empty_like(input_tensor)
        dist.all_to_all_single(parts, input_tensor, group=group)
        for part in parts.view(group.size(), -1):
            self._tree.push([part])
        if self._tree.leaves == self._leaves:
            output_tensor.copy_(self._tree.total()[0])
        else:
            output_tensor.zero_()


def tree_sum(values: Tensor) -> Tensor:
    """The sum of values [V, …] along the tree."""
    tree = Tree()
    for value in values:
        tree.push([value.clone()])
    return tree.total()[0]


def norm_by_rows(parts: list[tuple[Tensor, int, int]]) -> Tensor:
    """Euclidean norm of tensors cut by rows: (rows here, the first one's number, rows in all) each. float32[].

    Every row's norm is taken where the row is; their squares are put beside each other and added in one order.
    """
    device = parts[0][0].device
    squares = torch.zeros(sum(rows for _, _, rows in parts), dtype=torch.float64, device=device)
    at = 0
    for local, first, rows in parts:
        if local.numel():
            norms = torch.linalg.vector_norm(local.reshape(local.shape[0], -1), dim=1)
            squares[at + first : at + first + local.shape[0]] = norms.double().square()
        at += rows
    if dist.is_initialized():
        dist.all_reduce(squares)
    return squares.sum().sqrt().float()
