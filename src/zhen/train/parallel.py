"""How processes share one model and one batch: the mesh, the sharding of weights, whose part of a tensor is where.

Weights, gradients and optimizer state are cut over the processes by rows (PyTorch's fully_shard, "FSDP2"; Zhao et al.
2023, arXiv 2304.11277). The gradient is summed, not averaged: the loss is divided by the targets of the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from zhen.errors import ZhenError
from zhen.model.transformer import Transformer
from zhen.train.batch import Batch
from zhen.train.ranks import ALONE, Ranks
from zhen.train.settings import Parallel
from zhen.train.tree import OwnGradients, TreeReduceScatter, norm_by_rows, tree_sum

SHARDS = "data"
"""The dimension of the mesh over which weights are cut."""


class Box(NamedTuple):
    """This process's part of a tensor."""

    local: Tensor
    shape: tuple[int, ...]
    """Of the whole tensor."""
    offset: tuple[int, ...]
    """Where the part begins, in each dimension."""
    owned: bool
    """Whether it is this process, of those that hold the same part, that counts and saves it."""

    def of(self, whole: Tensor) -> Tensor:
        """The same part of another tensor of that shape."""
        return whole[tuple(slice(at, at + n) for at, n in zip(self.offset, self.local.shape, strict=True))]


class Layout:
    """The processes as a mesh, and what each has to do of a batch."""

    def __init__(self, ranks: Ranks = ALONE, settings: Parallel | None = None, leaves: int | None = None) -> None:
        """`leaves`: the micro-batches of an update, where their gradients are added in one order (`tree.py`).

        Raises ZhenError where the mesh in `settings` does not have as many places as there are processes.
        """
        self.ranks = ranks
        self.leaves = leaves
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.mesh: DeviceMesh | None = None
        self.data = self.data_rank = 0
        if ranks.size == 1:
            self.data = 1
            return
        given = settings or Parallel()
        ranks.open(given.timeout)
        self.data = given.data or ranks.size
        if self.data != ranks.size:
            raise ZhenError(
                f"a mesh of {self.data} processes",
                expected=f"the {ranks.size} that torchrun started, or 0 for all there are",
                place="pretrain.parallel",
            )
        if leaves is not None and leaves % self.data:
            raise ZhenError(
                f"{leaves} micro-batches in an update, shared out over {self.data} processes",
                expected="as many for each, in invariant mode",
                place="pretrain.micro_batch",
            )
        if self.device.type == "cuda":
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.mesh = init_device_mesh(self.device.type, (self.data,), mesh_dim_names=(SHARDS,))
        self.data_rank = self.mesh.get_local_rank(SHARDS)

    def pieces(self, batch: Batch, micro_batch: int | None) -> Iterator[Batch]:
        """This process's micro-batches. All have as many, so that all call each other as often: where the sequences
        can't be shared out evenly, the last ones get some that don't count."""
        total = batch.tokens.shape[0]
        if self.leaves is not None:
            every = list(batch.pieces(micro_batch))
            yield from every[self.data_rank :: self.data]
        elif self.data == 1:
            yield from batch.pieces(micro_batch)
        else:
            each = -(-total // self.data)
            first = min(self.data_rank * each, total)
            yield from batch.rows(first, min(first + each, total), each).pieces(micro_batch)

    def gradients(self, model: nn.Module) -> OwnGradients | None:
        """What adds up the gradients of micro-batches, where autograd or fully_shard don't."""
        return OwnGradients(model.parameters()) if self.leaves is not None and self.data == 1 else None

    def loss(self, parts: list[Tensor]) -> Tensor:
        """The sum of what the micro-batches of all processes gave."""
        if self.leaves is None:
            total = torch.zeros((), device=parts[0].device)
            for part in parts:
                total += part
            return self.summed(total)
        own = torch.stack(parts)
        if self.data == 1:
            return tree_sum(own)
        found = [torch.empty_like(own) for _ in range(self.data)]
        dist.all_gather(found, own)
        return tree_sum(torch.stack(found, 1).flatten())

    def norm(self, gradients: list[Tensor]) -> Tensor:
        """Norm of the whole gradient. float32[]."""
        if self.leaves is None:
            return total_norm(gradients)
        boxes = [box_of(gradient) for gradient in gradients]
        return norm_by_rows([(box.local, box.offset[0], box.shape[0]) for box in boxes])

    def summed(self, tensor: Tensor) -> Tensor:
        """The sum over the processes of what each has of it, in place."""
        if self.data > 1:
            dist.all_reduce(tensor)
        return tensor

    def shard(self, model: Transformer) -> None:
        """Cut the weights over the processes, in place; layer by layer they are whole while they are needed."""
        if self.mesh is None:
            return
        for layer in model.model.layers:
            fully_shard(layer, mesh=self.mesh[SHARDS])
        fully_shard(model, mesh=self.mesh[SHARDS], reshard_after_forward=False)
        assert isinstance(model, FSDPModule)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
                if self.leaves is not None:
                    module.set_custom_reduce_scatter(TreeReduceScatter(self.leaves))
        with torch.no_grad():  # the root has to be called before its layers are
            model(torch.zeros((1, 1), dtype=torch.int64, device=next(model.parameters()).device))
        reshard(model)


ONE = Layout()


def box_of(tensor: Tensor) -> Box:
    """What this process holds of a tensor. A plain one is the same on all, and process 0 counts it."""
    if not isinstance(tensor, DTensor):
        owned = not dist.is_initialized() or dist.get_rank() == 0
        return Box(tensor, tuple(tensor.shape), (0,) * tensor.ndim, owned)
    _, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return Box(tensor.to_local(), tuple(tensor.shape), tuple(offset), True)


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def laid_out(part: Tensor, as_in: Tensor) -> Tensor:
    """A tensor of whose whole this process holds `part`, cut as another of the same shape."""
    if not isinstance(as_in, DTensor):
        return part
    return DTensor.from_local(
        part, as_in.device_mesh, as_in.placements, run_check=False, shape=as_in.shape, stride=as_in.stride()
    )


def total_norm(tensors: list[Tensor]) -> Tensor:
    """Euclidean norm of all elements of cut tensors, whoever holds them. float32[], the same on all processes."""
    if not any(isinstance(tensor, DTensor) for tensor in tensors):
        return torch.nn.utils.get_total_norm(tensors, foreach=True)
    owned = [box.local for box in map(box_of, tensors) if box.owned and box.local.numel()]
    parts = torch._foreach_norm(owned) if owned else []
    square = torch.stack([part.double() for part in parts]).square().sum() if parts else _zero(tensors)
    dist.all_reduce(square)
    return square.sqrt().float()


def _zero(tensors: list[Tensor]) -> Tensor:
    return torch.zeros((), dtype=torch.float64, device=tensors[0].device)


def gathered(model: Transformer) -> Transformer:
    """A model of its own with the whole weights on process 0, in the memory of the host; the others' is unfilled."""
    if not isinstance(model, FSDPModule):
        return model
    with torch.device("meta"):
        whole = Transformer(model.config)
    leads = dist.get_rank() == 0
    if leads:
        whole.to_empty(device="cpu")
    for (_, cut), (_, target) in zip(model.named_parameters(), whole.named_parameters(), strict=True):
        full = cut.full_tensor() if isinstance(cut, DTensor) else cut
        if leads:
            target.data.copy_(full.detach())
    return whole


def reshard(model: nn.Module) -> None:
    """Let go of what was gathered of the weights: they are about to change, or to be named."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """Parts of the model, such as all but its head, may be called on their own inside."""
    if not isinstance(model, FSDPModule):
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    model.unshard()
    try:
        yield
    finally:
        reshard(model)
