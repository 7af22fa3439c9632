"""Batch: what one update of the weights is made of; the one type for pretrain, extend and tune."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from zhen.model.attention import Part


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
    reference: Tensor | None = None
    """float32[b]: preferences only, how probable the model before training finds a row's targets, in nats."""
    part: Part | None = None
    """Where other processes hold the rest of each sequence: tokens, targets and mask are those of these positions,
    `document_starts` are the whole sequence's."""

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        reference = None if self.reference is None else change(self.reference)
        return Batch(
            change(self.tokens), change(self.targets), change(self.mask), change(self.document_starts), reference
        )

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device. A GPU fetches it while the host goes on."""
        if self.tokens.device == device:
            return self
        pin = device.type == "cuda" and self.tokens.device.type == "cpu"
        return self._each(lambda tensor: (tensor.pin_memory() if pin else tensor).to(device, non_blocking=True))

    def pieces(self, size: int | None) -> Iterator[Batch]:
        """The batch in micro-batches of `size` sequences (the last may be smaller); None: in one."""
        total = self.tokens.shape[0]
        for start in range(0, total, size or total):
            rows = slice(start, start + (size or total))
            yield self._each(lambda tensor, rows=rows: tensor[rows])  # type: ignore[misc]


class Share(NamedTuple):
    """Some sequences of a step, by their numbers in it."""

    rows: list[int]
    counted: int
    """So many of them; targets of those behind don't count."""
