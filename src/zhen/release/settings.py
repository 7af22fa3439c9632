"""Settings of the release, as its recipe section gives them."""

from __future__ import annotations

from typing import Literal

import msgspec


class ReleaseSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[release]`: what is written beside the weights."""

    license: Literal["apache-2.0", "cc0-1.0"] = "apache-2.0"
    """Terms of the weights, by the Hub's name; Apache-2.0 is what most open models of this architecture carry."""
    name: str | None = None
    """What the card calls the model; the run's name when left out."""
