"""How processes share one model and one batch: the mesh, what each does of a batch, weights cut and made whole.

The mesh is data · context · tensor processes. Weights, gradients and optimizer state are cut over data · context by
rows (PyTorch's fully_shard, "FSDP2"; Zhao et al. 2023, arXiv 2304.11277), and over tensor (`tensor_parallel.py`); the
batch over data alone. The gradient is summed, not averaged: the loss is divided by the targets of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from zhen.errors import ZhenError
from zhen.model.config import ModelConfig
from zhen.model.transformer import Transformer
from zhen.train.batch import Batch, Share
from zhen.train.context import SharedSequences
from zhen.train.cut import box_of, total_norm, whole
from zhen.train.ranks import ALONE, Ranks
from zhen.train.settings import Parallel
from zhen.train.tensor_parallel import cut_by_tensor
from zhen.train.tree import OwnGradients, TreeReduceScatter, norm_by_rows, tree_sum

DATA, CONTEXT, TENSOR = "data", "context", "tensor"
"""The dimensions of the mesh."""


class Layout:
    """The processes as a mesh, and what each has to do of a batch."""

    def __init__(
        self,
        ranks: Ranks = ALONE,
        settings: Parallel = Parallel(),  # noqa: B008
        leaves: int | None = None,
        section: str = "pretrain",
    ) -> None:
        """`leaves`: the micro-batches of an update, where their gradients are added in one order (`tree.py`).
        `section`: of the recipe, which errors name.

        Raises ZhenError where the mesh in `settings` does not have as many places as there are processes.
        """
        self.ranks = ranks
        self.leaves = leaves
        self._settings, self._section = settings, section
        self.context, self.tensor = settings.context, settings.tensor
        self.data = settings.data or max(1, ranks.size // (self.context * self.tensor))
        if self.data * self.context * self.tensor != ranks.size:
            raise ZhenError(
                f"a mesh of data {self.data} · context {self.context} · tensor {self.tensor} processes",
                expected=f"{ranks.size} in all, as many as run; data = 0 takes what the others leave",
                place=f"{section}.parallel",
                hint=f"torchrun --nproc-per-node N -m zhen run RECIPE {section}",
            )
        if leaves is not None and leaves % self.data:
            raise ZhenError(
                f"{leaves} micro-batches in an update, shared out over {self.data} processes",
                expected="as many for each, in invariant mode",
                place=f"{section}.micro_batch",
            )
        self.mesh: DeviceMesh | None = None
        self.data_rank = 0
        self._shared: SharedSequences | None = None
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if ranks.size == 1:
            return
        ranks.open(settings.timeout)
        if self.device.type == "cuda":
            self.device = torch.device("cuda", torch.cuda.current_device())
        sizes = (self.data, self.context, self.tensor)
        self.mesh = init_device_mesh(self.device.type, sizes, mesh_dim_names=(DATA, CONTEXT, TENSOR))
        self.data_rank = self.mesh.get_local_rank(DATA)
        self.shards = self.mesh[DATA, CONTEXT]._flatten("shards")
        """Those over which weights are cut by rows, and among which each has a part of the loss."""
        if self.context > 1:
            self._shared = SharedSequences(self.mesh[CONTEXT].get_group())

    def share(self, sequences: int, micro_batch: int | None) -> Share:
        """Which sequences of a step this process reads: those of its place in `data`.

        All places have as many, so that all call each other as often: where they can't be shared out evenly, the last
        ones get some that don't count.
        """
        every = range(sequences)
        if self.leaves is not None:  # micro-batch v belongs to place v mod data
            assert micro_batch is not None
            return Share([row for row in every if row // micro_batch % self.data == self.data_rank], sequences)
        each = -(-sequences // self.data)
        own = list(every[self.data_rank * each :][:each])
        return Share(own + [0] * (each - len(own)), len(own))

    def own(self, batch: Batch) -> Batch:
        """This process's positions of the sequences, where several share them (`context.py`)."""
        if self._shared is None:
            return batch
        tokens, targets, mask = (self._shared.own(each) for each in (batch.tokens, batch.targets, batch.mask))
        return replace(batch, tokens=tokens, targets=targets, mask=mask, part=self._shared.part(batch.tokens.shape[1]))

    def gradients(self, model: nn.Module) -> OwnGradients | None:
        """What adds up the gradients of micro-batches, where autograd or fully_shard don't."""
        return OwnGradients(model.parameters()) if self.leaves is not None and self.data == 1 else None

    def loss(self, parts: list[Tensor]) -> Tensor:
        """The sum of what the micro-batches of all processes gave."""
        if self.leaves is None:
            total = torch.zeros((), device=parts[0].device)
            for part in parts:
                total += part
            if self.mesh is not None:
                dist.all_reduce(total, group=self.shards.get_group())
            return total
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

    def build(self, config: ModelConfig, change: Callable[[Transformer], None] | None = None) -> Transformer:
        """A model of which this process has its part, unfilled (`values.py`).

        Layer by layer it is whole while it is needed. `change`: what is done to it, still without memory, before it is
        cut. Raises ZhenError for a model that the mesh can't cut.
        """
        with torch.device("meta"):
            model = Transformer(config)
        if change is not None:
            change(model)
        if self.mesh is not None:
            for field, found, expected in self._settings.problems(config):
                raise ZhenError(found, expected=expected, place=f"{self._section}.parallel.{field}")
            self._cut(model, self.mesh)
        model.to_empty(device=self.device)
        if self.mesh is not None:
            with torch.no_grad():  # the root has to be called before its layers are
                model(torch.zeros((1, 1), dtype=torch.int64, device=self.device))
            reshard(model)
        return model

    def _cut(self, model: Transformer, mesh: DeviceMesh) -> None:
        if self.tensor > 1:
            cut_by_tensor(model, mesh[TENSOR])
        for layer in model.model.layers:
            fully_shard(layer, mesh=self.shards)
        fully_shard(model, mesh=self.shards, reshard_after_forward=False)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
                if self.leaves is not None:
                    module.set_custom_reduce_scatter(TreeReduceScatter(self.leaves))


ONE = Layout()


def gathered(model: Transformer) -> Transformer:
    """A model of its own with the whole weights on process 0, in the memory of the host; the others' is unfilled."""
    if not isinstance(model, FSDPModule):
        return model
    with torch.device("meta"):
        found = Transformer(model.config)
    leads = dist.get_rank() == 0
    if leads:
        found.to_empty(device="cpu")
    for (_, cut), (_, target) in zip(model.named_parameters(), found.named_parameters(), strict=True):
        full = whole(cut.detach())
        if leads:
            target.data.copy_(full)
    return found


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
