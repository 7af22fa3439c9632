"""Batches cut from shards: each source's shards count as one stream, cut into sequences of equal length."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from zhen.errors import ZhenError
from zhen.formats.shard import Shard, open_shards
from zhen.train.batch import Batch, Share
from zhen.train.order import Order

HELD_OUT = "held-out"
"""The folder beside the sources that is never trained on."""


class Stream:
    """One source's shards end to end, memory-mapped; documents run on across shards."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = list(shards)
        self._starts = [0]
        for shard in shards:
            self._starts.append(self._starts[-1] + shard.header.tokens)
        self.tokens = self._starts[-1]
        self.text_bytes = sum(shard.header.text_bytes for shard in shards)

    def read(self, start: int, out: NDArray[np.int64]) -> None:
        """Fill `out` (int64[n]) with the tokens from number `start` on."""
        done = 0
        at = bisect_right(self._starts, start) - 1
        while done < out.size:
            inside = start + done - self._starts[at]
            piece = self._shards[at].tokens[inside : inside + out.size - done]
            out[done : done + piece.size] = piece
            done += piece.size
            at += 1


def source_shards(folder: Path, tokenizer: str | None) -> dict[str, list[Shard]]:
    """The shards of the sources below the stage `shards`' folder, by name. Raises ZhenError where there is none."""
    names = sorted(header.parent.name for header in folder.glob("*/shard-00000.json"))
    shards = {name: open_shards(folder / name, tokenizer) for name in names if name != HELD_OUT}
    if not shards:
        raise ZhenError("holds no source with token shards", expected="<source>/shard-00000.bin", file=folder)
    return shards


def open_sources(folder: Path, tokenizer: str | None) -> dict[str, Stream]:
    """The same as streams."""
    return {name: Stream(shards) for name, shards in source_shards(folder, tokenizer).items()}


def packed_batch(
    sources: dict[str, Stream], order: Order, start: int, stop: int, end_of_text: int, share: Share | None = None
) -> Batch:
    """The run's sequences `start` … `stop`-1 (their numbers in `order`) as one batch, or `share` of these.

    Every target of those that count in the share does.
    Sequence k of a source is its tokens k·s … k·s+s-1, its targets are shifted by one, so nothing is dropped
    but the last, uncut end of a source. A document starts behind an end-of-text token.
    """
    length = order.sequence_length
    chosen, counted = share or Share(list(range(stop - start)), stop - start)
    rows = np.empty((len(chosen), length + 1), dtype=np.int64)
    starts = np.empty((len(chosen), length), dtype=np.bool_)
    before = np.empty(1, dtype=np.int64)
    numbers = (found[chosen] for found in order.sequences(start, stop))
    for row, (source, number) in enumerate(zip(*numbers, strict=True)):
        stream = sources[order.quotas[source].source]
        first = int(number) * length
        stream.read(first, rows[row])
        if first:
            stream.read(first - 1, before)
        starts[row, 0] = not first or before[0] == end_of_text
    starts[:, 1:] = rows[:, :-2] == end_of_text
    both = torch.from_numpy(rows)
    mask = torch.ones(starts.shape, dtype=torch.bool)
    mask[counted:] = False
    return Batch(both[:, :-1], both[:, 1:], mask, torch.from_numpy(starts))
