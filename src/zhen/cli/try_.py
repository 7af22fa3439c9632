"""`zhen try`: a page through all rules of a recipe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zhen.cli.launch import relaunch
from zhen.cli.options import AsJson
from zhen.console import out

if TYPE_CHECKING:
    from zhen.data.trial import Tried

MOST_SHOWN = 10
"""Documents that are printed of a file that holds more; `--json` has all."""


def command(
    recipe: Annotated[Path, typer.Argument(help="The recipe whose rules are asked.", show_default=False)],
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A page, text, WARC, JSON lines or Parquet file; - for standard input.",
            show_default=False,
        ),
    ],
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help='Change a value: --set data.rules.preset="gopher".'),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take a page alone through the rules of a recipe: text, language, each rule's value against its threshold, what
    would be put out of sight.

    Example: zhen try recipes/tiny.toml page.html
    """
    relaunch()
    import msgspec

    from zhen.cli.app import print_json
    from zhen.cli.looks import line, show_each
    from zhen.data.settings import DataSettings
    from zhen.data.trial import try_file
    from zhen.recipe import load_recipe

    loaded = load_recipe(recipe, sets or [])
    content = sys.stdin.buffer.read() if str(file) == "-" else None
    tasks = Path("runs") / loaded.run.name / "sampleweb" / "tasks"
    name = file if content is None else Path("standard-input")
    trial = try_file(loaded.data or DataSettings(), name, content, tasks if tasks.is_dir() else None)
    if as_json:
        print_json(msgspec.to_builtins(trial))
        return
    show_each(trial.documents[:MOST_SHOWN], _show)
    if len(trial.documents) > MOST_SHOWN:
        line(f"\n… and {len(trial.documents) - MOST_SHOWN:,} more documents; --json has all")
    for lost in trial.lost[:MOST_SHOWN]:
        line(f"lost at {lost['offset']:,}: {lost['reason']}")
    if len(trial.lost) > MOST_SHOWN:
        line(f"… and {len(trial.lost) - MOST_SHOWN:,} more records lost; --json has all")
    for reason, count in trial.skipped.items():
        line(f"no page: {reason} ({count:,})")
    out.print()
    for reason in trial.not_judged:
        line(f"not judged: {reason}")


def _show(document: Tried) -> None:
    from zhen.cli.looks import line, looks_table, number, others, show_changes

    line(document.text)
    out.print()
    reason = f" by {document.rule}" if document.rule else ""
    against = f" ({number(document.value)} against {number(document.threshold)})" if document.rule else ""
    line(f"{document.verdict}{reason}{against}")
    facts = [document.url, f"language {document.lang}", f"{document.characters:,} characters"]
    facts += [f"licence {document.license}", *(f"{key} {value}" for key, value in document.meta.items())]
    line(" · ".join(fact for fact in facts if fact))
    out.print()
    out.print(looks_table(document.rules))
    line(others(document.rules))
    if document.redacted:
        out.print()
        line("put out of sight: " + ", ".join(f"{count:,} {kind}" for kind, count in document.redacted.items()))
        show_changes(document.changes)
