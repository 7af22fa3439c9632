"""Tensors that are cut over processes: whose part is where, and what is taken over all parts."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset


class Box(NamedTuple):
    """This process's part of a tensor."""

    local: Tensor
    shape: tuple[int, ...]
    """Of the whole tensor."""
    offset: tuple[int, ...]
    """Where the part begins, in each dimension."""
    owned: bool
    """Whether it is this process, of those that hold the same part, that counts and saves it."""

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where the part lies in the whole."""
        return tuple(slice(at, at + n) for at, n in zip(self.offset, self.local.shape, strict=True))

    def of(self, whole: Tensor) -> Tensor:
        """The same part of another tensor of that shape."""
        return whole[self.slices]


def box_of(tensor: Tensor) -> Box:
    """What this process holds of a tensor. A plain one is the same on all, and process 0 counts it."""
    if not isinstance(tensor, DTensor):
        owned = not dist.is_initialized() or dist.get_rank() == 0
        return Box(tensor, tuple(tensor.shape), (0,) * tensor.ndim, owned)
    mesh, placements = tensor.device_mesh, tensor.placements
    _, offset = compute_local_shape_and_global_offset(tensor.shape, mesh, placements)
    copies = [mesh.get_local_rank(dim) for dim, placement in enumerate(placements) if placement.is_replicate()]
    return Box(tensor.to_local(), tuple(tensor.shape), tuple(offset), not any(copies))


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


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, on all processes."""
    if not isinstance(tensor, DTensor):
        return tensor
    placements = list(tensor.placements)
    for dim in range(len(placements)):  # one after the other: what was cut last is put together first
        placements[dim] = Replicate()
        tensor = tensor.redistribute(placements=placements)
    return tensor.to_local()


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
