"""What the items come to: rows of `results.json` by model, language and source, and the stage's figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zhen.evaluate.bits_per_byte import Item, Mean, margin, mean_bits_per_byte, xz_bits_per_byte
from zhen.evaluate.held_out import Group
from zhen.formats.record import Figure
from zhen.formats.stage import Figures
from zhen.tokenizer.load import Tokenizer

DECIMALS = 6

Part = tuple[str, str | None]
"""A language, and one of its sources or None for all."""


def parts_of(groups: Sequence[Group]) -> list[Part]:
    """Every language, then its sources, by name."""
    langs = sorted({group.lang for group in groups})
    return [
        part
        for lang in langs
        for part in [(lang, None), *((lang, group.source) for group in groups if group.lang == lang)]
    ]


def bits_rows(model: str, items: Sequence[Item], parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
    """Rows of bits per byte of one model (or reference)."""
    for lang, source in parts:
        chosen = _of(items, lang, source)
        yield _row(model, lang, source, mean_bits_per_byte(chosen)) | {
            "bytes": sum(item.bytes for item in chosen),
            "tokens": sum(item.tokens for item in chosen),
        }


def xz_rows(model: str, groups: Sequence[Group], tokenizer: Tokenizer) -> Iterator[dict[str, Any]]:
    """Rows of bits per byte of `xz -9`, which has no standard error: it takes a language's texts as one file."""
    for lang, source in parts_of(groups):
        chosen = [group for group in groups if group.lang == lang and source in (None, group.source)]
        score = xz_bits_per_byte(chosen, tokenizer)
        documents = sum(len(group.documents) for group in chosen)
        yield _row(model, lang, source, Mean(score, None, documents)) | {
            "bytes": sum(sum(group.sizes) for group in chosen)
        }


def margin_rows(
    model: str, items: Sequence[Item], reference: Sequence[Item], parts: Sequence[Part]
) -> Iterator[dict[str, Any]]:
    """Rows of the per cent of bits that a model needs less than the reference."""
    for lang, source in parts:
        yield _row(model, lang, source, margin(_of(items, lang, source), _of(reference, lang, source)))


def figures_of(rows: Mapping[str, Sequence[Mapping[str, Any]]], last: str) -> Figures:
    """Figures by language: `bits_per_byte.<model>.<lang>` and `margin_over_kneser_ney.<lang>` of the model `last`."""
    figures: Figures = {}
    for row in (*rows["scores"], *rows["references"]):
        if row["source"] is None:
            figures[f"bits_per_byte.{row['model']}.{row['lang']}"] = _figure(row, "bits/byte")
    for row in rows["margins"]:
        if row["source"] is None and row["model"] == last:
            figures[f"margin_over_kneser_ney.{row['lang']}"] = _figure(row, "%")
    return figures


def _of(items: Sequence[Item], lang: str, source: str | None) -> list[Item]:
    return [item for item in items if item.lang == lang and source in (None, item.source)]


def _row(model: str, lang: str, source: str | None, mean: Mean) -> dict[str, Any]:
    return {
        "model": model,
        "lang": lang,
        "source": source,
        "score": round(mean.score, DECIMALS),
        "stderr": None if mean.stderr is None else round(mean.stderr, DECIMALS),
        "n": mean.n,
    }


def _figure(row: Mapping[str, Any], unit: str) -> Figure:
    return Figure(row["score"], unit, row["n"], row["stderr"])
