"""Batch: what one update of the weights is made of; the one type for pretrain, extend and tune."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Sequences with what each position should predict. b sequences of s tokens."""

    tokens: Tensor
    """int64[b, s]: what the model reads."""
    targets: Tensor
    """int64[b, s]: the token that follows each position."""
    mask: Tensor
    """bool[b, s]: the targets that count in the loss."""
    document_starts: Tensor
    """bool[b, s]: the positions at which a document begins."""

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        if self.tokens.device == device:
            return self
        return Batch(
            self.tokens.to(device, non_blocking=True),
            self.targets.to(device, non_blocking=True),
            self.mask.to(device, non_blocking=True),
            self.document_starts.to(device, non_blocking=True),
        )

    def pieces(self, size: int | None) -> Iterator[Batch]:
        """The batch in micro-batches of `size` sequences (the last may be smaller); None: in one."""
        total = self.tokens.shape[0]
        for start in range(0, total, size or total):
            rows = slice(start, start + (size or total))
            yield Batch(self.tokens[rows], self.targets[rows], self.mask[rows], self.document_starts[rows])
