"""`zhen inspect`: what a checkpoint is, in milliseconds and without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from zhen.checkpoint.inspect import describe
from zhen.cli.app import print_json
from zhen.cli.inspected import screen, tree
from zhen.cli.options import AsJson
from zhen.console import out


def command(
    checkpoint: Annotated[
        Path,
        typer.Argument(help="A folder, a file of weights, an index, a config, or org/name.", show_default=False),
    ],
    tensors: Annotated[bool, typer.Option("--tensors", help="List the tensors as a tree; equal layers once.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a checkpoint is: family, naming, shape, parameters, memory to serve.

    Only headers are read, no code that came with it runs, nothing is downloaded: org/name is looked up in the local
    cache of the hub's client.

    Example: zhen inspect runs/tiny/release
    """
    summary, stored = describe(checkpoint)
    if as_json:
        values = msgspec.to_builtins(summary)
        print_json(values | {"stored": msgspec.to_builtins(stored)} if tensors else values)
        return
    out.print(tree(str(checkpoint), stored) if tensors else screen(str(checkpoint), summary))
