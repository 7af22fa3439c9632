"""The text a tokenizer learns from: a fixed number of bytes, shared equally between sources, drawn by a seed."""

from __future__ import annotations

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc

from zhen.formats.document import read_documents


class Drawn(NamedTuple):
    """A document of the sample, or the beginning of one where the share ended inside it."""

    source: str
    lang: str
    text: str


Progress = Callable[[int], None]
"""Called with the number of documents gone over since the last call."""


def draw_sample(files: Sequence[Path], sample_bytes: int, seed: int, progress: Progress) -> list[Drawn]:
    """Documents of `files` (formats.document.SCHEMA) worth `sample_bytes` bytes of UTF-8, fewer if there are fewer.

    Each source gives an equal share; what a small source cannot give, the others do. Within a source documents come
    in the order of BLAKE2b(seed, id), so the sample is a pure function of the documents and the seed. The order of
    the result: by source, then by that hash. Memory: about `sample_bytes`.
    """
    sizes = _bytes_by_source(files, progress)
    shares = equal_shares(sizes, sample_bytes)
    heaps: dict[str, _Smallest] = {source: _Smallest(share) for source, share in shares.items()}
    position = 0
    for path in files:
        for batch in read_documents(path, ["id", "text", "source", "lang"]):
            ids, texts, sources, langs = (batch.column(index) for index in range(4))
            for row in range(batch.num_rows):
                key = _order(seed, ids[row].as_py() or b"")
                heap = heaps[sources[row].as_py() or ""]
                if heap.wants(key):
                    heap.add(key, position + row, langs[row].as_py() or "und", texts[row].as_py() or "")
            position += batch.num_rows
            progress(batch.num_rows)
    return [Drawn(source, lang, text) for source in sorted(heaps) for lang, text in heaps[source].drawn()]


def equal_shares(sizes: dict[str, int], total: int) -> dict[str, int]:
    """Bytes each source gives so that all give the same, none more than it has, and together at most `total`."""
    shares: dict[str, int] = {}
    left = total
    for done, source in enumerate(sorted(sizes, key=lambda name: (sizes[name], name))):
        shares[source] = min(sizes[source], left // (len(sizes) - done))
        left -= shares[source]
    return shares


def _bytes_by_source(files: Sequence[Path], progress: Progress) -> dict[str, int]:
    sizes: dict[str, int] = defaultdict(int)
    for path in files:
        for batch in read_documents(path, ["source", "text"]):
            lengths = pc.binary_length(batch.column("text")).to_pylist()
            for source, length in zip(batch.column("source").to_pylist(), lengths, strict=True):
                sizes[source or ""] += length or 0
            progress(batch.num_rows)
    return dict(sizes)


def _order(seed: int, document: bytes) -> bytes:
    return hashlib.blake2b(seed.to_bytes(16, "little", signed=True) + document, digest_size=16).digest()


class _Smallest:
    """Of the documents offered, those with the smallest keys whose texts together just reach `share` bytes."""

    def __init__(self, share: int) -> None:
        self._share = share
        self._bytes = 0
        # heapq pops the smallest; bytes and position are negated so that the largest key is on top
        self._heap: list[tuple[int, int, int, str, str]] = []

    def wants(self, key: bytes) -> bool:
        """Whether a document with `key` can be among them."""
        return self._share > 0 and (self._bytes < self._share or -int.from_bytes(key, "big") >= self._heap[0][0])

    def add(self, key: bytes, position: int, lang: str, text: str) -> None:
        """Take a document in, and put out those that are no longer needed."""
        size = len(text.encode("utf-8"))
        heapq.heappush(self._heap, (-int.from_bytes(key, "big"), -position, size, lang, text))
        self._bytes += size
        while self._heap and self._bytes - self._heap[0][2] >= self._share:
            self._bytes -= heapq.heappop(self._heap)[2]

    def drawn(self) -> Iterator[tuple[str, str]]:
        """(lang, text) in the order of keys; the last text is cut where the share ends, between characters."""
        left = self._share
        for _, _, size, lang, text in sorted(self._heap, reverse=True):
            yield lang, text if size <= left else text.encode("utf-8")[:left].decode("utf-8", "ignore")
            left -= min(size, left)
