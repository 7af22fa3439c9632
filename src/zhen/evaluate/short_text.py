"""What a longer context did to short texts: held-out documents that the shorter one holds, both models, paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zhen.checkpoint.load import open_llama
from zhen.evaluate.bits_per_byte import Item, change, mean_bits_per_byte
from zhen.evaluate.results import DECIMALS
from zhen.formats.record import Figure
from zhen.formats.stage import Figures
from zhen.pages.languages import language
from zhen.pages.parts import Table, Words

BEFORE, AFTER = "pretrain", "extend"
"""The models that are compared, where both are measured."""


def read_short_text(models: Mapping[str, Path], items: Mapping[str, Sequence[Item]]) -> list[dict[str, Any]]:
    """The rows of a run's models; none where one of the two is missing."""
    if BEFORE not in models or AFTER not in models:
        return []
    return short_text_rows(items, open_llama(models[BEFORE])[0].max_position_embeddings)


def short_text_rows(items: Mapping[str, Sequence[Item]], length: int) -> list[dict[str, Any]]:
    """A row a language: bits per byte of both models on the documents that `length` tokens hold, and the change."""
    rows = []
    for lang in sorted({item.lang for item in items[BEFORE]}):
        # one token stands before the text
        pairs = [
            (before, after)
            for before, after in zip(items[BEFORE], items[AFTER], strict=True)
            if before.lang == lang and before.tokens < length
        ]
        if not pairs:
            continue
        first, second = [before for before, _ in pairs], [after for _, after in pairs]
        means = {BEFORE: mean_bits_per_byte(first), AFTER: mean_bits_per_byte(second), "change": change(first, second)}
        row: dict[str, Any] = {"lang": lang, "tokens": length, "n": len(pairs)}
        for name, mean in means.items():
            row[name] = round(mean.score, DECIMALS)
            row[f"{name}_stderr"] = None if mean.stderr is None else round(mean.stderr, DECIMALS)
        rows.append(row)
    return rows


def short_text_figures(rows: Sequence[Mapping[str, Any]]) -> Figures:
    """`short_text_change.<lang>`: by how much the loss on short texts rose, with its paired standard error."""
    return {
        f"short_text_change.{row['lang']}": Figure(row["change"], "bits/byte", row["n"], row["change_stderr"])
        for row in rows
    }


def short_text_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows for a page."""
    columns = [
        Words("language", "语言"),
        Words("documents", "文档数"),
        Words("up to, tokens", "至多词元数"),
        Words("before, bits a byte", "扩展前，比特每字节"),
        Words("after", "扩展后"),
        Words("change", "变化"),
    ]
    return Table(
        columns,
        [
            (
                language(row["lang"]),
                f"{row['n']:,}",
                f"{row['tokens']:,}",
                *(_with_error(row, name) for name in (BEFORE, AFTER)),
                _with_error(row, "change", "+"),
            )
            for row in rows
        ],
    )


def _with_error(row: Mapping[str, Any], name: str, sign: str = "") -> str:
    error = row[f"{name}_stderr"]
    return f"{row[name]:{sign}.4f}" + ("" if error is None else f" ± {error:.4f}")
