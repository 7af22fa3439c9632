"""`zhen audit`: a checkpoint's files, names, code and claims, finding by finding."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from zhen.audit.checks import audit_checkpoint
from zhen.cli.app import print_json
from zhen.cli.options import AsJson
from zhen.console import err, out
from zhen.errors import ANSWER_IS_NO, DONE


def command(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint's or a release's folder.", show_default=False)],
    as_json: AsJson = False,
    sarif: Annotated[bool, typer.Option("--sarif", help="Print SARIF 2.1.0.")] = False,
    fail_on: Annotated[
        Literal["error", "warning"], typer.Option(help="The mildest finding that makes the exit status 1.")
    ] = "error",
) -> int:
    """Check a checkpoint's files, names, code and claims.

    Exit status 1 when a claim of at least the severity `--fail-on` does not hold.

    Example: zhen audit runs/tiny/release
    """
    report = audit_checkpoint(checkpoint)
    if sarif:
        print_json(report.to_sarif())
    elif as_json:
        print_json(msgspec.to_builtins({"findings": report.findings, "passed": report.passed}))
    else:
        out.print(report.table())
        err.print(report.sentence(), markup=False)
    return ANSWER_IS_NO if report.fails(fail_on) else DONE
