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
    """Where the reference's training tokens lie: for each source its shards, and how many tokens to take."""

    sources: list[tuple[list[Shard], int]]
    total: int
    """Tokens of all sources."""
    taken: int
    """Tokens of the whole documents that fit the limit."""

    def read(self) -> NDArray[np.unsignedinteger]:
        """The tokens, source after source: uint16 or uint32 [taken]."""
        pieces = []
        for shards, count in self.sources:
            for shard in shards:
                pieces.append(shard.tokens[:count])
                count -= len(pieces[-1])
        return np.concatenate(pieces)


def training_tokens(shards: Path, tokenizer: str, limit: int) -> TrainingTokens:
    """Whole documents from the beginning of every source, each source's share of `limit` tokens at most."""
    folders = sorted(path for path in shards.iterdir() if path.is_dir() and path.name != HELD_OUT)
    opened = [open_shards(folder, tokenizer) for folder in folders]
    totals = [sum(shard.header.tokens for shard in source) for source in opened]
    total = sum(totals)
    if not total:
        raise ZhenError("no training tokens for the Kneser-Ney reference", file=shards)
    quotas = [count if total <= limit else count * limit // total for count in totals]
    sources = [(source, _whole_documents(source, quota)) for source, quota in zip(opened, quotas, strict=True)]
    return TrainingTokens(sources, total, sum(count for _, count in sources))


def _whole_documents(shards: list[Shard], quota: int) -> int:
    """Tokens of the documents that end within the first `quota` tokens of a source."""
    before = taken = 0
    for shard in shards:
        ends = before + shard.ends[:, 0].astype(np.int64)
        within = int(np.searchsorted(ends, quota, side="right"))
        taken = int(ends[within - 1]) if within else taken
        before += shard.header.tokens
    return taken
