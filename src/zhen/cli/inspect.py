"""`zhen inspect`: what a checkpoint is, in milliseconds and without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from zhen.checkpoint.inspect import inspect_checkpoint
from zhen.cli.app import print_json
from zhen.console import amount, out, size, table


def command(
    checkpoint: Annotated[Path, typer.Argument(help="A folder, a .safetensors file or an index.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what a checkpoint is: family, naming, shape, parameters.

    Example: zhen inspect runs/tiny/release
    """
    summary = inspect_checkpoint(checkpoint)
    values = msgspec.to_builtins(summary)
    if as_json:
        print_json(values)
        return
    rows = []
    for name, value in values.items():
        if name in ("bytes", "kv_bytes_per_token") and value is not None:
            shown = size(value)
        elif isinstance(value, dict):
            shown = ", ".join(f"{key} {amount(item) if isinstance(item, int) else item}" for key, item in value.items())
        elif isinstance(value, list):
            shown = ", ".join(map(str, value)) or "none"
        elif isinstance(value, bool):
            shown = "yes" if value else "no"
        else:
            shown = amount(value) if isinstance(value, int) else str(value) if value is not None else "not stated"
        rows.append((name.replace("_", " "), shown))
    out.print(table((str(checkpoint), ""), rows))
