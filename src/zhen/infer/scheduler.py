"""Which request gets what in the engine's next step: slots, admission, prompts in blocks, finishing. No tensors.

Prompts are read in blocks that begin at multiples of the block's length, whatever else is being answered: how a prompt
is cut, and with it every last bit of what comes of it, follows from the prompt alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

BLOCK = 64
"""Tokens of a prompt read together. On a CPU with AVX-512, 64 rows a matrix product are as fast a row as 512."""


class Feed(NamedTuple):
    """What a request is given in a step."""

    id: int
    prompt_tokens: int
    """So many of its prompt's next tokens; 0 where the prompt has been read and an answer's token is fed."""


@dataclass
class _Place:
    """A request, waiting or in a slot. `left`: tokens of its prompt that are still to be read."""

    id: int
    prompt: int
    left: int
    room: int
    keys: Sequence[Hashable]

    def next_key(self, block: int) -> Hashable:
        """What its next block is known by; None where that is not whole."""
        place = (self.prompt - self.left) // block
        return self.keys[place] if place < len(self.keys) else None


class Scheduler:
    """A queue, slots, and a budget of prompt tokens a step.

    Requests are admitted in the order in which they came. Every answer goes on by a token in every step; prompts take
    turns, a block each, so that a long one delays others by as much as it takes to read their blocks, and no more.
    """

    def __init__(self, slots: int, prompt_tokens: int, room: int | None = None, block: int = BLOCK) -> None:
        """`slots`: most requests at a time. `prompt_tokens`: most of all prompts' tokens read in a step, at least a
        block. `room`: most tokens that all running requests may come to have in their caches; None for any."""
        self._slots, self._budget, self._block = slots, max(prompt_tokens, block), block
        self._room = room
        self._waiting: deque[_Place] = deque()
        self._running: dict[int, _Place] = {}
        self._turns: deque[int] = deque()

    @property
    def waiting(self) -> int:
        """Requests without a slot."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests in slots."""
        return len(self._running)

    def submit(self, id: int, prompt: int, room: int, keys: Sequence[Hashable] = ()) -> None:
        """Queue a request with a prompt of `prompt` tokens that may come to `room` tokens in all.

        `keys`: what its whole blocks are known by. Blocks of one key are not read twice in one step.
        """
        self._waiting.append(_Place(id, prompt, prompt, room, keys))

    def end(self, id: int) -> bool:
        """Take a request away, finished or given up; whether there was one."""
        before = len(self._waiting)
        self._waiting = deque(place for place in self._waiting if place.id != id)
        return self._running.pop(id, None) is not None or len(self._waiting) < before

    def admit(self) -> list[int]:
        """Give free slots to those who wait; returns who has got one, in order."""
        admitted = []
        used = sum(place.room for place in self._running.values())
        while self._waiting and len(self._running) < self._slots:
            place = self._waiting[0]
            if self._room is not None and self._running and used + place.room > self._room:
                break  # nobody behind the first passes it by, or it might wait for ever
            self._waiting.popleft()
            used += place.room
            self._running[place.id] = place
            self._turns.append(place.id)
            admitted.append(place.id)
        return admitted

    def reading(self) -> list[int]:
        """Running requests with some of their prompts left to read."""
        return [id for id, place in self._running.items() if place.left]

    def reuse(self, id: int, tokens: int) -> None:
        """So many of the next tokens of a prompt need not be read: whole blocks, and fewer than are left."""
        place = self._running[id]
        if tokens % self._block or not 0 <= tokens < place.left:
            raise ValueError(f"{tokens} tokens of {place.left} can't be reused")
        place.left -= tokens

    def feeds(self) -> list[Feed]:
        """What each running request is given now. A prompt's share is whole blocks, but for its end."""
        answering = [id for id, place in self._running.items() if not place.left]
        shares: dict[int, int] = {}
        taken: set[Hashable] = set()
        self._turns = deque(id for id in self._turns if id in self._running and self._running[id].left)
        passed: deque[int] = deque()
        budget = self._budget
        while self._turns:
            place = self._running[self._turns[0]]
            count = min(place.left, self._block)
            key = place.next_key(self._block)
            if key is not None and key in taken:
                passed.append(self._turns.popleft())  # another reads the same just now: it is there in the next step
                continue
            if count > budget:
                break
            self._turns.popleft()
            taken.add(key)
            budget -= count
            place.left -= count
            shares[place.id] = shares.get(place.id, 0) + count
            if place.left:
                self._turns.append(place.id)
        self._turns = passed + self._turns
        return [Feed(id, shares.get(id, 0)) for id in self._running if id in shares or id in answering]
