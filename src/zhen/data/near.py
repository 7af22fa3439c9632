"""Near-duplicates: documents that share a band are compared by sketch; who is near whom makes clusters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zhen.data import engine
from zhen.data.dedup import place
from zhen.data.minhash import BANDS, SKETCH

PAIRWISE = 256
"""In a band of up to so many documents each is compared with each (unless they are in one cluster already)."""

LEADERS = 64
"""In a larger one, a document is compared with the first of the others, and at most so many."""

LARGE = 10_000
"""Bands of more documents are counted: text that very many pages share."""

_QUERY_ROWS = 50_000_000
"""Rows (16 bytes) of a query over bands; where there are more documents, fewer bands are taken at a time."""


@dataclass(frozen=True)
class Part:
    """The rows of one file of signals that are compared."""

    path: Path
    unit: int
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Clusters:
    """Which documents are near others; `places` rise."""

    places: NDArray[np.uint64]
    """uint64[documents]"""
    first: NDArray[np.uint64]
    """uint64[documents]: the place of the first document of each one's cluster, its own where it is alone."""
    similarity: NDArray[np.float32]
    """float32[documents]: estimated Jaccard similarity with that first one."""
    largest_band: int
    """Documents that share one band at most."""
    large_bands: int
    """Bands that more than LARGE documents share."""


def near_duplicates(parts: Sequence[Part], jaccard: float, ray: str | None) -> Clusters:
    """Connected components of the pairs that share a band and whose estimated similarity is at least `jaccard`.
    `parts` in the order of the units."""
    places, bands = _read_bands(parts)
    groups = [_groups(keys, ray) for keys in _slices(bands)]
    shared = np.unique(np.concatenate([np.empty(0, np.int64), *(members for _, members in groups)]))
    sketches, starts = _read_sketches(parts, places, places[shared])
    parents = np.arange(len(places))
    for bounds, members in groups:
        _link(bounds, members, sketches, starts, jaccard, parents)
    first, similarity = _resolve(parents, sketches, starts)
    sizes = np.concatenate([np.zeros(1, np.int64), *(np.diff(bounds) for bounds, _ in groups)])
    return Clusters(places, places[first], similarity, int(sizes.max()), int((sizes > LARGE).sum()))


def _read_bands(parts: Sequence[Part]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """uint64[documents], uint64[documents, BANDS]: places and bands of the documents that have words."""
    places, bands = [np.empty(0, np.uint64)], [np.empty((0, BANDS), np.uint64)]
    for part in parts:
        column = pq.read_table(part.path, columns=["bands"])["bands"].combine_chunks().take(part.rows)
        worded = np.diff(column.offsets.to_numpy()) == BANDS
        places.append(place(part.unit, part.rows[worded]))
        bands.append(column.flatten().to_numpy().reshape(-1, BANDS))
    return np.concatenate(places), np.concatenate(bands)


def _read_sketches(
    parts: Sequence[Part], places: NDArray[np.uint64], wanted: NDArray[np.uint64]
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """uint32[hashes], int64[documents + 1]: sketches of the `wanted` of `places`, one after the other, and where each
    document's begins (those that are not wanted have none)."""
    sketches, sizes = [np.empty(0, np.uint32)], np.zeros(len(places), np.int64)
    for part in parts:
        unit_places = place(part.unit, part.rows)
        here = np.isin(unit_places, wanted)
        if here.any():
            column = pq.read_table(part.path, columns=["sketch"])["sketch"].combine_chunks().take(part.rows[here])
            sketches.append(column.flatten().to_numpy())
            sizes[np.searchsorted(places, unit_places[here])] = np.diff(column.offsets.to_numpy())
    return np.concatenate(sketches), np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


def _slices(bands: NDArray[np.uint64]) -> Iterator[NDArray[np.uint64]]:
    """As many of the BANDS columns at a time as a query may have rows for."""
    step = max(1, _QUERY_ROWS // max(len(bands), 1))
    for begin in range(0, BANDS, step):
        yield bands[:, begin : begin + step]


def _groups(keys: NDArray[np.uint64], ray: str | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which documents share a band: group i is members[bounds[i] : bounds[i + 1]], rising."""
    documents = np.repeat(np.arange(len(keys)), keys.shape[1])
    table = pa.table({"key": keys.reshape(-1), "document": documents})
    found = engine.query(_shared, {"keys": table}, ["key", "document"], ray)
    shared = found["key"].to_numpy()
    bounds = np.flatnonzero(np.diff(shared, prepend=~shared[:1], append=~shared[-1:]))
    return bounds, found["document"].to_numpy()


def _shared(keys: Any) -> Any:
    groups = keys.groupby("key").agg(keys["document"].count().alias("documents"))
    return keys.join(groups.where(groups["documents"] > 1), on="key").select("key", "document")


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _link(bounds: Any, members: Any, sketches: Any, starts: Any, least: Any, parents: Any) -> None:
    """Unite what is near within each group members[bounds[i] : bounds[i + 1]], in `parents`."""
    for group in range(len(bounds) - 1):
        documents = members[bounds[group] : bounds[group + 1]]
        leaders = np.empty(len(documents), np.int64)
        led = 0
        for document in documents:
            alone = True
            for leader in leaders[:led]:
                if _root(parents, leader) == _root(parents, document):
                    alone = False
                elif _similarity(sketches, starts, leader, document) >= least:
                    _unite(parents, leader, document)
                    alone = False
                if not alone and len(documents) > PAIRWISE:
                    break
            if len(documents) <= PAIRWISE or (alone and led < LEADERS):
                leaders[led] = document
                led += 1


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _root(parents: Any, document: Any) -> Any:
    while parents[document] != document:
        parents[document] = parents[parents[document]]
        document = parents[document]
    return document


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _unite(parents: Any, one: Any, other: Any) -> None:
    """The lower root becomes the root of both, so that it is the first of the cluster."""
    one, other = _root(parents, one), _root(parents, other)
    parents[max(one, other)] = min(one, other)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _similarity(sketches: Any, starts: Any, document: Any, other_document: Any) -> Any:
    """Share of the smallest hashes of both sets together that are in both: of all, where neither sketch is full."""
    one = sketches[starts[document] : starts[document + 1]]
    other = sketches[starts[other_document] : starts[other_document + 1]]
    most = SKETCH if len(one) == SKETCH or len(other) == SKETCH else 2 * SKETCH
    left, right, union, both = 0, 0, 0, 0
    while union < most and (left < len(one) or right < len(other)):
        if right == len(other) or (left < len(one) and one[left] < other[right]):
            left += 1
        elif left == len(one) or other[right] < one[left]:
            right += 1
        else:
            left, right, both = left + 1, right + 1, both + 1
        union += 1
    return both / max(union, 1)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _resolve(parents: Any, sketches: Any, starts: Any) -> Any:
    first = np.empty(len(parents), np.int64)
    similarity = np.ones(len(parents), np.float32)
    for document in range(len(parents)):
        root = _root(parents, document)
        first[document] = root
        similarity[document] = _similarity(sketches, starts, root, document)
    return first, similarity
