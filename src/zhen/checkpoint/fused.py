"""Weights to and from LLaMA's layout: fused tensors split and joined, the rotary order of queries and keys undone.

Only rows change their place, so that every dtype keeps every bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from zhen.checkpoint.names import SKIPPED, at_layer, held, numbered, refuse_unmapped, scheme_of
from zhen.checkpoint.schemes import Scheme
from zhen.checkpoint.views import View, chosen, joined, renamed
from zhen.errors import ZhenError
from zhen.model.config import ModelConfig

Rows = NDArray[np.int64]


def to_llama(views: Mapping[str, View], scheme: str, config: ModelConfig) -> dict[str, View]:
    """LLaMA's name -> view, of all `views` under the names and in the layout of `scheme`; computed constants left out.

    Raises ZhenError listing tensors that have no place in LLaMA, and for rows that don't fit `config`.
    """
    refuse_unmapped(views, scheme)
    table = scheme_of(scheme)
    found: dict[str, View] = {}
    for name, view in views.items():
        if SKIPPED.fullmatch(name):
            continue
        shape, number = numbered(name)
        parts = held(scheme)[shape]
        for part, rows in zip(parts, _rows(view, parts, table, config), strict=True):
            llama = at_layer(part, number)
            found[llama] = renamed(view, llama) if rows is None else chosen(view, llama, rows)
    return found


def from_llama(views: Mapping[str, View], scheme: str, config: ModelConfig) -> list[View]:
    """All `views` under LLaMA's names, named and laid out as `scheme` has them: the inverse of `to_llama`.

    Raises ZhenError listing tensors without a place in the scheme, where a part of a fused tensor is missing, and
    for rows that don't fit `config`.
    """
    refuse_unmapped(views, "llama")
    table = scheme_of(scheme)
    found: dict[str, View] = {}
    for name in views:
        shape, number = numbered(name)
        if SKIPPED.fullmatch(name):
            continue
        if shape not in table.places:
            raise ZhenError("no place for it", expected=f'a tensor that "{scheme}" has', place=f"tensor {name!r}")
        template = table.places[shape].name
        if (theirs := at_layer(template, number)) not in found:
            names = [at_layer(part, number) for part in held(scheme)[template]]
            if missing := [part for part in names if part not in views]:
                raise ZhenError("missing", expected=f"all parts of {theirs}", place=f"tensor {missing[0]!r}")
            found[theirs] = _together([views[part] for part in names], theirs, held(scheme)[template], table, config)
    return list(found.values())


def _together(parts: Sequence[View], name: str, llama: tuple[str, ...], table: Scheme, config: ModelConfig) -> View:
    whole = joined(parts, name) if len(parts) > 1 else renamed(parts[0], name)
    pieces = [rows for rows in _rows(whole, llama, table, config) if rows is not None]
    if not pieces:
        return whole
    order = np.empty(whole.shape[0], dtype=np.int64)
    order[np.concatenate(pieces)] = np.arange(whole.shape[0])
    return whole if np.array_equal(order, np.arange(len(order))) else chosen(whole, name, order)


def _rows(view: View, parts: tuple[str, ...], table: Scheme, config: ModelConfig) -> list[Rows | None]:
    """For each of LLaMA's `parts` that lie in `view`: the rows of `view` that it is, in its order; None for all."""
    kinds = [part.rpartition(".")[0].rpartition(".")[2] for part in parts]
    width = config.head_dim
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    heads["v_proj"] = heads["k_proj"]
    sizes = {kind: count * width for kind, count in heads.items()}
    sizes |= {"gate_proj": config.intermediate_size, "up_proj": config.intermediate_size}
    rotated = table.rotary == "neighbours" and not {"q_proj", "k_proj"}.isdisjoint(kinds)
    if len(parts) == 1 and not rotated:
        return [None]
    expected = sum(sizes[kind] for kind in kinds)
    if not view.shape or view.shape[0] != expected:
        found = f"shape {list(view.shape)}"
        raise ZhenError(found, expected=f"{expected} rows, by the config", place=f"tensor {view.name!r}")
    rule = table.places[parts[0]].rule
    if rule in ("groups", "heads"):
        whole = _by_group(view, config, rule)
    else:
        ends = np.cumsum([sizes[kind] for kind in kinds])
        whole = [np.arange(end - sizes[kind], end) for end, kind in zip(ends, kinds, strict=True)]
    if not rotated:
        return list(whole)
    return [
        rows[_halves(heads[kind], width)] if kind in ("q_proj", "k_proj") else rows
        for rows, kind in zip(whole, kinds, strict=True)
    ]


def _by_group(view: View, config: ModelConfig, rule: str) -> list[Rows]:
    """The rows of q, k and v where each key/value head has its query heads, key and value together."""
    groups, width = config.num_key_value_heads, config.head_dim
    if rule == "heads" and groups != config.num_attention_heads:
        found = f"{groups} key/value heads for {config.num_attention_heads} query heads"
        raise ZhenError(found, expected="as many: the scheme joins q, k and v by head", place=f"tensor {view.name!r}")
    each = config.num_attention_heads // groups
    rows = np.arange(view.shape[0]).reshape(groups, each + 2, width)
    return [rows[:, :each].reshape(-1), rows[:, each].reshape(-1), rows[:, each + 1].reshape(-1)]


def _halves(heads: int, width: int) -> Rows:
    """Rows that rotate with their neighbour, put so that the first of each pair are a head's first half.

    The permutation of transformers' convert_llama_weights_to_hf.py.
    """
    return np.arange(heads * width).reshape(heads, width // 2, 2).transpose(0, 2, 1).reshape(-1)
