"""Phases of a training: parts one behind the other, each with a mixture of sources of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated

import msgspec

Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class Phase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a run with a mixture of its own."""

    share: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
    """Of the run's steps."""

    mixture: dict[str, Share] | None = None
    """Share of its tokens by source, adding up to 1. None: by the sources' sizes."""


def phase_problems(
    mixture: Mapping[str, float] | None, phases: Sequence[Phase], steps: int
) -> Iterator[tuple[str, str, str]]:
    """What can't be of a run of so many steps with this `mixture` or these `phases`: (field, found, expected)."""
    if mixture is not None:
        yield from _not_one("mixture", mixture.values())
    if not phases:
        return
    if mixture is not None:
        yield "mixture", "mixture beside phases", "one of the two"
    yield from _not_one("phases", [phase.share for phase in phases])
    for at, phase in enumerate(phases):
        if phase.mixture is not None:
            yield from _not_one(f"phases.{at}.mixture", phase.mixture.values())
        if round(phase.share * steps) < 1:
            yield f"phases.{at}.share", f"{phase.share:g} of {steps:,} steps", "at least one step"


def _not_one(field: str, shares: Iterable[float]) -> Iterator[tuple[str, str, str]]:
    total = math.fsum(shares)
    if not math.isclose(total, 1.0, abs_tol=1e-6):
        yield field, f"shares that add up to {total:g}", "shares that add up to 1"
