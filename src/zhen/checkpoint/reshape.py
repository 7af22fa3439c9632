"""A LLaMA's tensors made complete by its config, tied and untied, its vocabulary padded and cut."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path

import msgspec
import numpy as np

from zhen.checkpoint.safetensors import BITS
from zhen.checkpoint.views import RAW, Array, View, joined, renamed, rows
from zhen.errors import ZhenError
from zhen.model.config import ModelConfig, check
from zhen.model.size import shapes

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
_PIECE = 1 << 22
"""Numbers that are compared at a time."""

Changed = tuple[dict[str, View], ModelConfig]


def complete(found: Mapping[str, View], config: ModelConfig, folder: Path) -> dict[str, View]:
    """The tensors of `config` out of `found` (by LLaMA's names), in the order of the forward pass.

    A head that is stored beside an embedding to which it is tied is left out. Raises ZhenError for tensors missing, too
    many or misshapen, and where such a head differs.
    """
    found = dict(found)
    expected = shapes(config)
    if config.tie_word_embeddings and HEAD in found and EMBEDDING in found and not _equal(found.pop(HEAD), found):
        raise ZhenError(
            "differs from the embedding",
            expected="the same numbers, as the config says tie_word_embeddings",
            file=folder,
            place=f"tensor {HEAD!r}",
        )
    for wrong, text in ((expected.keys() - found.keys(), "missing"), (found.keys() - expected.keys(), "too many")):
        if wrong:
            count = f"{len(wrong)} tensor{'s' * (len(wrong) > 1)} {text}, the first {min(wrong)}"
            raise ZhenError(count, expected=f"the {len(expected)} of the config", file=folder)
    for name, shape in expected.items():
        if found[name].shape != shape:
            stated = f"{list(shape)}, by the config"
            raise ZhenError(f"shape {list(found[name].shape)}", expected=stated, file=folder, place=f"tensor {name!r}")
    return {name: found[name] for name in expected}


def tied(found: dict[str, View], config: ModelConfig) -> Changed:
    """Without the head, which must be equal to the embedding. Raises ZhenError where it isn't."""
    if HEAD not in found:
        return found, config
    if not _equal(found[HEAD], found):
        expected = "the embedding's numbers: tying would change the model"
        raise ZhenError("a head of its own", expected=expected, place="--tie")
    kept = {name: view for name, view in found.items() if name != HEAD}
    return kept, msgspec.structs.replace(config, tie_word_embeddings=True)


def untied(found: dict[str, View], config: ModelConfig) -> Changed:
    """With a head of its own: a copy of the embedding where they were tied."""
    if HEAD in found:
        return found, config
    made = found | {HEAD: renamed(found[EMBEDDING], HEAD)}
    return made, msgspec.structs.replace(config, tie_word_embeddings=False)


def resized(found: dict[str, View], config: ModelConfig, size: int) -> Changed:
    """Embedding and head with `size` rows: padded with zeros, or cut where all that is cut off is zeros.

    Raises ZhenError where rows that mean something would be lost.
    """
    made = dict(found)
    for name in (EMBEDDING, HEAD):
        if name in found:
            made[name] = _padded(found[name], size) if size >= config.vocab_size else _cut(found[name], size)
    return made, check(msgspec.structs.replace(config, vocab_size=size))


def _padded(view: View, size: int) -> View:
    shape = (size - view.shape[0], *view.shape[1:])
    zeros = View(view.name, view.dtype, shape, lambda: np.zeros(shape, dtype=RAW[BITS[view.dtype]]))
    return joined([view, zeros], view.name) if shape[0] else view


def _cut(view: View, size: int) -> View:
    used = np.flatnonzero(rows(view, view.name, max(size, 0), view.shape[0] - max(size, 0)).read().any(axis=1))
    if len(used) or size < 1:
        needed = max(size, 0) + int(used[-1]) + 1 if len(used) else 1
        expected = f"at least {needed}: rows up to there are not zeros"
        raise ZhenError(f"{size}", expected=expected, place="--vocab-size")
    return rows(view, view.name, 0, size)


def _equal(head: View, found: Mapping[str, View]) -> bool:
    """Whether head and embedding are bit for bit the same."""
    embedding = found[EMBEDDING]
    if (head.dtype, head.shape) != (embedding.dtype, embedding.shape):
        return False
    step = max(1, _PIECE // max(1, prod(head.shape[1:])))
    one, other = head.read(), embedding.read()
    return all(_same(one[at : at + step], other[at : at + step]) for at in range(0, head.shape[0], step))


def _same(one: Array, other: Array) -> bool:
    return bool(np.array_equal(one, other))
