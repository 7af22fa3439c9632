"""Which of a layer's two norms stands before attention, by the weights: gains grow with the columns that read them."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from zhen.checkpoint.cast import floats
from zhen.checkpoint.stored import Checkpoint
from zhen.checkpoint.templates import Template
from zhen.checkpoint.views import views

Floats = NDArray[np.float64]

_READ_BY = (
    ("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
)
"""Norm -> the matrices that read it."""


class Balance:
    """How much better each norm's gains go with the columns that read them than with those that read the other norm.

    Gain g_j and the columns W_j that read it can be scaled by t and 1 / t without a change; so under gradient flow
    g_j² - |W_j|² keeps the value that it had at the start (as between layers in Du, Hu, Lee 2018, theorem 2.1): where
    the gain grew, its columns did.
    """

    def __init__(self, checkpoint: Checkpoint, by_name: Mapping[str, Template]) -> None:
        self._views = views(checkpoint)
        self._by_name = by_name
        self._columns: dict[str, Floats] = {}

    def errors(self, chosen: Mapping[str, str]) -> float:
        """The mean over the layers, in standard errors of a sum of four correlations of `hidden_size` values; below 0
        where the norms go better with each other's matrices."""
        gains, columns = zip(*(self._norm(chosen, norm, readers) for norm, readers in _READ_BY), strict=True)
        found = [
            _correlation(own, mine)
            + _correlation(other, theirs)
            - _correlation(own, theirs)
            - _correlation(other, mine)
            for own, other, mine, theirs in zip(*gains, *columns, strict=True)
        ]
        return float(np.mean(found)) * sqrt(len(found) * max(len(gains[0][0]) - 3, 1)) / 2

    def _norm(self, chosen: Mapping[str, str], norm: str, readers: tuple[str, ...]) -> tuple[Floats, Floats]:
        """float64[layers, hidden_size]: the gains, and the lengths of the columns of all matrices that read them."""
        gains = np.stack([self._read(name) for name in self._members(chosen, norm)])
        squares = [self._squares(name) for name in (chosen[_full(reader)] for reader in readers)]
        return gains, np.sqrt(np.sum(squares, axis=0))

    def _squares(self, template: str) -> Floats:
        """float64[layers, columns]: squared lengths of a matrix's columns."""
        if template not in self._columns:
            members = self._by_name[template].members
            self._columns[template] = np.stack([np.square(self._read(name)).sum(axis=0) for name in members])
        return self._columns[template]

    def _members(self, chosen: Mapping[str, str], part: str) -> tuple[str, ...]:
        return self._by_name[chosen[_full(part)]].members

    def _read(self, name: str) -> Floats:
        view = self._views[name]
        return np.asarray(floats(view.read(), view.dtype), dtype=np.float64)


def _full(part: str) -> str:
    return f"model.layers.N.{part}.weight"


def _correlation(first: Floats, second: Floats) -> float:
    """Pearson's; 0 where one of them doesn't vary."""
    spread = first.std() * second.std()
    return float(((first - first.mean()) * (second - second.mean())).mean() / spread) if spread else 0.0
