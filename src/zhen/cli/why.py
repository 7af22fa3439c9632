"""`zhen why`: what became of a document of a run, rule by rule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zhen.cli.launch import relaunch
from zhen.console import out, visible

if TYPE_CHECKING:
    from zhen.data.fate import Cluster, Fate, Mention

BEGINNING = 160
"""Characters of the text that are shown."""

MOST_CHANGES = 10


def command(
    run: Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)],
    document: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A document's id or its first 6 hex digits or more, its address, or a file in lost.jsonl.",
            show_default=False,
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what became of a document of a run, and why: each rule's value against its threshold, its duplicates, what
    was left out of it.

    Example: zhen why runs/tiny 3fa2c91e
    """
    relaunch()
    import msgspec

    from zhen.cli.app import print_json
    from zhen.data.fate import fates

    found = fates(run, document)
    if as_json:
        print_json({"documents": msgspec.to_builtins(found)})
        return
    for number, fate in enumerate(found):
        if number:
            out.print()
        _show(fate)


def _show(fate: Fate) -> None:
    from zhen.cli.looks import looks_table, number, others

    title = fate.id or f"a record of {fate.file}"
    reason = f" by {fate.rule}" if fate.verdict == "dropped" else f": {fate.rule}" if fate.verdict == "lost" else ""
    against = f" ({number(fate.value)} against {number(fate.threshold)})" if fate.value is not None else ""
    _line(f"{title}  {fate.verdict}{reason}{against}")
    facts = {
        "address": fate.url,
        "source": fate.source,
        "file": f"{fate.file} at {fate.at}" if fate.at is not None else fate.file,
        "place": f"{fate.unit}, row {fate.row:,}" if fate.row is not None else "",
        "language": fate.lang,
        "licence": fate.license,
        "text": f"{fate.characters:,} characters" if fate.characters else "",
        "read as": ", ".join(f"{key} {value}" for key, value in fate.meta.items()),
        "begins": " ".join(fate.text[:BEGINNING].split()),
    }
    for name, value in facts.items():
        if value:
            _line(f"{name:<9} {value}")
    if fate.rules:
        out.print()
        out.print(looks_table(fate.rules))
        _line(others(fate.rules))
    if fate.cluster:
        _show_cluster(fate, fate.cluster)
    _show_changes(fate)


def _show_cluster(fate: Fate, cluster: Cluster) -> None:
    out.print()
    this = " (this one)" if cluster.kept.id == fate.id and cluster.kept.row == fate.row else ""
    _line(f"one of {cluster.size:,} documents that are equal or near; kept of them is{this}")
    for each in (cluster.kept, *cluster.members):
        _line(f"  {_name(each)}")
    more = cluster.size - len(cluster.members) - (1 if this else 2)
    if more > 0:
        _line(f"  … and {more:,} more")


def _name(document: Mention) -> str:
    return f"{document.id}  {document.url or f'{document.unit}, row {document.row:,}'}"


def _show_changes(fate: Fate) -> None:
    if not fate.changes:
        return
    out.print()
    _line("written without, or otherwise than, it was read:")
    for change in fate.changes[:MOST_CHANGES]:
        for sign, lines in (("-", change.before), ("+", change.after)):
            for line in lines:
                _line(f"  {sign} {line}")
    if len(fate.changes) > MOST_CHANGES:
        _line(f"  … and {len(fate.changes) - MOST_CHANGES:,} more places")


def _line(text: str) -> None:
    """A line as it is: no markup, nothing that a terminal would obey."""
    if text:
        out.print(visible(text), markup=False, soft_wrap=True)
