"""`zhen why`: what became of a document of a run, rule by rule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zhen.cli.launch import relaunch
from zhen.cli.options import AsJson
from zhen.console import out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zhen.data.fate import Cluster, Fate, Leak, Mention

BEGINNING = 160
"""Characters of the text that are shown."""
LEAKS = 5
"""Benchmark items that are shown."""


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
    as_json: AsJson = False,
) -> None:
    """Say what became of a document of a run, and why: each rule's value against its threshold, its duplicates, what
    was left out of it.

    Example: zhen why runs/tiny 3fa2c91e
    """
    relaunch()
    import msgspec

    from zhen.cli.app import print_json
    from zhen.cli.looks import show_each
    from zhen.data.fate import fates

    found = fates(run, document)
    if as_json:
        print_json({"documents": msgspec.to_builtins(found)})
        return
    show_each(found, _show)


def _show(fate: Fate) -> None:
    from zhen.cli.looks import line, looks_table, number, others, show_changes

    title = fate.id or f"a record of {fate.file}"
    reason = f" by {fate.rule}" if fate.verdict == "dropped" else f": {fate.rule}" if fate.verdict == "lost" else ""
    against = f" ({number(fate.value)} against {number(fate.threshold)})" if fate.value is not None else ""
    line(f"{title}  {fate.verdict}{reason}{against}")
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
            line(f"{name:<9} {value}")
    if fate.rules:
        out.print()
        out.print(looks_table(fate.rules))
        line(others(fate.rules))
    if fate.cluster:
        _show_cluster(fate, fate.cluster)
    if fate.leaks:
        _show_leaks(fate.leaks)
    if fate.changes:
        out.print()
        line("written without, or otherwise than, it was read:")
        show_changes(fate.changes)


def _show_leaks(leaks: Sequence[Leak]) -> None:
    from zhen.cli.looks import line, number

    out.print()
    line("benchmark items in it:")
    for leak in leaks[:LEAKS]:
        how = "word for word" if leak.words else "asked in other words"
        line(f"  {leak.file}, item {leak.item}: {number(leak.share)} {how}")
        if leak.passage:
            line(f"    {leak.passage}")
    if len(leaks) > LEAKS:
        line(f"  … and {len(leaks) - LEAKS:,} more")


def _show_cluster(fate: Fate, cluster: Cluster) -> None:
    from zhen.cli.looks import line

    out.print()
    this = " (this one)" if cluster.kept.id == fate.id and cluster.kept.row == fate.row else ""
    line(f"one of {cluster.size:,} documents that are equal or near; kept of them is{this}")
    for each in (cluster.kept, *cluster.members):
        line(f"  {_name(each)}")
    more = cluster.size - len(cluster.members) - (1 if this else 2)
    if more > 0:
        line(f"  … and {more:,} more")


def _name(document: Mention) -> str:
    return f"{document.id}  {document.url or f'{document.unit}, row {document.row:,}'}"
