"""How well a model predicts held-out documents while it is trained: bits per byte by language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from zhen.formats.shard import Shard, open_shards
from zhen.model.likelihood import bits_per_byte, rolling_windows, token_logprobs
from zhen.model.transformer import Transformer
from zhen.train.kernel import precision
from zhen.train.parallel import measuring

_TOKENS_AT_ONCE = 4096


class Document(NamedTuple):
    """A held-out document: the ids of its text, without the end of text, and the bytes of that text."""

    ids: list[int]
    text_bytes: int


class Rows(NamedTuple):
    """Windows of equal use that pass through the model at once. n windows of at most s tokens, padded at the end."""

    tokens: Tensor
    """int64[n, s]."""
    scored: Tensor
    """bool[n, s-1]: whether the prediction of tokens[:, 1:] counts."""
    language: Tensor
    """int64[n]: its number."""


def open_held_out(folder: Path, tokenizer: str | None) -> dict[str, list[Shard]]:
    """The shards below `folder` (`<source>.<lang>/`) by language, in the order of their names; {} where none are."""
    by_language: dict[str, list[Shard]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        for shard in open_shards(path, tokenizer):
            by_language.setdefault(shard.header.lang or "und", []).append(shard)
    return dict(sorted(by_language.items()))


def choose_documents(shards: Sequence[Shard], text_bytes: int) -> list[Document]:
    """Documents of `text_bytes` of text in all at most, an equal part from each shard, the first that fit.

    Where none fits, the first document that holds text.
    """
    chosen: list[Document] = []
    for shard in shards:
        left = text_bytes // len(shards)
        for document in documents_of(shard):
            if document.text_bytes <= left:
                chosen.append(document)
                left -= document.text_bytes
            if left * len(shards) < text_bytes // 100:
                break
    if not chosen:
        chosen = [document for shard in shards for document in documents_of(shard)][:1]
    return chosen


def documents_of(shard: Shard) -> Iterator[Document]:
    """The shard's documents that hold text."""
    for tokens, size in shard.documents():
        if size and tokens.size > 1:
            yield Document(tokens[:-1].tolist(), size)


class HeldOut:
    """Chosen held-out documents, cut into windows once, measured as often as asked."""

    def __init__(
        self, documents: dict[str, list[Document]], *, context_length: int, end_of_text: int, device: torch.device
    ) -> None:
        """`documents` by language; each is scored in windows of `context_length`, the first behind `end_of_text`."""
        self.bytes = {lang: sum(document.text_bytes for document in found) for lang, found in documents.items()}
        windows: list[tuple[list[int], int, int]] = []
        for number, found in enumerate(documents.values()):
            for document in found:
                ids = [end_of_text, *document.ids]
                for begin, first, end in rolling_windows(ids, context_length, context_length):
                    windows.append((ids[begin:end], first - begin, number))
        windows.sort(key=lambda window: -len(window[0]))
        self._batches = list(_batches(windows, end_of_text, device))

    @torch.no_grad()
    def measure(self, model: Transformer, dtype: torch.dtype) -> dict[str, float]:
        """Bits per byte by language, in windows without overlap (`model/likelihood.py` has the convention)."""
        sums = torch.zeros(len(self.bytes), dtype=torch.float64)
        for rows in self._batches:
            with measuring(model), precision(rows.tokens.device, dtype, rows.scored.shape[1]):
                logprobs = token_logprobs(model, rows.tokens)
            per_row = -(logprobs.double() * rows.scored).sum(dim=1)
            for language, nats in zip(rows.language.tolist(), per_row.tolist(), strict=True):
                sums[language] += nats
        return {lang: bits_per_byte(float(nats), self.bytes[lang]) for lang, nats in zip(self.bytes, sums, strict=True)}


def _batches(windows: Sequence[tuple[list[int], int, int]], padding: int, device: torch.device) -> Iterator[Rows]:
    """Windows (ids, first scored, language), longest first, in batches of about _TOKENS_AT_ONCE tokens."""
    at = 0
    while at < len(windows):
        width = len(windows[at][0])
        part = windows[at : at + max(1, _TOKENS_AT_ONCE // width)]
        at += len(part)
        tokens = torch.full((len(part), width), padding, dtype=torch.int64)
        scored = torch.zeros((len(part), width - 1), dtype=torch.bool)
        for row, (ids, first, _) in enumerate(part):
            tokens[row, : len(ids)] = torch.tensor(ids)
            scored[row, first - 1 : len(ids) - 1] = True
        yield Rows(tokens.to(device), scored.to(device), torch.tensor([language for _, _, language in part]))
