"""Which dialogues share a sequence, and which sequence is number i of a run: a pure function of seed and i."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def best_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Places of `lengths` in rows of `room`: the longest first, each into the fullest row that still takes it.

    Of equal lengths the earlier place comes first; at most 11/9 of the fewest rows, and one (Johnson 1973).
    """
    rows: list[list[int]] = []
    open_rows: dict[int, list[int]] = {}
    free = 0
    """Bit r is set where a row with r positions left is open."""
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        length = lengths[place]
        fitting = free >> length
        if fitting:
            left = length + (fitting & -fitting).bit_length() - 1
            row = open_rows[left].pop()
            if not open_rows[left]:
                free ^= 1 << left
        else:
            left, row = room, len(rows)
            rows.append([])
        rows[row].append(place)
        left -= length
        if not open_rows.get(left):
            free |= 1 << left
        open_rows.setdefault(left, []).append(row)
    return rows


class Plan:
    """The rows of a run, epoch after epoch; each epoch has every dialogue once, in an order of its own."""

    def __init__(self, lengths: Sequence[int], room: int, seed: int, packed: bool) -> None:
        """`packed`: several dialogues in a row."""
        self._lengths, self._room, self._seed, self._packed = lengths, room, seed, packed
        self._epoch, self._rows = -1, list[list[int]]()
        self.rows_an_epoch = len(best_fit(lengths, room)) if packed else len(lengths)
        """The same in every epoch: it depends on the lengths alone."""

    def rows(self, start: int, stop: int) -> list[list[int]]:
        """The places of the dialogues in the rows `start` … `stop` - 1."""
        return [self._row(*divmod(number, self.rows_an_epoch)) for number in range(start, stop)]

    def _row(self, epoch: int, number: int) -> list[int]:
        if epoch != self._epoch:
            rng = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
            order = rng.permutation(len(self._lengths)).tolist()
            packed = best_fit([self._lengths[place] for place in order], self._room) if self._packed else None
            rows = [[order[place] for place in row] for row in packed] if packed else [[place] for place in order]
            self._rows = [rows[place] for place in rng.permutation(len(rows)).tolist()]
            self._epoch = epoch
        return self._rows[number]
