"""`zhen ablate`: a grid of small runs over common data, their table and verdict."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zhen.cli.launch import cores, relaunch
from zhen.cli.options import Bring
from zhen.errors import DONE

if TYPE_CHECKING:
    from zhen.ablate.points import Source


def command(
    recipe: Annotated[Path, typer.Argument(help="A recipe with a section [ablate].", show_default=False)],
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value at all points: --set ablate.seeds=[1,2]."),
    ] = None,
    data: Bring = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="runs/<name> by default.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the runs and their state, and do nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> int:
    """Train a recipe at several settings and seeds, and say which is better, by how much, how surely.

    Data, tokenizer and shards are made once. What was stopped goes on with the same command.

    Example: zhen ablate recipes/ablate/heads.toml --data FOLDER
    """
    relaunch()
    from zhen.ablate.points import Source

    source = Source(recipe, sets or [], data or [])
    folder = out or Path("runs") / source.recipe.run.name
    if dry_run:
        return _show_plan(source, folder)
    return _run(source, folder, as_json)


def _show_plan(source: Source, folder: Path) -> int:
    from zhen.ablate.grid import Grid
    from zhen.ablate.run import checked_points
    from zhen.ablate.words import changes
    from zhen.console import err, out, table

    planned = list(Grid(folder, [], cores()).plan(checked_points(source)))
    rows = [(point.name, str(seed), state, changes(point.set)) for point, seed, state, _ in planned]
    out.print(table(("point", "seed", "state", "what it sets"), rows, title=f"{len(rows)} runs in {folder}"))
    for text in dict.fromkeys(line for *_, missing in planned if missing is not None for line in missing.lines()):
        err.print(text, markup=False, soft_wrap=True)
    return DONE


def _run(source: Source, folder: Path, as_json: bool) -> int:
    from zhen.ablate.page import HTML, table_of, verdicts
    from zhen.ablate.run import RESULT, run_ablation
    from zhen.cli.app import print_json
    from zhen.console import out, say, table

    words = ["zhen", *(word.encode("utf-8", "backslashreplace").decode() for word in sys.argv[1:])]
    ablation = run_ablation(source, folder, words, cores())
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(ablation))
        return DONE
    columns, rows = table_of(ablation)
    out.print(table(columns, rows, title=f"{ablation.name}, {len(ablation.seeds)} seeds"))
    for _, text in verdicts(ablation):
        out.print(text, soft_wrap=True, markup=False)
    say(f"{folder}: {RESULT}, {HTML}")
    return DONE
