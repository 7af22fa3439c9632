"""Paragraphs that very many documents have: notices, menus, signatures. They are left out but for the first time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zhen.data import engine
from zhen.data.dedup import place
from zhen.data.minhash import paragraph_hashes
from zhen.data.near import Part

_MORE_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class Repeated:
    """uint64[paragraphs], rising: the hashes of paragraphs that too many documents have; the place of the first."""

    hashes: NDArray[np.uint64]
    first: NDArray[np.uint64]


@dataclass(frozen=True)
class Lines:
    """The long lines of a file's documents, one after the other."""

    hashes: NDArray[np.uint64]
    characters: NDArray[np.uint32]
    documents: NDArray[np.int64]
    """int64[lines]: which of the part's rows each is in."""


def repeated_paragraphs(parts: Sequence[Part], most: int, ray: str | None) -> Repeated:
    """The paragraphs that more than `most` documents of the parts have."""
    keys, documents = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    for part in parts:
        lines = read_lines(part)
        order = np.lexsort((lines.hashes, lines.documents))
        hashes, owners = lines.hashes[order], lines.documents[order]
        new = np.ones(len(order), np.bool_)
        new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
        keys.append(hashes[new])
        documents.append(place(part.unit, part.rows[owners[new]]))

    def build(lines: Any) -> Any:
        groups = lines.groupby("key").agg(
            lines["document"].count().alias("documents"), lines["document"].min().alias("first")
        )
        return groups.where(groups["documents"] > most).select("key", "first")

    table = pa.table({"key": np.concatenate(keys), "document": np.concatenate(documents)})
    if not table.num_rows:
        return Repeated(np.empty(0, np.uint64), np.empty(0, np.uint64))
    found = engine.query(build, {"lines": table}, ["key"], ray)
    return Repeated(found["key"].to_numpy(), found["first"].to_numpy())


def read_lines(part: Part) -> Lines:
    """The long lines of the part's rows."""
    table = pq.read_table(part.path, columns=["paragraphs", "paragraph_characters"]).take(part.rows)
    hashes, characters = (table[name].combine_chunks() for name in table.column_names)
    counts = np.diff(hashes.offsets.to_numpy())
    owners = np.repeat(np.arange(len(part.rows)), counts)
    return Lines(hashes.flatten().to_numpy(), characters.flatten().to_numpy(), owners)


def to_leave_out(part: Part, lines: Lines, repeated: Repeated) -> NDArray[np.bool_]:
    """bool[lines]: those that are repeated and whose document is not the first that has them."""
    if not len(repeated.hashes):
        return np.zeros(len(lines.hashes), np.bool_)
    found = np.searchsorted(repeated.hashes, lines.hashes).clip(max=len(repeated.hashes) - 1)
    here = place(part.unit, part.rows)[lines.documents]
    return np.asarray((repeated.hashes[found] == lines.hashes) & (repeated.first[found] != here))


def without_paragraphs(text: str, hashes: Sequence[int]) -> str:
    """The text without the lines of these hashes."""
    lines = text.split("\n")
    left = [line for line, each in zip(lines, paragraph_hashes(lines), strict=True) if each not in hashes]
    return _MORE_LINES.sub("\n\n", "\n".join(left)).strip("\n")
