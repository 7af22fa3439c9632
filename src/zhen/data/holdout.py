"""Which documents are held out: a pure function of the seed and their ids. And the last pass: writing what is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Struct
from numpy.typing import NDArray

from zhen.data import privacy
from zhen.data.paragraphs import without_paragraphs
from zhen.data.tables import PartFile, PartTable
from zhen.formats.document import SCHEMA
from zhen.formats.files import Digest

MOST = 0.2
"""At most this share of a language's bytes is held out."""

_BATCH = 1000


class Cut(Struct, frozen=True):
    """A language's held-out documents: those of at most `most_bytes` bytes whose rank is at most `rank`."""

    rank: int
    most_bytes: int
    documents: int
    bytes: int


class WriteJob(Struct, frozen=True):
    """What a worker is told about a unit that it writes."""

    unit: str
    documents: str
    verdicts: str
    folder: str
    seed: int
    cuts: dict[str, Cut]
    redact: tuple[str, ...]
    """Kinds of personal data that are put out of sight."""


class Written(Struct):
    """What was written of a unit, `units/<unit>.json`."""

    kept: dict[str, list[int]] = {}
    """Language -> documents and bytes of text."""
    held_out: dict[str, list[int]] = {}
    redacted: dict[str, list[int]] = {}
    """Kind of personal data -> places and documents."""

    def count(self, side: dict[str, list[int]], lang: str, size: int) -> None:
        """Count a document."""
        found = side.setdefault(lang, [0, 0])
        found[0] += 1
        found[1] += size


class WriteAnswer(Struct):
    """What it answers."""

    unit: str
    outputs: dict[str, Digest]
    temporary: dict[str, str]


def unit_outputs(unit: str) -> list[str]:
    """What is there when a unit is written; the last one is published last."""
    return [f"kept/{unit}.parquet", f"held-out/{unit}.parquet", f"units/{unit}.json"]


def ranks(ids: Iterable[bytes], seed: int) -> NDArray[np.uint64]:
    """uint64[ids]: BLAKE2b-64 of seed and id; documents with the lowest ranks are held out."""
    key = seed.to_bytes(16, "little", signed=True)
    digests = [hashlib.blake2b(each, key=key, digest_size=8).digest() for each in ids]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def cut_language(
    ids: Sequence[bytes], sizes: NDArray[np.int64], *, seed: int, share: float, least_bytes: int
) -> Cut | None:
    """Where to cut one language's kept documents (`sizes`: int64[documents], bytes of text), or None for nothing.

    By rank, until the share of documents and the least bytes are reached; never over a fifth of the bytes.
    """
    most = int(sizes.sum() * MOST)
    order = ranks(ids, seed)
    fits = np.flatnonzero(sizes <= most)
    fits = fits[np.argsort(order[fits], kind="stable")]
    sums = np.cumsum(sizes[fits])
    enough = np.flatnonzero((np.arange(1, len(fits) + 1) >= share * len(sizes)) & (sums >= min(least_bytes, most)))
    wanted = int(enough[0]) + 1 if len(enough) else len(fits)
    count = min(wanted, int(np.searchsorted(sums, most, side="right")))
    if not share or not count:
        return None
    return Cut(int(order[fits[count - 1]]), most, count, int(sums[count - 1]))


def write_unit(job: str) -> str:
    """Write a unit's kept and held-out documents (JSON of WriteJob -> JSON of WriteAnswer), under other names."""
    return msgspec.json.encode(_write(msgspec.json.decode(job, type=WriteJob))).decode()


def _write(job: WriteJob) -> WriteAnswer:
    folder = Path(job.folder)
    verdicts = pq.read_table(job.verdicts, columns=["keep", "paragraphs"])
    keep, cuts = verdicts["keep"].to_numpy(), verdicts["paragraphs"].combine_chunks()
    answer = WriteAnswer(job.unit, {}, {})
    written = Written()
    start = 0
    paths = [folder / output for output in unit_outputs(job.unit)]
    with PartTable(paths[0], SCHEMA) as kept, PartTable(paths[1], SCHEMA) as held_out, PartFile(paths[2]) as counts:
        for batch in pq.ParquetFile(job.documents).iter_batches(_BATCH):
            kept_here = keep[start : start + batch.num_rows]
            held = kept_here & _held_out(batch, job)
            batch = _cut(batch, cuts[start : start + batch.num_rows])
            start += batch.num_rows
            kept.write(_clean(batch.filter(pa.array(kept_here & ~held)), job, written, written.kept))
            held_out.write(_clean(batch.filter(pa.array(held)), job, written, written.held_out))
        counts.write(msgspec.json.encode(written, order="sorted"))
    for file in (kept.file, held_out.file, counts):
        output = str(file.path.relative_to(folder))
        answer.outputs[output] = file.digest
        answer.temporary[output] = str(file.temporary.relative_to(folder))
    return answer


def _cut(batch: pa.RecordBatch, cuts: pa.Array) -> pa.RecordBatch:
    """The documents without the paragraphs (lists of hashes) that the verdict leaves out."""
    if not len(cuts.flatten()):
        return batch
    texts = batch.column("text").to_pylist()
    for row, hashes in enumerate(cuts.to_pylist()):
        if hashes:
            texts[row] = without_paragraphs(texts[row], hashes)
    return batch.set_column(SCHEMA.get_field_index("text"), SCHEMA.field("text"), pa.array(texts, pa.large_string()))


def _clean(batch: pa.RecordBatch, job: WriteJob, written: Written, side: dict[str, list[int]]) -> pa.RecordBatch:
    """The documents as they are written, counted: personal data out of sight. Ids stay those of the whole text."""
    texts = batch.column("text").to_pylist()
    for row, text in enumerate(texts):
        texts[row], found = privacy.redact(text, job.redact)
        for kind, places in found.items():
            each = written.redacted.setdefault(kind, [0, 0])
            each[0] += places
            each[1] += 1
    for lang, text in zip(batch.column("lang").to_pylist(), texts, strict=True):
        written.count(side, lang, len(text.encode("utf-8")))
    return batch.set_column(SCHEMA.get_field_index("text"), SCHEMA.field("text"), pa.array(texts, pa.large_string()))


def _held_out(batch: pa.RecordBatch, job: WriteJob) -> NDArray[np.bool_]:
    sizes = pc.binary_length(batch.column("text")).to_numpy(zero_copy_only=False)
    order = ranks(batch.column("id").to_pylist(), job.seed)
    langs = np.array(batch.column("lang").to_pylist(), dtype=np.str_)
    held = np.zeros(batch.num_rows, dtype=np.bool_)
    for lang, cut in job.cuts.items():
        held |= (langs == lang) & (order <= np.uint64(cut.rank)) & (sizes <= cut.most_bytes)
    return held
