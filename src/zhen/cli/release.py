"""`zhen release`: a release of a renamed checkpoint, from its record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from zhen.cli.app import print_json
from zhen.cli.options import AsJson
from zhen.console import Line, err, out, say
from zhen.errors import ANSWER_IS_NO, DONE
from zhen.release.renamed import release_renamed


def command(
    folder: Annotated[Path, typer.Argument(help="A checkpoint that `zhen rename` made.", show_default=False)],
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="The new folder (default: FOLDER-release).", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What the card calls it (default: the folder's name).")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Make a release of somebody's checkpoint that was renamed: card, licence, hashes, audit. A run makes its own.

    Exit status 1 when the audit does not pass.

    Example: zhen release Yi-34B-llama
    """
    folder = folder.absolute()
    target = (out_folder or folder.with_name(f"{folder.name}-release")).absolute()
    line = Line("release")
    try:
        audit = release_renamed(
            folder, target, name or folder.name, lambda done, total, what: line.update(done, total, "bytes", what)
        )
    finally:
        line.abandon()
    if as_json:
        values = {"folder": str(target), "findings": audit.findings, "passed": audit.passed}
        print_json(msgspec.to_builtins(values))
    else:
        out.print(audit.table())
        err.print(audit.sentence(), markup=False)
        say(f"release   {target}")
    return DONE if audit.passed else ANSWER_IS_NO
