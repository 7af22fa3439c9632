"""Strings: documents of digits alone that say the same again and again, from which a small model learns to copy.

Where registers are all there is, a model of two layers still guesses the numbers that they ask for after millions of
tokens; behind a million tokens of these it looks them up (docs/extend.md has the figures). Repeated random
tokens are what looking back is measured by: Olsson et al. 2022, "In-context learning and induction heads".
"""

from __future__ import annotations

import random

PERIOD = 20, 64
"""Digits that repeat, at least and at most; drawn for each document."""

DIGITS = 1_000
"""Of a document."""


def string_text(number: int, seed: int) -> str:
    """The text of the string of that number; a pure function of its arguments."""
    rng = random.Random(f"sampleweb/{seed}/string/{number}")
    part = "".join(rng.choices("0123456789", k=rng.randint(*PERIOD)))
    return (part * (DIGITS // len(part) + 1))[:DIGITS]
