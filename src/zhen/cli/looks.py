"""How a rule's value against its threshold is printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from zhen.console import table

if TYPE_CHECKING:
    from zhen.data.looks import Look


def looks_table(looks: Sequence[Look]) -> Table:
    """The rules in force for a document, those that would remove it marked."""
    rows = [
        (
            look.rule,
            number(look.value),
            f"{'at least' if look.direction == 'min' else 'at most'} {number(look.threshold)}",
            look.unit,
            "kept" if look.kept else "DROPPED",
        )
        for look in looks
        if look.threshold is not None
    ]
    return table(("rule", "value", "threshold", "unit", "verdict"), rows)


def others(looks: Sequence[Look]) -> str:
    """A sentence about the rules that are not in force."""
    count = sum(look.threshold is None for look in looks)
    return f"{count} more rules have no threshold here; --json shows their values" if count else ""


def number(value: float | None) -> str:
    """A value as a person compares it."""
    if value is None:
        return "not measured"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"
