"""The tasks of long context by name, over the texts that are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zhen.checkpoint.load import open_llama
from zhen.errors import ZhenError
from zhen.evaluate.longcontext.grid import NEEDLES, Grid
from zhen.evaluate.longcontext.positions import Positions
from zhen.evaluate.longcontext.reading import usual_lengths
from zhen.evaluate.longcontext.texts import Texts
from zhen.evaluate.settings import lengths_problem

LongTask = Grid | Positions


def long_task(
    name: str, texts: Sequence[Texts], lengths: Sequence[int], limit: int | None = None, seed: int = 0
) -> LongTask:
    """The task `name`. Raises ZhenError for lengths that can't be used, and without texts."""
    if wrong := lengths_problem(lengths):
        raise ZhenError(f"lengths {', '.join(map(str, lengths))}", expected=wrong)
    if name in NEEDLES:
        return Grid(name, texts, lengths, limit, seed)
    return Positions(texts, lengths, limit)


def lengths_for(checkpoints: Sequence[Path], given: Sequence[int] | None) -> list[int]:
    """The lengths that were given, or the usual ones of the longest context among the checkpoints."""
    if given:
        return list(given)
    return usual_lengths(max(open_llama(path)[0].max_position_embeddings for path in checkpoints))
