"""Reading beyond the length that a model says it was made for: what becomes of it there is what is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from zhen.evaluate.settings import SHORTEST
from zhen.infer.engine import Engine


@contextmanager
def read_beyond(engine: Engine, length: int) -> Iterator[None]:
    """Let `engine` read `length` tokens at a time, even where its context is shorter."""
    before = engine.context_length, engine.longest
    engine.context_length, engine.longest = (max(known, length) for known in before)
    try:
        yield
    finally:
        engine.context_length, engine.longest = before


def usual_lengths(longest: int) -> list[int]:
    """An eighth, a quarter, a half and the whole of the longest context, none below SHORTEST."""
    return sorted({max(min(SHORTEST, longest), longest // part) for part in (8, 4, 2, 1)})
