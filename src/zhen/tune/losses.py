"""What tuning makes small: the answers' cross-entropy, with noise; or the loss of preferences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zhen.model.transformer import Transformer
from zhen.train.batch import Batch
from zhen.train.kernel import precision
from zhen.train.loop import CrossEntropy


class Answers(CrossEntropy):
    """Cross-entropy over the tokens that are learnt, dialogues apart; NEFTune's noise on the embeddings."""

    def __init__(self, noise: float) -> None:
        super().__init__(apart=True)
        self._noise = noise

    def __call__(self, model: nn.Module, batch: Batch, dtype: torch.dtype) -> Tensor:
        """The sum over these tokens, nats. float32[]."""
        with noisy_embeddings(cast(Transformer, model), batch.document_starts, self._noise):
            return super().__call__(model, batch, dtype)


@contextmanager
def noisy_embeddings(model: Transformer, starts: Tensor, alpha: float) -> Iterator[None]:
    """Add to each embedding a uniform value within ±alpha / sqrt(L · d): L the tokens of its own document, d the width
    (Jain et al. 2023, arXiv 2310.05914, section 3). starts: bool[b, s]. 0: nothing is added, nothing drawn."""
    if not alpha:
        yield
        return
    lengths = document_lengths(starts)

    def add(_module: nn.Module, _given: object, embedded: Tensor) -> Tensor:
        bound = alpha / torch.sqrt(lengths * float(embedded.shape[-1]))
        return embedded + (2 * torch.rand_like(embedded) - 1) * bound[..., None]

    handle = model.model.embed_tokens.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def document_lengths(starts: Tensor) -> Tensor:
    """Tokens of the document that each position belongs to. bool[b, s] -> int64[b, s]."""
    places = torch.arange(starts.shape[1], device=starts.device)
    begins = torch.where(starts, places, 0).cummax(dim=1).values
    counts = torch.zeros_like(begins).scatter_add_(1, begins, torch.ones_like(begins))
    return counts.gather(1, begins)


class Preferences:
    """DPO (Rafailov et al. 2023, arXiv 2305.18290, equation 7). Rows 2i and 2i + 1 of a batch are a pair."""

    def __init__(self, beta: float) -> None:
        self._beta = beta

    def units(self, batch: Batch) -> int:
        """The pairs."""
        return batch.tokens.shape[0] // 2

    def __call__(self, model: nn.Module, batch: Batch, dtype: torch.dtype) -> Tensor:
        """The sum over the pairs. float32[]."""
        if batch.reference is None:
            raise ValueError("a batch of preferences holds the reference's log-probabilities")
        return preference_losses(row_logprobs(model, batch, dtype), batch.reference, self._beta).sum()


def preference_losses(logprobs: Tensor, reference: Tensor, beta: float) -> Tensor:
    """-ln σ(beta · ((ln π_chosen - ln π_rejected) - (ln ref_chosen - ln ref_rejected))). float32[2n] each -> [n]."""
    margin = (logprobs[0::2] - logprobs[1::2]) - (reference[0::2] - reference[1::2])
    return -F.logsigmoid(beta * margin)


def row_logprobs(model: nn.Module, batch: Batch, dtype: torch.dtype) -> Tensor:
    """ln of the probability of all targets of a row that count. float32[b]."""
    with precision(batch.tokens.device, dtype, batch.tokens.shape[1]):
        logits = model(batch.tokens, document_starts=batch.document_starts)
    logprobs = -F.cross_entropy(logits.flatten(0, 1).float(), batch.targets.flatten(), reduction="none")
    return (logprobs.view(batch.targets.shape) * batch.mask).sum(dim=1)
