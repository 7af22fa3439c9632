"""How documents under the rules are printed: each value against its threshold, what is written otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from rich.table import Table

from zhen.console import out, table, tell

if TYPE_CHECKING:
    from zhen.data.fate import Change
    from zhen.data.looks import Look

T = TypeVar("T")

MOST_CHANGES = 10
"""Places of a document that are shown."""


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


def show_changes(changes: Sequence[Change]) -> None:
    """Print lines as they were read and as they are written."""
    for change in changes[:MOST_CHANGES]:
        for sign, lines in (("-", change.before), ("+", change.after)):
            for each in lines:
                line(f"  {sign} {each}")
    if len(changes) > MOST_CHANGES:
        line(f"  … and {len(changes) - MOST_CHANGES:,} more places")


def line(text: str) -> None:
    """Print a line as it is, if it is not empty."""
    if text:
        tell(text)


def show_each(documents: Iterable[T], show: Callable[[T], None]) -> None:
    """Show documents with an empty line between them."""
    for number, document in enumerate(documents):
        if number:
            out.print()
        show(document)
