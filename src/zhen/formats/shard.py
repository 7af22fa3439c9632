"""Tokenised files: `shard-00000.bin` (tokens), `.idx` (where documents end), `.json` (what they are)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from zhen.errors import ZhenError
from zhen.formats.files import Digest, write_bytes, write_json


class ShardHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON beside a shard."""

    version: int = 1
    source: str
    lang: str | None
    """Set where a shard holds one language (held-out shards), else None."""
    tokenizer: str
    """SHA-256 (hex) of the tokenizer's `tokenizer.model`, or of its `tokenizer.json` where it has no other."""
    vocab_size: int
    dtype: str
    """`uint16` where the vocabulary fits, else `uint32`; little-endian."""
    documents: int
    tokens: int
    """With one end-of-text token behind each document."""
    text_bytes: int
    """UTF-8 bytes of the documents' text."""


class Shard:
    """A shard opened for reading, memory-mapped. `tokens`: uint16|uint32[tokens]; `ends`: uint64[documents, 2]."""

    def __init__(self, path: Path, tokenizer: str | None) -> None:
        """Open `path` (its `.bin`). Raises ZhenError when sizes disagree or it was made with another tokenizer."""
        self.path = path
        header_path = path.with_suffix(".json")
        try:
            self.header = msgspec.json.decode(header_path.read_bytes(), type=ShardHeader)
        except (OSError, msgspec.DecodeError) as error:
            raise ZhenError(f"no readable shard header: {error}", file=header_path) from error
        if tokenizer is not None and self.header.tokenizer != tokenizer:
            raise ZhenError(
                f"was made with tokenizer {self.header.tokenizer[:12]}",
                expected=f"tokenizer {tokenizer[:12]}",
                file=path,
                hint="run the stage `shards` again with this tokenizer",
            )
        dtype = np.dtype(self.header.dtype).newbyteorder("<")
        expected = self.header.tokens * dtype.itemsize
        found = path.stat().st_size
        if found != expected:
            raise ZhenError(f"has {found:,} bytes", expected=f"{expected:,} by its header", file=path)
        self.tokens: NDArray[np.unsignedinteger] = (
            np.memmap(path, dtype=dtype, mode="r") if expected else np.empty(0, dtype)
        )
        ends = np.fromfile(path.with_suffix(".idx"), dtype="<u8")
        if ends.size != 2 * self.header.documents:
            raise ZhenError(f"has {ends.size // 2:,} documents", expected=f"{self.header.documents:,}", file=path)
        self.ends: NDArray[np.uint64] = ends.reshape(-1, 2)

    def documents(self) -> Iterator[tuple[NDArray[np.unsignedinteger], int]]:
        """Each document's tokens (end-of-text included) and the bytes of its text."""
        start = text_start = 0
        for end, text_end in self.ends.tolist():
            yield self.tokens[start:end], text_end - text_start
            start, text_start = end, text_end


def open_shards(folder: Path, tokenizer: str | None) -> list[Shard]:
    """All shards directly in `folder`, in order. Raises ZhenError where there is none."""
    paths = sorted(folder.glob("shard-*.bin"))
    if not paths:
        raise ZhenError(f"no token shards in {folder} (looked for shard-*.bin)", hint="the stage `shards` makes them")
    return [Shard(path, tokenizer) for path in paths]


def write_shard(
    folder: Path,
    index: int,
    documents: Sequence[tuple[Sequence[int], int]],
    *,
    source: str,
    lang: str | None,
    tokenizer: str,
    vocab_size: int,
) -> dict[str, Digest]:
    """Write one shard of `documents` (token ids with the end-of-text token, bytes of text). Returns name -> digest.

    `.idx` is uint64[documents, 2], little-endian: the running ends in tokens and in bytes of text.
    The header is written last: a shard without it is not whole.
    """
    dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
    lengths = np.array([[len(ids), text_bytes] for ids, text_bytes in documents], dtype="<u8").reshape(-1, 2)
    tokens = np.concatenate([np.asarray(ids, dtype=dtype) for ids, _ in documents] or [np.empty(0, dtype)])
    stem = f"shard-{index:05d}"
    header = ShardHeader(
        source=source,
        lang=lang,
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        dtype="uint16" if dtype.itemsize == 2 else "uint32",
        documents=len(documents),
        tokens=int(tokens.size),
        text_bytes=int(lengths[:, 1].sum()),
    )
    folder.mkdir(parents=True, exist_ok=True)
    return {
        f"{stem}.bin": write_bytes(folder / f"{stem}.bin", tokens.tobytes()),
        f"{stem}.idx": write_bytes(folder / f"{stem}.idx", np.cumsum(lengths, axis=0, dtype="<u8").tobytes()),
        f"{stem}.json": write_json(folder / f"{stem}.json", msgspec.to_builtins(header)),
    }
