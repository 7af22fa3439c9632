"""Packed matrices that are loaded as they are stored, and computed with: which, and why not the others."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch

from zhen.checkpoint import names
from zhen.checkpoint.packed import PACKED, SCALE, Packed, packed, whole_tensors
from zhen.checkpoint.stored import Checkpoint
from zhen.checkpoint.views import views
from zhen.model import packed as modules
from zhen.model.packed_kernel import missing
from zhen.model.transformer import Transformer

EMBEDDING = "model.embed_tokens.weight"


class Kept(NamedTuple):
    """The packed matrices that stay packed, by LLaMA's name; and why others, if any, are unpacked."""

    items: dict[str, Packed]
    why: str | None = None

    def bytes(self, checkpoint: Checkpoint, width: int) -> int:
        """Bytes of all weights once they are loaded, the others with `width` bytes a number."""
        whole = whole_tensors(checkpoint)
        parts = (checkpoint.tensors[name + end] for name in self.items for end in (PACKED, SCALE))
        others = (prod(tensor.shape) for name, tensor in whole.items() if name not in self.items)
        return sum(part.end - part.begin for part in parts) + width * sum(others)


def kept_packed(
    checkpoint: Checkpoint, dtype: torch.dtype | None, device: torch.device | str | None, tied: bool
) -> Kept:
    """What of a checkpoint stays packed if it is computed in `dtype` (None: as stored) on `device`; `tied`: its head is
    its embedding. Only headers are read. Raises ZhenError as `packed` does.
    """
    found = packed(checkpoint)
    if not found:
        return Kept({})
    whole = whole_tensors(checkpoint)
    kinds = {tensor.dtype for name, tensor in whole.items() if len(tensor.shape) > 1}
    if torch.device(device or "cpu").type != "cpu":
        return Kept({}, f"that is not done on {device}")
    if dtype not in (None, torch.bfloat16):
        return Kept({}, f"{str(dtype).removeprefix('torch.')} was asked for")
    if kinds != {"BF16"}:
        return Kept({}, f"matrices and scales are {' and '.join(sorted(kinds))}, not BF16")
    if names.detect(whole) != "llama":
        return Kept({}, "the names are not LLaMA's")
    if (lack := missing()) is not None:
        return Kept({}, lack)
    items = {name: item for name, item in found.items() if _computable(item, tied)}
    others = sorted({item.group for name, item in found.items() if name not in items})
    why = f"{len(found) - len(items)} matrices are in groups of {' and '.join(map(str, others))}" if others else None
    return Kept(items, why)


def put_in(model: Transformer, checkpoint: Checkpoint, kept: Kept) -> None:
    """Put what is kept into the places of `model`'s own matrices."""
    stored = views(checkpoint)
    for name, item in kept.items.items():
        words, scales = (torch.from_numpy(stored[name + end].read().copy()) for end in (PACKED, SCALE))
        codes = words.view(torch.int8)
        if item.bits == 8:
            codes ^= -128  # stored as code + 128
        kind = modules.PackedEmbedding if name == EMBEDDING else modules.Packed
        parent, _, child = name.removesuffix(".weight").rpartition(".")
        setattr(model.get_submodule(parent), child, kind(codes, scales.view(torch.int16), item.bits))


def _computable(item: Packed, tied: bool) -> bool:
    rows, columns = item.shape
    if item.name == EMBEDDING:
        return not tied and columns * item.bits % 32 == 0
    return modules.computable(rows, columns, item.group)
