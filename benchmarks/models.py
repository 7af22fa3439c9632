"""What `zhen inspect` says of published models; prints docs/results/models.md. `python benchmarks/models.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from zhen.checkpoint import names
from zhen.checkpoint.inspect import Stored, Summary, describe
from zhen.console import size

PAGE = """# Published models, inspected

`python benchmarks/models.py FOLDER` prints this page. FOLDER holds a folder a model with the config, tokenizer settings
and index that its makers published; the weights are not there, so sizes are what index and config say.

"LLaMA's" counts the tensors that have a place in LLaMA under the naming found, "constants" those that loaders compute
themselves, "no place" all others; the three make up every tensor of the index. How each naming lies in LLaMA's names:
[Names](../names.md).

| model | family | naming | tensors | LLaMA's | constants | no place | parameters | bytes | dtype |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |
"""


def row(folder: Path, summary: Summary, stored: dict[str, Stored]) -> str:
    """A model's row of the table."""
    constants = sum(1 for name in stored if names.SKIPPED.fullmatch(name))
    mapped = len(stored) - constants - len(summary.unmapped)
    counts = f"{len(stored):,} | {mapped:,} | {constants} | {len(summary.unmapped):,}"
    dtypes = ", ".join(summary.dtypes) or "not stated"
    numbers = (
        f"{summary.parameters:,} | {size(summary.bytes or 0)}" if summary.parameters else "not stated | not stated"
    )
    return f"| {folder.name} | {summary.family} | {summary.naming} | {counts} | {numbers} | {dtypes} |"


def departures(folder: Path, summary: Summary) -> list[str]:
    """What differs from LLaMA and which tensors have no place there, one line each."""
    lines = [f"### {folder.name}", ""]
    lines += [f"- {difference}" for difference in summary.differences]
    counts: dict[str, int] = {}
    for name in summary.unmapped:
        template = names.numbered(name)[0]
        counts[template] = counts.get(template, 0) + 1
    lines += [
        f"- no place: `{template}`, {count} tensor{'s' if count > 1 else ''}" for template, count in counts.items()
    ]
    return [*lines, ""]


def main() -> None:
    """Print the page."""
    found = [(folder, *describe(folder)) for folder in sorted(Path(sys.argv[1]).iterdir()) if folder.is_dir()]
    print(PAGE + "\n".join(row(*each) for each in found))
    print("\n## What differs\n")
    same = [folder.name for folder, summary, _ in found if summary.family == "llama"]
    print(f"Nothing, in {', '.join(same)}: LLaMA's architecture.\n")
    lines = [line for folder, summary, _ in found if summary.family != "llama" for line in departures(folder, summary)]
    print("\n".join(lines).rstrip())


if __name__ == "__main__":
    main()
