"""Writing the shards of one folder: cut by tokens, taken up behind those that are already whole."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

from zhen.errors import ZhenError
from zhen.formats.files import Digest
from zhen.formats.shard import Shard, write_shard
from zhen.tokenizer.load import Tokenizer


class ShardWriter:
    """Tokenises documents, in the order they are added, into shards of `folder`.

    Where a shard ends depends on the documents alone, so leading whole shards of an earlier attempt on the same
    documents stand for their part of them, which is then not tokenised again. Memory: the tokens of one shard.
    """

    def __init__(
        self,
        folder: Path,
        *,
        source: str,
        lang: str | None,
        tokenizer: Tokenizer,
        tokens_per_shard: int,
        threads: int = 1,
    ) -> None:
        self._folder = folder
        self._source = source
        self._lang = lang
        self._tokenizer = tokenizer
        self._tokens_per_shard = tokens_per_shard
        self._threads = threads
        self._pending: list[tuple[Sequence[int], int]] = []
        self._pending_tokens = 0
        self.files: dict[str, Digest | None] = {}
        """Files of the folder, with their digests (None for those kept from an earlier attempt)."""
        self.reused = 0
        """Shards kept from an earlier attempt."""
        self._known: Iterator[tuple[int, int]] = iter(self._finished())
        self._index = self.reused

    def add(self, texts: Sequence[str]) -> list[tuple[int, int]]:
        """Add documents. Returns for each its tokens (end-of-text counted) and UTF-8 bytes.

        Raises ZhenError where a shard of an earlier attempt does not belong to these documents.
        """
        counts: list[tuple[int, int]] = []
        sizes = [len(text.encode("utf-8")) for text in texts]
        # sizes first: zip then takes no known document more than there are texts
        for size, known in zip(sizes, self._known, strict=False):
            if known[1] != size:
                raise self._foreign(f"a document of {known[1]:,} bytes", f"{size:,} bytes")
            counts.append(known)
        new = len(counts)
        # one type for ids of every vocabulary: write_shard narrows them
        typecode = "H" if self._tokenizer.vocab_size <= 1 << 16 else "I"
        for ids, size in zip(self._tokenizer.encode_batch(texts[new:], self._threads), sizes[new:], strict=True):
            ids.append(self._tokenizer.end_of_text)
            counts.append((len(ids), size))
            self._pending.append((array(typecode, ids), size))
            self._pending_tokens += len(ids)
            if self._pending_tokens >= self._tokens_per_shard:
                self._flush()
        return counts

    def close(self) -> None:
        """Write what is left as the last, shorter shard. Raises ZhenError as `add` does."""
        if next(self._known, None) is not None:
            raise self._foreign("more documents than there are", "the documents of this stage")
        if self._pending:
            self._flush()

    def _foreign(self, found: str, expected: str) -> ZhenError:
        return ZhenError(
            f"shards of an earlier attempt hold {found}",
            expected=expected,
            file=self._folder,
            hint="remove this folder and run again",
        )

    def _flush(self) -> None:
        self.files |= write_shard(
            self._folder,
            self._index,
            self._pending,
            source=self._source,
            lang=self._lang,
            tokenizer=self._tokenizer.sha256,
            vocab_size=self._tokenizer.vocab_size,
        )
        self._index += 1
        self._pending = []
        self._pending_tokens = 0

    def _finished(self) -> list[tuple[int, int]]:
        """Tokens and bytes of each document in the leading whole shards."""
        documents: list[tuple[int, int]] = []
        while (path := self._folder / f"shard-{self.reused:05d}.bin").with_suffix(".json").exists():
            try:
                shard = Shard(path, self._tokenizer.sha256)
            except (ZhenError, OSError, ValueError):
                break
            documents += [(len(ids), size) for ids, size in shard.documents()]
            self.files |= {path.with_suffix(suffix).name: None for suffix in (".bin", ".idx", ".json")}
            self.reused += 1
        return documents
