"""`zhen evaluate`: checkpoints on benchmarks, each score with its items; results made again, and compared."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from zhen.cli.launch import relaunch

if TYPE_CHECKING:
    from zhen.evaluate.harness.result import Options

DATA = "ZHEN_EVAL_DATA"


def command(
    checkpoints: Annotated[
        list[Path] | None, typer.Argument(help="Checkpoints' folders; several are compared.", show_default=False)
    ] = None,
    tasks: Annotated[
        str, typer.Option(help="Tasks, suites (open-llm-v1, yi-eight) or .yaml files, with commas; task@N: N shots.")
    ] = "",
    data: Annotated[
        Path | None, typer.Option(help=f"The folder of benchmark files; by default {DATA}.", show_default=False)
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many items of each task, spread evenly.")] = None,
    shots: Annotated[int | None, typer.Option(min=0, help="Examples, instead of each task's own number.")] = None,
    shot_seed: Annotated[int, typer.Option(help="Of the choice of examples, and of keys in long texts.")] = 1234,
    lengths: Annotated[
        str | None,
        typer.Option(help="Tokens of long texts, with commas.", show_default="up to the longest context"),
    ] = None,
    bos: Annotated[Literal["none", "add"], typer.Option(help="A start token before every prompt?")] = "none",
    template: Annotated[bool, typer.Option("--template", help="Put prompts in the chat template.")] = False,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16; by default as for `generate`.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Sequences at a time.")] = 32,
    out: Annotated[Path | None, typer.Option(help="Folder of the result.", show_default="runs/evaluate/<key>")] = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out tasks whose files are not there.")
    ] = False,
    shards: Annotated[
        Path | None,
        typer.Option(
            help="A run's shards, in which questions are looked for.",
            show_default="those of a checkpoint's own run up to 100 M tokens",
        ),
    ] = None,
    reproduce: Annotated[
        Path | None, typer.Option(help="Make this result again and compare item by item.", show_default=False)
    ] = None,
    diff: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Name what differs between two results.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Score checkpoints on benchmarks, from local files alone, item by item.

    Exit status 1 where --reproduce or --diff finds differences.

    Example: zhen evaluate runs/tiny/release --tasks mmlu,cmmlu --data benchmarks --limit 100
    """
    from zhen.errors import ZhenError

    relaunch()
    _needs_harness()
    from zhen.cli import evaluated
    from zhen.evaluate.harness.result import Options, load_result

    if diff:
        return evaluated.show_differences(*(load_result(path) for path in diff), as_json=as_json)
    if reproduce:
        before = load_result(reproduce)
        options = before.result.options
        if checkpoints is None:
            checkpoints = [Path(each.checkpoint) for each in before.result.models.values()]
        if data:
            options = _with_data(options, data)
        folder = _evaluate(checkpoints, options, out or before.path.parent / "again", skip_missing=True)
        return evaluated.show_differences(before, load_result(folder), as_json=as_json, again=True)
    if not checkpoints or not tasks:
        raise ZhenError("no checkpoint or no --tasks", expected="both", hint="zhen evaluate --help")
    from zhen.evaluate.harness.own import expand, suites
    from zhen.evaluate.settings import LONG_CONTEXT

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    folder_of_data = str(data or os.environ.get(DATA, ""))
    if not folder_of_data and not set(names) <= set(LONG_CONTEXT):
        raise ZhenError("no folder of benchmark files", expected=f"--data FOLDER or {DATA}", hint="docs/benchmarks.md")
    options = Options(
        tasks=expand(names),
        suites=[name for name in names if name in suites()],
        data=str(Path(folder_of_data).resolve()) if folder_of_data else "",
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


def _numbers(text: str) -> list[int]:
    from zhen.errors import ZhenError

    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise ZhenError(f"--lengths {text}", expected="numbers of tokens with commas, as in 512,1024,2048")
    return [int(word) for word in words]


def _needs_harness() -> None:
    import importlib.util

    from zhen.errors import missing_extra

    for module, package in (("lm_eval", "lm-eval"), ("torch", "torch")):
        if importlib.util.find_spec(module) is None:
            raise missing_extra(package, "eval", "`zhen evaluate`")


def _with_data(options: Options, data: Path) -> Options:
    import msgspec

    return msgspec.structs.replace(options, data=str(data.resolve()))


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
