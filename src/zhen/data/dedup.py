"""Exact duplicates: of documents with equal content the first by (unit, row) is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zhen.data import engine

ROW_BITS = 32
"""A document's place is `unit << 32 | row`: one integer that sorts as (unit, row)."""


def place(unit: int, rows: NDArray[np.integer]) -> NDArray[np.uint64]:
    """uint64[rows]: the places of rows of a unit."""
    return np.uint64(unit << ROW_BITS) | rows.astype(np.uint64)


def exact_duplicates(
    keys: pa.Table, ray: str | None
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]:
    """Places of the documents that repeat an earlier one, sorted; the place of the first; how often it occurs in all.

    `keys`: columns hash_high, hash_low, place (uint64). Documents with equal hashes (128 bits) are equal.
    """
    if not keys.num_rows:
        return np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64)
    found = engine.query(_later_copies, {"keys": keys}, ["place"], ray)
    places, firsts = (found[name].to_numpy().astype(np.uint64) for name in ("place", "first"))
    return places, firsts, found["copies"].to_numpy().astype(np.int64)


def _later_copies(keys: Any) -> Any:
    groups = keys.groupby("hash_high", "hash_low").agg(
        keys["place"].min().alias("first"), keys["place"].count().alias("copies")
    )
    groups = groups.where(groups["copies"] > 1)
    joined = keys.join(groups, on=["hash_high", "hash_low"])
    return joined.where(joined["place"] != joined["first"]).select("place", "first", "copies")
