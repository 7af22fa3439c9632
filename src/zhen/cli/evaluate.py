"""`zhen evaluate`: checkpoints on benchmarks, each score with its items; results made again, and compared."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from zhen.cli.launch import relaunch
from zhen.cli.options import AsJson
from zhen.errors import ZhenError, missing_extra

if TYPE_CHECKING:
    from zhen.evaluate.harness.result import Loaded, Options

DATA = "ZHEN_EVAL_DATA"

Checkpoints = Annotated[
    list[Path] | None, typer.Argument(help="Checkpoints' folders; several are compared.", show_default=False)
]
Tasks = Annotated[
    str, typer.Option(help="Tasks, suites (open-llm-v1, yi-eight) or .yaml files, with commas; task@N: N shots.")
]
Data = Annotated[
    Path | None, typer.Option(help=f"The folder of benchmark files; by default {DATA}.", show_default=False)
]
Limit = Annotated[int | None, typer.Option(min=1, help="So many items of each task, spread evenly.")]
Shots = Annotated[int | None, typer.Option(min=0, help="Examples, instead of each task's own number.")]
ShotSeed = Annotated[int, typer.Option(help="Of the choice of examples, and of keys in long texts.")]
Lengths = Annotated[
    str | None, typer.Option(help="Tokens of long texts, with commas.", show_default="up to the longest context")
]
Start = Annotated[Literal["none", "add"], typer.Option(help="A start token before every prompt?")]
Template = Annotated[bool, typer.Option("--template", help="Put prompts in the chat template.")]
Dtype = Annotated[str | None, typer.Option(help="float32 or bfloat16; by default as for `generate`.")]
Batch = Annotated[int, typer.Option(min=1, help="Sequences at a time.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the result.", show_default="runs/evaluate/<key>")]
SkipMissing = Annotated[bool, typer.Option("--skip-missing", help="Leave out tasks whose files are not there.")]
Shards = Annotated[
    Path | None,
    typer.Option(
        help="A run's shards, in which questions are looked for.",
        show_default="those of a checkpoint's own run up to 100 M tokens",
    ),
]
Reproduce = Annotated[
    Path | None, typer.Option(help="Make this result again and compare item by item.", show_default=False)
]
Diff = Annotated[
    tuple[Path, Path] | None, typer.Option(help="Name what differs between two results.", show_default=False)
]


def command(
    checkpoints: Checkpoints = None,
    tasks: Tasks = "",
    data: Data = None,
    limit: Limit = None,
    shots: Shots = None,
    shot_seed: ShotSeed = 1234,
    lengths: Lengths = None,
    bos: Start = "none",
    template: Template = False,
    dtype: Dtype = None,
    batch: Batch = 32,
    out: Out = None,
    skip_missing: SkipMissing = False,
    shards: Shards = None,
    reproduce: Reproduce = None,
    diff: Diff = None,
    as_json: AsJson = False,
) -> int:
    """Score checkpoints on benchmarks, from local files alone, item by item.

    Exit status 1 where --reproduce or --diff finds differences.

    Example: zhen evaluate runs/tiny/release --tasks mmlu,cmmlu --data benchmarks --limit 100
    """
    relaunch()
    _needs_harness()
    from zhen.cli import evaluated
    from zhen.evaluate.harness.result import Options, load_result

    if diff:
        return evaluated.show_differences(*(load_result(path) for path in diff), as_json=as_json)
    if reproduce:
        return _again(load_result(reproduce), checkpoints, data, out, as_json)
    if not checkpoints or not tasks:
        raise ZhenError("no checkpoint or no --tasks", expected="both", hint="zhen evaluate --help")
    from zhen.evaluate.harness.own import expand, suites

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    options = Options(
        tasks=expand(names),
        suites=[name for name in names if name in suites()],
        data=_folder_of_data(data, names),
        limit=limit,
        shots=shots,
        shot_seed=shot_seed,
        bos=bos,
        template=template,
        dtype=dtype,
        batch=batch,
        shards=str(shards.resolve()) if shards else None,
        lengths=_numbers(lengths) if lengths else None,
    )
    return evaluated.show(load_result(_evaluate(checkpoints, options, out, skip_missing)), as_json)


def _again(before: Loaded, checkpoints: list[Path] | None, data: Path | None, out: Path | None, as_json: bool) -> int:
    """Make a result again, and print what differs; checkpoints and data may lie elsewhere now."""
    import msgspec

    from zhen.cli import evaluated
    from zhen.evaluate.harness.result import load_result

    options = before.result.options
    if checkpoints is None:
        checkpoints = [Path(each.checkpoint) for each in before.result.models.values()]
    if data:
        options = msgspec.structs.replace(options, data=str(data.resolve()))
    folder = _evaluate(checkpoints, options, out or before.path.parent / "again", skip_missing=True)
    return evaluated.show_differences(before, load_result(folder), as_json=as_json, again=True)


def _folder_of_data(given: Path | None, names: list[str]) -> str:
    """Where benchmark files are; tasks that make their own need none."""
    from zhen.evaluate.settings import LONG_CONTEXT

    folder = str(given or os.environ.get(DATA, ""))
    if not folder and not set(names) <= set(LONG_CONTEXT):
        raise ZhenError("no folder of benchmark files", expected=f"--data FOLDER or {DATA}", hint="docs/benchmarks.md")
    return str(Path(folder).resolve()) if folder else ""


def _numbers(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise ZhenError(f"--lengths {text}", expected="numbers of tokens with commas, as in 512,1024,2048")
    return [int(word) for word in words]


def _needs_harness() -> None:
    import importlib.util

    for module, package in (("lm_eval", "lm-eval"), ("torch", "torch")):
        if importlib.util.find_spec(module) is None:
            raise missing_extra(package, "eval", "`zhen evaluate`")


def _evaluate(checkpoints: list[Path], options: Options, out: Path | None, skip_missing: bool) -> Path:
    from zhen.console import Line, say
    from zhen.evaluate.harness.evaluation import evaluate_checkpoints
    from zhen.evaluate.harness.result_page import write_page

    line = Line("evaluate")
    words = ["zhen", *sys.argv[1:]]
    try:
        folder = evaluate_checkpoints(
            checkpoints,
            options,
            out,
            words,
            skip_missing,
            lambda done, total, facts: line.update(done, total, "requests" if total else "tokens", facts),
        )
    finally:
        line.abandon()
    write_page(folder)
    say(f"{folder}: results.json, items.jsonl, results.html")
    return folder
