"""Arguments and options that several verbs have in common, so that each is worded once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Bring = Annotated[
    list[str] | None, typer.Option(metavar="FOLDER", help="Bring data: a source in place of the recipe's.")
]
Checkpoint = Annotated[Path, typer.Argument(help="A checkpoint's folder.", show_default=False)]
Dtype = Annotated[
    str | None, typer.Option(help="float32 or bfloat16; by default as stored, small models on a CPU in float32.")
]
Recipe = Annotated[Path, typer.Argument(help="The recipe, a TOML file; recipes/ has some.", show_default=False)]
Seed = Annotated[int, typer.Option(help="Of the choice.")]
