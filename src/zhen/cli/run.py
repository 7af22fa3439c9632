"""`zhen run`: a recipe through its stages; the plan beforehand, the closing table afterwards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from zhen.cli.launch import cores, relaunch, told_once
from zhen.cli.options import Bring, Recipe
from zhen.console import say
from zhen.errors import DONE


def command(
    recipe: Recipe,
    stages: Annotated[
        list[str] | None, typer.Argument(help="Only these stages and what they need.", show_default=False)
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value: --set pretrain.tokens=1000000."),
    ] = None,
    data: Bring = None,
    out: Annotated[Path | None, typer.Option(metavar="RUN", help="The run folder; runs/<name> by default.")] = None,
    ray: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Work on data on this Ray cluster.")] = None,
    bell: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", envvar="ZHEN_BELL", help="Run this on trouble in training."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Afterwards remove stages that the recipe lacks.")] = False,
) -> int:
    """Take a recipe through its stages, from raw pages to a checked release.

    What is done and has not changed is not done again; what was stopped goes on.

    Example: zhen run recipes/tiny.toml --set pretrain.tokens=1000000
    """
    relaunch()
    from zhen.recipe import load_recipe
    from zhen.run import Run, plan, refuse_other_folders, select

    with told_once():
        loaded = load_recipe(recipe, sets or [], data or [])
    folder = out or Path("runs") / loaded.run.name
    if dry_run:
        from zhen.cli.dryrun import show_plan

        refuse_other_folders(folder)
        return show_plan(loaded, select(plan(loaded, folder), stages or []))
    run = Run(
        loaded,
        folder,
        command=["zhen", *(word.encode("utf-8", "backslashreplace").decode() for word in sys.argv[1:])],
        workers=cores(),
        ray=ray,
        bell=bell,
    )
    records = run.take(stages or [])
    if prune:
        for path in run.prune():
            say(f"removed {path}")
    if "release" not in records:
        return DONE
    from zhen.cli.closing import finish

    return finish(folder, records)
