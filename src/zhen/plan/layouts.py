"""Layouts: how a model and its batch are spread over devices, and which spreadings are worth looking at."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from zhen.model.config import ModelConfig
from zhen.plan.devices import Precision
from zhen.train.settings import Parallel, Recompute

LOSS_CHUNK = 2048
"""Tokens whose logits are alive at a time where the loss is computed in pieces."""

LARGEST_MICRO_BATCH = 64


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """replicas · shards · tensor · context devices, and how each works.

    Weights, gradients and optimizer state are cut over shards · context (FSDP2, arXiv 2304.11277; several replicas
    make it HSDP) and over tensor (Megatron's columns and rows, arXiv 1909.08053, the parts between them cut along the
    sequence, 2205.05198); sequences are cut over context, keys and values gathered (Llama 3, 2407.21783 section 3.3.2).
    """

    replicas: int = 1
    shards: int = 1
    tensor: int = 1
    context: int = 1
    micro_batch: int = 1
    """Sequences that a device group (tensor · context) works on at a time."""
    recompute: Recompute = "none"
    """Activations computed again in the backward pass: none; all but attention's and every second product's; all."""
    loss_chunk: int | None = None
    """Tokens whose logits are alive at a time; all of a micro-batch when left out."""
    compiled: bool = True
    """Whether what stands between products is fused by torch.compile."""
    precision: Precision = "bfloat16"

    @property
    def devices(self) -> int:
        """How many."""
        return self.replicas * self.shards * self.tensor * self.context

    @property
    def data_parallel(self) -> int:
        """Groups of devices that have sequences of their own."""
        return self.replicas * self.shards

    @property
    def sharded(self) -> int:
        """Devices over which each weight is cut, those of `tensor` aside."""
        return self.shards * self.context

    @property
    def name(self) -> str:
        """`HSDP 4 × 32, TP 8`."""
        parts = []
        if self.replicas > 1:
            parts.append(f"HSDP {self.replicas} × {self.shards}" if self.sharded > 1 else f"DDP {self.replicas}")
        elif self.shards > 1:
            parts.append(f"FSDP2 {self.shards}")
        parts += [f"TP {self.tensor}"] * (self.tensor > 1) + [f"CP {self.context}"] * (self.context > 1)
        return ", ".join(parts) or "one device"

    def asked_for(self, stage: str, recompute: Recompute = "none", loss_chunk: int | None = None) -> list[str]:
        """What `zhen run --set` takes for a recipe's `stage` to train so on several devices; `recompute` and
        `loss_chunk` are what the recipe says of them.

        Nothing where training can't: copies beside each other, or tensor with recomputation, a loss in pieces, float8.
        """
        chunk = self.loss_chunk or loss_chunk  # which no option takes out of a recipe
        alone = self.recompute != "none" or chunk is not None or self.precision == "float8"
        if self.replicas > 1 or self.devices == 1 or (self.tensor > 1 and alone):
            return []
        sizes = {"data": self.shards, "context": self.context, "tensor": self.tensor}
        mesh = ", ".join(f"{name} = {size}" for name, size in sizes.items())
        found = [f"{stage}.parallel={{ {mesh} }}", f"{stage}.micro_batch={self.micro_batch}"]
        if self.recompute != recompute:
            found.append(f"{stage}.recompute={self.recompute}")
        if self.loss_chunk is not None:
            found.append(f"{stage}.loss_chunk={self.loss_chunk}")
        if self.precision == "float8":
            found.append(f"{stage}.float8=tensorwise")  # what the devices' float8 figures were measured with
        return found

    @property
    def family(self) -> str:
        """What kinds of cutting it has: `FSDP2 + TP`."""
        data = ("HSDP" if self.sharded > 1 else "DDP") if self.replicas > 1 else "FSDP2" if self.shards > 1 else ""
        return " + ".join(filter(None, (data, "TP" * (self.tensor > 1), "CP" * (self.context > 1)))) or "one device"


def layouts(
    config: ModelConfig, devices: int, per_node: int, sequences: int, sequence_length: int, precision: Precision
) -> Iterator[Layout]:
    """Layouts of `devices` that a step of `sequences` can be cut into: tensor inside a machine and dividing
    what it cuts, context in powers of two of pieces of at least 4,096 tokens, shards over all or over a machine."""
    for tensor in _powers(min(per_node, devices)):
        if devices % tensor or any(Parallel(tensor=tensor).problems(config)):
            continue
        for context in _powers(min(devices // tensor, max(1, sequence_length // 4096))):
            if devices % (tensor * context) or sequence_length % (2 * context):
                continue
            groups = devices // (tensor * context)
            if sequences % groups:
                continue
            machine = max(1, per_node // (tensor * context))
            for shards in sorted({groups, *(size for size in (machine, 8 * machine) if groups % size == 0), 1}):
                if shards == 1 < groups and tensor * context == 1 and devices > per_node:
                    continue  # plain copies over many machines: never better than a machine's shards
                base = Layout(replicas=groups // shards, shards=shards, tensor=tensor, context=context)
                yield from _ways(base, sequences // groups, sequence_length, precision)


def _ways(base: Layout, sequences: int, sequence_length: int, precision: Precision) -> Iterator[Layout]:
    for micro_batch in _powers(min(sequences, LARGEST_MICRO_BATCH)):
        if sequences % micro_batch:
            continue
        pieces = micro_batch * sequence_length // base.context > LOSS_CHUNK
        for recompute in ("none", "selective", "full"):
            for chunk in (None, LOSS_CHUNK) if pieces else (None,):
                yield msgspec.structs.replace(
                    base, micro_batch=micro_batch, recompute=recompute, loss_chunk=chunk, precision=precision
                )


def _powers(most: int) -> Iterator[int]:
    power = 1
    while power <= most:
        yield power
        power *= 2
