"""Runs of the stage `pretrain` whose batches 19 to 23 are noise, and kills of them; a program."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
import small_run

from zhen.formats.stage import Context
from zhen.tokenizer.load import load_tokenizer
from zhen.train import health, training
from zhen.train.batch import Batch, Share
from zhen.train.order import Order
from zhen.train.packing import Stream, packed_batch
from zhen.train.settings import Health

SEQUENCES, LENGTH, STEPS = 4, 32, 30
NOISE = range(19, 24)
"""Batches."""

REWIND = Health(spike="rewind", spike_deviations=3.0, rewind_after=3, rewind_steps=5, rewind_batches=12)

CHANGES: dict[str, Any] = {
    "tokens": STEPS * SEQUENCES * LENGTH,
    "tokens_per_step": SEQUENCES * LENGTH,
    "health": REWIND,
    "checkpoint_every": 4,
    "keep_steps": (),
    "evaluate_every": 15,
    "learning_rate": 1e-2,
}


class Spiked:
    """Noise in the place of some batches; which batches were asked for, and others in their place where `mapped`."""

    def __init__(self, mapped: Callable[[int], int] = lambda number: number) -> None:
        self.asked: list[int] = []
        self._mapped = mapped

    def __call__(
        self, sources: dict[str, Stream], order: Order, start: int, stop: int, end_of_text: int, share: Share
    ) -> Batch:
        number = self._mapped(start // SEQUENCES)
        self.asked.append(number)
        batch = packed_batch(sources, order, number * SEQUENCES, (number + 1) * SEQUENCES, end_of_text, share)
        if number in NOISE:
            noise = torch.randint(0, 380, (SEQUENCES, LENGTH), generator=torch.Generator().manual_seed(number))
            batch = Batch(batch.tokens, noise[share.rows], batch.mask, batch.document_starts)
        return batch


def context_for(inputs: Path, folder: Path, line: small_run.Line | None = None, **changes: Any) -> Context:
    return small_run.context_for(inputs, folder, line=line, **CHANGES | changes)


def run(context: Context, spiked: Spiked) -> None:
    """One attempt. Twelve updates before are enough here."""
    health.SPIKE_LEAST = 12
    training.packed_batch = spiked
    small_run.run(context)


def main(inputs: Path, attempts: list[tuple[str, str, int]]) -> None:
    """Make the attempts (folder, kind, number) one after the other; prints their exit statuses as JSON."""
    torch.set_num_threads(1)
    load_tokenizer(inputs / "tokenizer")
    with tempfile.TemporaryDirectory() as folder:  # what is imported and built on first use is inherited by all
        run(context_for(inputs, Path(folder), tokens=256, warmup_steps=0), Spiked())
    statuses = [
        small_run.forked(
            lambda line, folder=folder: run(context_for(inputs, Path(folder), line), Spiked()), kind, number
        )
        for folder, kind, number in attempts
    ]
    print(json.dumps(statuses))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
