"""The text of `pretrain` again, as sequences of a tuning: so that the model does not forget it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from zhen.tokenizer.load import Tokenizer
from zhen.train.batch import Batch
from zhen.train.order import Order, plan_quotas
from zhen.train.packing import open_sources, packed_batch
from zhen.train.phases import Phase
from zhen.tune.settings import TuneSettings


class TextRows:
    """Which sequences of a step are text, and these; every token of them is learnt."""

    def __init__(
        self, shards: Path, settings: TuneSettings, phases: Sequence[Phase], seed: int, tokenizer: Tokenizer
    ) -> None:
        """`shards`: those that the model was trained on, `phases`: its training's, the last of which says the shares of
        their sources; by size where there are none."""
        self._settings, self._end_of_text = settings, tokenizer.end_of_text
        self._sources = open_sources(shards, tokenizer.sha256)
        total = self.before(settings.steps)
        quotas = plan_quotas(
            {name: stream.tokens for name, stream in self._sources.items()},
            phases[-1].mixture if phases else None,
            sequence_length=settings.sequence_length,
            total=total,
            max_epochs=max(1, total),  # as often as it takes
            section="pretrain",
        )
        self._order = Order([quotas], seed=seed, sequence_length=settings.sequence_length)

    def before(self, step: int) -> int:
        """Sequences of text in the first `step` steps: a share that is no whole number of a step's evens out."""
        return int(step * self._settings.batch * self._settings.text_share + 1e-6)  # 100 times 0.29 are 28.999…

    def batch(self, step: int) -> Batch:
        """Those of a step, as a batch as long as dialogues' are."""
        return packed_batch(self._sources, self._order, self.before(step), self.before(step + 1), self._end_of_text)


def joined(first: Batch, second: Batch) -> Batch:
    """The sequences of both, which are of one length."""
    tokens, targets, mask, starts = (
        torch.cat([getattr(each, name) for each in (first, second)])
        for name in ("tokens", "targets", "mask", "document_starts")
    )
    return Batch(tokens, targets, mask, starts)
