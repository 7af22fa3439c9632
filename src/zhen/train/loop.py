"""The training loop: the one that pretrain, extend and tune share."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zhen.train.batch import Batch
from zhen.train.cut import local
from zhen.train.health import Guard, Spike
from zhen.train.kernel import precision
from zhen.train.loss import IGNORED, summed_cross_entropy
from zhen.train.optimizer import Optimizer
from zhen.train.parallel import ONE, Layout, reshard
from zhen.train.replay import Replay
from zhen.train.settings import Health


class Loss(Protocol):
    """What is made small. It is divided by `units`, over the whole batch, whichever micro-batches it is cut into."""

    def __call__(self, model: nn.Module, batch: Batch, dtype: torch.dtype) -> Tensor:
        """The sum over the batch's units. float32[]."""

    def units(self, batch: Batch) -> int:
        """What the sum is over, in the shares of all processes: targets, or pairs."""


class Update(NamedTuple):
    """What one update of the weights was."""

    step: int
    """Updates done, this one included."""
    tokens: int
    """Targets that counted (or pairs)."""
    loss: float
    """Mean over these, in nats."""
    gradient_norm: float
    """Before clipping."""
    learning_rate: float
    seconds: float
    skipped: bool = False
    """Whether the weights stayed as they were, since loss or gradient are no numbers, or stand out."""
    spike: Spike | None = None
    """What stands out."""


class Watcher(Protocol):
    """What happens around the loop."""

    def before(self, step: int, batch: Batch) -> None:
        """The gradient of update `step` is complete, the weights are as before."""

    def after(self, update: Update) -> None:
        """Take note of an update; measure, save, stop where it is due."""


def train(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Callable[[int], Batch],
    learning_rate: Callable[[int], float],
    watcher: Watcher,
    *,
    steps: range,
    micro_batch: int | None,
    gradient_clip: float,
    dtype: torch.dtype,
    loss: Loss | None = None,
    layout: Layout = ONE,
    guard: Guard | None = None,
    replay: Replay | None = None,
) -> None:
    """Update the model once for each of `steps` (numbers from 0).

    `batches` and `learning_rate` are functions of the step's number, so that nothing else must be remembered; `batches`
    gives this process's share of a step (`layout.share`). Without
    `loss` it is cross-entropy over the targets that count, documents in a row seeing those before them.
    `guard` judges each update before it is made, so Diverged and Rewind find the weights as they were; `replay` has
    some computed twice.
    """
    model.train()
    guard = guard or Guard(Health())
    for step in steps:
        begun = time.perf_counter()
        rate = learning_rate(step)
        batch = batches(step)
        compute = partial(accumulate, model, batch, micro_batch=micro_batch, dtype=dtype, loss=loss, layout=layout)
        mean, tokens = replay.checked(step + 1, compute) if replay else compute()
        watcher.before(step + 1, batch)
        reshard(model)
        norm = clip_gradient(optimizer, gradient_clip, layout)
        loss_value, norm_value = torch.stack([mean, norm]).tolist()
        verdict = guard.judge(step + 1, loss_value, norm_value)
        if verdict.skip:
            optimizer.forget()
        else:
            optimizer.step(rate)
        watcher.after(Update(step + 1, tokens, loss_value, norm_value, rate, time.perf_counter() - begun, *verdict))


def accumulate(
    model: nn.Module,
    batch: Batch,
    *,
    micro_batch: int | None,
    dtype: torch.dtype,
    loss: Loss | None = None,
    layout: Layout = ONE,
) -> tuple[Tensor, int]:
    """Add the gradient of a step's mean loss to the parameters, micro-batch by micro-batch of this process's share.

    Every target counts the same, whichever micro-batch and process it is in: each part's sum is divided by the targets
    of all shares. Returns the loss (float32[], nats a token) and how many targets counted.
    """
    device = next(model.parameters()).device
    summed = loss or CrossEntropy()
    units = summed.units(batch)
    parts: list[Tensor] = []
    gradients = layout.gradients(model)
    for piece in batch.pieces(micro_batch):
        part = summed(model, layout.own(piece.to(device)), dtype) / units
        torch.autograd.backward(part)
        parts.append(part.detach())
        if gradients is not None:
            gradients.take()
    if gradients is not None:
        gradients.give()
    return layout.loss(parts), units


class CrossEntropy:
    """Cross-entropy over the targets that count, in nats."""

    def __init__(
        self, targets: int | None = None, *, apart: bool = False, chunk: int | None = None, compiled: bool = False
    ) -> None:
        """`targets`: those of a whole step that count, which several processes have to be told; alone, the mask tells.

        `apart`: documents in one row don't see each other; `chunk`: tokens whose logits are alive at a time.
        """
        self._targets = targets
        self._apart = apart
        self._chunk = chunk
        self._compiled = compiled

    def units(self, batch: Batch) -> int:
        """The targets that count."""
        return int(batch.mask.sum()) if self._targets is None else self._targets

    def __call__(self, model: nn.Module, batch: Batch, dtype: torch.dtype) -> Tensor:
        """The sum. float32[]."""
        return summed_loss(model, batch, dtype, self._apart, self._chunk, self._compiled)


def summed_loss(
    model: nn.Module,
    batch: Batch,
    dtype: torch.dtype,
    apart: bool = False,
    chunk: int | None = None,
    compiled: bool = False,
) -> Tensor:
    """Cross-entropy summed over the targets that count, in nats; `apart`: documents don't see each other. float32[].

    Compiled, or in chunks, the logits' gradient is made with them (`loss.py`); else by autograd, which is faster then.
    """
    targets = batch.targets.masked_fill(~batch.mask, IGNORED).flatten()
    starts = batch.document_starts if apart else None

    def ending(hidden: Tensor, weight: Tensor) -> Tensor:
        return summed_cross_entropy(hidden.flatten(0, 1), weight, targets, chunk=chunk, compiled=compiled)

    with precision(batch.tokens.device, dtype, batch.tokens.shape[1]):
        if compiled or chunk is not None:
            loss: Tensor = model(batch.tokens, batch.part, document_starts=starts, ending=ending)
            return loss
        logits = model(batch.tokens, batch.part, document_starts=starts)
    return F.cross_entropy(logits.flatten(0, 1).float(), targets, ignore_index=IGNORED, reduction="sum")


def clip_gradient(optimizer: Optimizer, limit: float, layout: Layout = ONE) -> Tensor:
    """Scale the gradient down to norm `limit` where it is longer. Returns its norm before that (float32[])."""
    gradients = [parameter.grad for parameter in optimizer.parameters if parameter.grad is not None]
    norm = layout.norm(gradients)
    # as torch.nn.utils.clip_grads_with_norm_ does, on what this process holds
    coefficient = torch.clamp(limit / (norm + 1e-6), max=1.0)
    torch._foreach_mul_([local(gradient) for gradient in gradients], coefficient)
    return norm
