"""Which sequence is number i: a pure function of (seed, i), with the mixture of sources in it.

Sources are spread evenly over each phase of the run by their quotas; within a source every epoch is a permutation of
its sequences of its own, across phases. Nothing is shuffled in memory and nothing is remembered, so a run goes on
anywhere, and any number of processes can share out the same order.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, repeat
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhen.errors import ZhenError, did_you_mean
from zhen.train.phases import Phase

_ROUNDS = 6
_SCALE = 1 << 64


def permute(index: NDArray[np.uint64], size: int, key: bytes) -> NDArray[np.uint64]:
    """Where a permutation of 0 … size-1, chosen by `key`, sends each index. uint64[n] -> uint64[n].

    A balanced Feistel network over the next even number of bits, walked until it lands below `size`
    (Black and Rogaway 2002, "Ciphers with arbitrary finite domains", section 3): less than four rounds through
    the network on average, no memory.
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    keys = np.frombuffer(hashlib.blake2b(key, digest_size=8 * _ROUNDS).digest(), dtype="<u8")
    out = _feistel(index.astype(np.uint64), half, keys)
    while (outside := np.flatnonzero(out >= size)).size:
        out[outside] = _feistel(out[outside], half, keys)
    return out


def _feistel(value: NDArray[np.uint64], half: np.uint64, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    low = np.uint64((1 << int(half)) - 1)
    left, right = value >> half, value & low
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & low)
    return (left << half) | right


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al. 2014, figure 17)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def largest_remainder(shares: Sequence[float], total: int) -> list[int]:
    """Whole numbers that add up to `total`, as near to `shares` as can be (ties go to the earlier)."""
    scale = sum(shares)
    exact = [share * total / scale for share in shares]
    counts = [int(value) for value in exact]
    by_rest = sorted(range(len(shares)), key=lambda at: (counts[at] - exact[at], at))
    for at in by_rest[: total - sum(counts)]:
        counts[at] += 1
    return counts


@dataclass(frozen=True)
class Quota:
    """What one source gives to a run. A sequence is `sequence_length` tokens and the one that follows."""

    source: str
    tokens: int
    """Tokens that it has."""
    sequences: int
    """Sequences that it has."""
    planned: int
    """Sequences that the mixture asks of it."""
    actual: int
    """Sequences that it gives, after `max_epochs`."""

    @property
    def epochs(self) -> float:
        """Passes over the source."""
        return self.actual / self.sequences if self.sequences else 0.0


def plan_quotas(
    tokens: Mapping[str, int],
    mixture: Mapping[str, float] | None,
    *,
    sequence_length: int,
    total: int,
    max_epochs: float,
    section: str,
    field: str = "mixture",
    used: Mapping[str, int] = MappingProxyType({}),
) -> list[Quota]:
    """Share `total` sequences out over sources of so many `tokens`, by name. None as mixture: by size.

    A source gives at most `max_epochs` passes, of which `used` sequences are gone; what it lacks is asked of the others
    by their shares. Raises ZhenError, naming fields of the recipe's `section` (`field` has the mixture), for an unknown
    source, one too small for a sequence, and where all together can't give enough.
    """
    names = sorted(tokens)
    have = {name: max(0, (tokens[name] - 1) // sequence_length) for name in names}
    shares = dict.fromkeys(names, 0.0) | (dict(mixture) if mixture is not None else {n: float(have[n]) for n in names})
    for name in sorted(shares):
        if name not in tokens:
            raise ZhenError(
                f'unknown source "{name}"',
                expected=f"one of {', '.join(names)}",
                place=f"{section}.{field}",
                hint=did_you_mean(name, names),
            )
        if shares[name] > 0 and not have[name]:
            raise ZhenError(
                f'source "{name}" has {tokens[name]:,} tokens, fewer than the {sequence_length + 1:,} of one sequence',
                place=f"{section}.{field}",
                hint=f"leave it out, bring more text, or shorten {section}.sequence_length",
            )
    if not sum(shares.values()):
        raise ZhenError(f"no source has the {sequence_length + 1:,} tokens of one sequence", place=section)
    caps = {name: int(max_epochs * have[name]) - used.get(name, 0) if shares[name] else 0 for name in names}
    if sum(caps.values()) < total:
        asked = total + sum(used.get(name, 0) for name in names if shares[name])
        raise ZhenError(
            f"{asked * sequence_length:,} tokens are {asked / max(1, sum(h for n, h in have.items() if shares[n])):.2f}"
            f" times what the sources have",
            expected=f"at most max_epochs = {max_epochs:g}",
            place=f"{section}.tokens",
            hint=f"bring more text, train on fewer tokens, or raise {section}.max_epochs",
        )
    planned = largest_remainder([shares[name] for name in names], total)
    actual = _capped(names, shares, caps, total)
    return [Quota(n, tokens[n], have[n], p, actual[n]) for n, p in zip(names, planned, strict=True)]


def _capped(names: Sequence[str], shares: Mapping[str, float], caps: Mapping[str, int], total: int) -> dict[str, int]:
    """Quotas by share where none passes its cap; full sources leave the rest to the others."""
    quotas, open_names, left = dict.fromkeys(names, 0), [name for name in names if shares[name]], total
    while left:
        asked = dict(zip(open_names, largest_remainder([shares[name] for name in open_names], left), strict=True))
        full = [name for name in open_names if asked[name] > caps[name]]
        for name in full or open_names:
            quotas[name] = min(asked[name], caps[name])
            left -= quotas[name]
        open_names = [name for name in open_names if name not in full]
    return quotas


def plan_phases(
    tokens: Mapping[str, int],
    phases: Sequence[Phase],
    *,
    sequence_length: int,
    steps: int,
    sequences_per_step: int,
    max_epochs: float,
    section: str,
) -> list[list[Quota]]:
    """The quotas of each phase, in whole steps; the passes over a source count through all of them."""
    used: Counter[str] = Counter()
    plans = []
    for at, own in enumerate(largest_remainder([phase.share for phase in phases], steps)):
        quotas = plan_quotas(
            tokens,
            phases[at].mixture,
            sequence_length=sequence_length,
            total=own * sequences_per_step,
            max_epochs=max_epochs,
            section=section,
            field=f"phases.{at}.mixture" if len(phases) > 1 else "mixture",
            used=used,
        )
        used.update({quota.source: quota.actual for quota in quotas})
        plans.append(quotas)
    return plans


class Order:
    """The sequences of a run by number. Source numbers count along `quotas`."""

    def __init__(self, phases: Sequence[Sequence[Quota]], *, seed: int, sequence_length: int) -> None:
        """`phases`: what each source gives to each, one behind the other; all name the same sources in one order."""
        self.phases = [_Spread([quota.actual for quota in quotas]) for quotas in phases]
        self.quotas = [_added(quotas) for quotas in zip(*phases, strict=True)]
        self.seed = seed
        self.sequence_length = sequence_length
        self.total = sum(phase.total for phase in self.phases)

    def sequences(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Source number and sequence number within it, of the run's sequences `start` … `stop`-1. int64[n] each.

        Behind the last of the run the turns of its last phase come again, each source going on where it was.
        """
        turns = list(islice(self._turns(start), stop - start))
        sources = np.array([source for source, _ in turns], dtype=np.int64)
        uses = np.array([use for _, use in turns], dtype=np.uint64)
        numbers = np.empty(len(turns), dtype=np.int64)
        for source in np.unique(sources):
            quota = self.quotas[source]
            at = np.flatnonzero(sources == source)
            epochs, places = np.divmod(uses[at], np.uint64(quota.sequences))
            for epoch in np.unique(epochs):
                key = f"{self.seed}\0{quota.source}\0{epoch}".encode()
                inside = epochs == epoch
                numbers[at[inside]] = permute(places[inside], quota.sequences, key).astype(np.int64)
        return sources, numbers

    def _turns(self, start: int) -> Iterator[tuple[int, int]]:
        """From sequence `start` on, without end: whose turn it is, and how often that source had one before."""
        before = [0] * len(self.quotas)
        some = [phase for phase in self.phases if phase.total]
        for phase in chain(some, repeat(some[-1])):
            for source, use in phase.turns(start):
                yield source, before[source] + use
            start = max(0, start - phase.total)
            before = [had + own for had, own in zip(before, phase.counts, strict=True)]

    def summary(self) -> dict[str, Any]:
        """What `order.json` says: enough to compute the order again, and planned beside actual quotas in tokens."""
        length = self.sequence_length
        phases = [
            {q.source: count * length for q, count in zip(self.quotas, phase.counts, strict=True)}
            for phase in self.phases
        ]
        return {
            "method": "zhen-order-1",
            "seed": self.seed,
            "sequence_length": length,
            "sequences": self.total,
            "sources": {
                q.source: {
                    "tokens": q.tokens,
                    "sequences": q.sequences,
                    "planned_tokens": q.planned * length,
                    "actual_tokens": q.actual * length,
                    "epochs": round(q.epochs, 6),
                }
                for q in self.quotas
            },
            **({"phases": phases} if len(phases) > 1 else {}),
        }


def _added(quotas: Sequence[Quota]) -> Quota:
    """What a source gives to all phases together."""
    return replace(quotas[0], planned=sum(q.planned for q in quotas), actual=sum(q.actual for q in quotas))


class _Spread:
    """The turns of sources over one phase: turn j of a source with quota q is due at (2j+1)/(2q) of it, so every window
    holds each source's share to within a turn or two. Times are whole numbers of 2^-64, so the order is exact; ties go
    to the earlier source.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        """`counts`: sequences that each source gives."""
        self.counts = list(counts)
        self.total = sum(counts)

    def turns(self, start: int) -> Iterator[tuple[int, int]]:
        """From turn `start` on: whose it is, and how often that source had one before; none behind the last."""
        if start >= self.total:
            return iter(())
        low, high = 0, _SCALE
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if sum(self._due(middle)) <= start else (low, middle)
        before = self._due(low)
        merged = heapq.merge(*(self._source_turns(source, use) for source, use in enumerate(before)))
        return ((source, use) for _, source, use in islice(merged, start - sum(before), None))

    def _due(self, time: int) -> list[int]:
        """Turns due before `time`, by source."""
        return [
            min(count, max(0, -((_SCALE - 2 * count * time) // (2 * _SCALE)))) if count else 0 for count in self.counts
        ]

    def _source_turns(self, source: int, use: int) -> Iterator[tuple[int, int, int]]:
        count = self.counts[source]
        for turn in range(use, count):
            yield (2 * turn + 1) * _SCALE // (2 * count), source, turn
