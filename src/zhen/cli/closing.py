"""What `zhen run` prints at the end: the closing table, two samples, what to do next."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from rich.text import Text

from zhen.console import err, say, table, visible
from zhen.errors import ANSWER_IS_NO, DONE
from zhen.formats.record import Record
from zhen.release.report import samples, summary_rows, write_report
from zhen.run import records_of


def finish(folder: Path, records: Mapping[str, Record]) -> int:
    """Write the report, print the closing table, samples and next commands; returns the exit status."""
    stages = {name: at for name, (at, _) in records_of(folder).items() if name in records}
    write_report(folder, records, stages)
    err.print()
    err.print(table(("", ""), summary_rows(records, stages)))
    err.print()
    for lang, prompt, text in samples(stages):
        sample = Text.assemble((lang, "bold"), "  ", (_plain(prompt), "dim"), _plain(text))
        err.print(sample, soft_wrap=not err.is_terminal)
    err.print()
    release = shlex.quote(str(folder / "release"))
    steps = (
        (f"zhen chat {release}", "questions of your own"),
        (f"zhen generate {release} --prompt '…'", "a text of your own"),
        (f"zhen audit {release}", "what the audit checked"),
        (f"open {shlex.quote(str(folder / 'report.html'))}", "the whole story, each number with its command"),
    )
    width = max(len(command) for command, _ in steps)
    say("Next:")
    for command, why in steps:
        say(f"  {command:<{width}}   {why}")
    passed = records["release"].figures["audit_passed"].value
    return DONE if passed else ANSWER_IS_NO


def _plain(text: str) -> str:
    """Text of a model on one line, with nothing in it that a terminal would obey."""
    return visible(re.sub(r"\s+", " ", text))
