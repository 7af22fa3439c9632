"""Long documents apart from the others: each source as two streams, of which the long one is taken more often.

The shares of the sources stay as the mixture has them (Fu et al. 2024, arXiv 2402.10171, section 3).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zhen.formats.record import Figure
from zhen.formats.shard import Shard
from zhen.formats.stage import Figures
from zhen.train.order import Quota
from zhen.train.packing import Stream

LONG, SHORT = ":long", ":short"
"""Behind a source's name: its documents from so many tokens on, and the others. No source has a colon in its name."""

_SHARDS = 16
"""Shards of a stream whose places are kept at hand."""


class _Places(NamedTuple):
    """Where the chosen documents of a shard are."""

    first: NDArray[np.int64]
    """int64[documents]: the token of the shard at which each begins."""
    before: NDArray[np.int64]
    """int64[documents + 1]: tokens of the chosen documents before each, and of all."""


class OfLength(Stream):
    """The documents of a source that have `shortest` tokens or more and fewer than `limit`, end to end."""

    def __init__(self, shards: Sequence[Shard], shortest: int, limit: int | None) -> None:
        """`limit` None: no limit. Lengths are with the end-of-text token."""
        super().__init__(shards)
        self._shortest, self._limit = shortest, limit
        self._places = lru_cache(_SHARDS)(self._found)
        self._starts = [0]
        for at in range(len(self._shards)):
            self._starts.append(self._starts[-1] + int(self._found(at).before[-1]))
        self.tokens = self._starts[-1]

    def _found(self, at: int) -> _Places:
        ends = self._shards[at].ends[:, 0].astype(np.int64)
        lengths = np.diff(ends, prepend=0)
        chosen = lengths >= self._shortest
        if self._limit is not None:
            chosen &= lengths < self._limit
        return _Places((ends - lengths)[chosen], np.concatenate([[0], np.cumsum(lengths[chosen])]))

    def read(self, start: int, out: NDArray[np.int64]) -> None:
        """Fill `out` (int64[n]) with the tokens from number `start` on."""
        done = 0
        while done < out.size:
            at = bisect_right(self._starts, start + done) - 1
            places, inside = self._places(at), start + done - self._starts[at]
            document = int(np.searchsorted(places.before, inside, side="right")) - 1
            first = int(places.first[document]) + inside - int(places.before[document])
            left = int(places.before[document + 1]) - inside
            piece = self._shards[at].tokens[first : first + min(left, out.size - done)]
            out[done : done + piece.size] = piece
            done += piece.size


class Upsampling(NamedTuple):
    """Each source as two streams, `<name>:long` and `<name>:short`, and how often the long one is taken."""

    long_tokens: int
    """Tokens from which on a document is long."""
    long_share: float
    """Of the tokens that a source gives."""

    def streams(self, sources: Mapping[str, Sequence[Shard]]) -> dict[str, Stream]:
        """The two streams of all sources, by name."""
        return {
            name + part: OfLength(shards, shortest, limit)
            for name, shards in sources.items()
            for part, shortest, limit in ((LONG, self.long_tokens, None), (SHORT, 0, self.long_tokens))
        }

    def tokens(self, streams: Mapping[str, Stream], sequence_length: int) -> dict[str, int]:
        """Tokens of each source as far as its streams give whole sequences, and the one behind the last of them; where
        they give none, those that it has, but fewer than a sequence takes."""
        found = {}
        for name in (name.removesuffix(LONG) for name in streams if name.endswith(LONG)):
            parts = streams[name + LONG], streams[name + SHORT]
            whole = sum(_sequences(part, sequence_length) for part in parts)
            there = min(sequence_length, sum(part.tokens for part in parts))
            found[name] = whole * sequence_length + 1 if whole else there
        return found

    def split(
        self,
        phases: Sequence[Sequence[Quota]],
        streams: Mapping[str, Stream],
        sequence_length: int,
        max_epochs: float,
    ) -> list[list[Quota]]:
        """The quotas of sources in each phase, shared out over their streams: the long one gives its share, or as much
        as so many passes over it hold, the other one the rest."""
        used: Counter[str] = Counter()
        found: list[list[Quota]] = []
        for quotas in phases:
            found.append([])
            for quota in quotas:
                parts = self._parts(quota, streams, sequence_length, max_epochs, used)
                used.update({part.source: part.actual for part in parts})
                found[-1] += parts
        return found

    def _parts(
        self,
        quota: Quota,
        streams: Mapping[str, Stream],
        sequence_length: int,
        max_epochs: float,
        used: Mapping[str, int],
    ) -> list[Quota]:
        """What the long and the short stream of a source give; of their passes, `used` sequences are gone."""
        names = [quota.source + LONG, quota.source + SHORT]
        have = [_sequences(streams[name], sequence_length) for name in names]
        left = [int(max_epochs * has) - used[name] for name, has in zip(names, have, strict=True)]
        planned = round(quota.planned * self.long_share)
        actual = min(round(quota.actual * self.long_share), left[0])
        # passes that end within a sequence leave one over, which no stream has: the long one gives it
        actual = max(actual, quota.actual - left[1])
        shares = [(planned, actual), (quota.planned - planned, quota.actual - actual)]
        return [
            Quota(name, streams[name].tokens, has, *share) for name, has, share in zip(names, have, shares, strict=True)
        ]


def long_figures(quotas: Sequence[Quota]) -> Figures:
    """`long_share.<source>`: what the long documents give to the run; `long_share_of_text.<source>`: what they are of
    the text."""
    figures: Figures = {}
    for long, short in zip(quotas[::2], quotas[1::2], strict=True):
        name = long.source.removesuffix(LONG)
        given, there = long.actual + short.actual, long.tokens + short.tokens
        figures[f"long_share.{name}"] = Figure(round(long.actual / given, 6) if given else None, "", n=given)
        figures[f"long_share_of_text.{name}"] = Figure(round(long.tokens / there, 6), "", n=there)
    return figures


def _sequences(stream: Stream, sequence_length: int) -> int:
    return max(0, (stream.tokens - 1) // sequence_length)
