"""Held-out documents and the reference's training tokens, read from the shards that the model was trained from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zhen.errors import ZhenError
from zhen.formats.shard import Shard, open_shards

HELD_OUT = "held-out"


@dataclass(frozen=True)
class Group:
    """The held-out documents of one source in one language, in their order."""

    source: str
    lang: str
    documents: list[list[int]]
    """Token ids of each text, without the end-of-text token."""
    sizes: list[int]
    """UTF-8 bytes of each text."""

    @property
    def name(self) -> str:
        """`source.lang`, as the folder is called."""
        return f"{self.source}.{self.lang}"


def read_groups(shards: Path, tokenizer: str) -> list[Group]:
    """All groups of held-out documents, by name; documents without text are left out.

    Raises ZhenError where nothing was held out, or where the shards are another tokenizer's.
    """
    groups = []
    for folder in sorted(path for path in (shards / HELD_OUT).glob("*") if path.is_dir()):
        opened = open_shards(folder, tokenizer)
        header = opened[0].header
        pairs = [
            (tokens[:-1].tolist(), size) for shard in opened for tokens, size in shard.documents() if tokens.size > 1
        ]
        if pairs:
            groups.append(Group(header.source, header.lang or "und", [ids for ids, _ in pairs], [n for _, n in pairs]))
    if not groups:
        raise ZhenError(
            "no held-out documents to evaluate on",
            file=shards / HELD_OUT,
            hint="raise data.held_out, the share of documents that is kept from training",
        )
    return groups


@dataclass(frozen=True)
class TrainingTokens:
    """Which of the training documents the reference learns from."""

    shards: list[tuple[Shard, NDArray[np.bool_]]]
    """Each shard with the documents to take: bool[documents]."""
    total: int
    """Tokens of all sources."""
    taken: int
    """Tokens of the documents taken."""

    def read(self) -> NDArray[np.unsignedinteger]:
        """The tokens, source after source: uint16 or uint32 [taken]."""
        return np.concatenate([shard.tokens[np.repeat(taken, _lengths(shard))] for shard, taken in self.shards])


def training_tokens(shards: Path, tokenizer: str, limit: int) -> TrainingTokens:
    """Whole documents spread evenly over every source, each source's share of `limit` tokens at most."""
    folders = sorted(path for path in shards.iterdir() if path.is_dir() and path.name != HELD_OUT)
    opened = [open_shards(folder, tokenizer) for folder in folders]
    total = sum(shard.header.tokens for source in opened for shard in source)
    if not total:
        raise ZhenError("no training tokens for the Kneser-Ney reference", file=shards)
    chosen = [pair for source in opened for pair in _spread(source, min(limit, total), total)]
    return TrainingTokens(chosen, total, sum(int(_lengths(shard)[taken].sum()) for shard, taken in chosen))


def _spread(shards: list[Shard], part: int, whole: int) -> list[tuple[Shard, NDArray[np.bool_]]]:
    """Take a source's documents so that, up to any of them, at most part/whole of the tokens passed are taken.

    Sources lie in the order of their files, so that their beginning alone would be one file's kind of text.
    """
    passed = taken = 0
    chosen = []
    for shard in shards:
        mask = np.zeros(shard.header.documents, dtype=np.bool_)
        for index, length in enumerate(_lengths(shard).tolist()):
            passed += length
            if (taken + length) * whole <= passed * part:
                mask[index] = True
                taken += length
        chosen.append((shard, mask))
    return chosen


def _lengths(shard: Shard) -> NDArray[np.int64]:
    """Tokens of each document, end-of-text included: int64[documents]."""
    ends: NDArray[np.int64] = shard.ends[:, 0].astype(np.int64)
    begins = np.zeros_like(ends)
    begins[1:] = ends[:-1]
    return ends - begins
