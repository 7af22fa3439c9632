"""`zhen quantize`: a checkpoint in 8 or 4 bits, with the error of every layer."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from zhen.cli.launch import relaunch
from zhen.cli.options import AsJson, Checkpoint
from zhen.errors import ZhenError

if TYPE_CHECKING:
    from zhen.quantize.settings import QuantizeSettings
    from zhen.quantize.write import Quantised


Method = Annotated[
    Literal["rtn", "gptq"] | None,
    typer.Option(help="Rounding to nearest, or GPTQ.", show_default="gptq with --text, else rtn"),
]
Text = Annotated[
    Path | None,
    typer.Option(help="Calibration text: a run's data/kept, .jsonl, .txt; a folder or file.", show_default=False),
]
OutFolder = Annotated[
    Path | None, typer.Option("--out", help="The new folder (default: CHECKPOINT-intB).", show_default=False)
]


def command(
    checkpoint: Checkpoint,
    bits: Annotated[Literal["8", "4"], typer.Option(help="Of a weight in the layers.")] = "4",
    group: Annotated[int, typer.Option(min=8, help="Weights that share a scale.")] = 128,
    method: Method = None,
    text: Text = None,
    head_bits: Annotated[Literal["16", "8"], typer.Option(help="Of the head.")] = "16",
    embedding_bits: Annotated[Literal["16", "8"], typer.Option(help="Of the embedding.")] = "16",
    tokens: Annotated[int, typer.Option(min=1, help="Of calibration text.")] = 262_144,
    out_folder: OutFolder = None,
    as_json: AsJson = False,
) -> None:
    """Write a checkpoint's weights in 8 or 4 bits, as compressed-tensors; a layer at a time.

    Stopped, the same command goes on from the last finished layer.

    Example: zhen quantize runs/tiny/release --bits 4 --text runs/tiny/data/kept
    """
    relaunch()
    from zhen.cli.app import print_json
    from zhen.console import Line
    from zhen.formats.record import utc_now
    from zhen.quantize.settings import QuantizeSettings
    from zhen.quantize.stage import last_word
    from zhen.quantize.write import quantise_checkpoint

    final = _new_folder(out_folder or checkpoint.with_name(f"{checkpoint.resolve().name}-int{bits}"))
    settings = QuantizeSettings(
        bits=8 if bits == "8" else 4,
        group=group,
        method=method or ("gptq" if text else "rtn"),
        head_bits=8 if head_bits == "8" else 16,
        embedding_bits=8 if embedding_bits == "8" else 16,
        tokens=tokens,
    )
    line = Line("quantize")
    started, clock = utc_now(), time.monotonic()
    try:
        made = quantise_checkpoint(
            checkpoint,
            final,
            final.with_name(f".{final.name}-parts"),
            settings,
            text,
            lambda done, total, facts: line.update(done, total, "matrices", facts),
        )
    except BaseException:
        line.abandon()
        raise
    line.close(f"{last_word(made)}; {final}")
    _leave_record(final, checkpoint, settings, made, started, round(time.monotonic() - clock, 3))
    if as_json:
        import msgspec

        print_json({"folder": str(final), **msgspec.to_builtins(made)})
    else:
        _show(made)


def _new_folder(folder: Path) -> Path:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ZhenError("is there already", expected="a new folder", file=folder, hint="name another with --out")
    return folder


def _show(made: Quantised) -> None:
    """A row a layer: the errors of its matrices, and of its outputs."""
    from zhen.console import out, table

    rows = []
    for layer in made.layers:
        weights = [matrix.weight_error for matrix in layer.matrices]
        outputs = [matrix.output_error for matrix in layer.matrices if matrix.output_error is not None]
        rows.append(
            (
                "outside" if layer.layer < 0 else str(layer.layer),
                f"{sum(weights) / len(weights):.2%}",
                f"{sum(outputs) / len(outputs):.2%}" if outputs else "",
                f"{layer.output_error:.2%}" if layer.output_error is not None else "",
            )
        )
    out.print(table(("layer", "weights", "their products", "the layer"), rows, title="relative errors"))


def _leave_record(
    folder: Path, checkpoint: Path, settings: QuantizeSettings, made: Quantised, started: str, seconds: float
) -> None:
    import msgspec

    from zhen.formats.files import sha256_file
    from zhen.formats.record import (
        VERB_RECORD,
        Input,
        Output,
        Record,
        key_of,
        library_versions,
        this_host,
        write_record,
    )
    from zhen.quantize.stage import figures_of

    files = [path for path in sorted(checkpoint.glob("*")) if path.suffix in (".safetensors", ".bin", ".gguf")]
    inputs = [Input(path.name, path.stat().st_size, revision=f"mtime {path.stat().st_mtime_ns}") for path in files]
    outputs = [Output(path.name, *sha256_file(path), "result") for path in sorted(folder.iterdir())]
    record = Record(
        stage="quantize",
        version=2,
        key=key_of({"settings": settings, "text": made.text, "inputs": inputs}),
        sections={"quantize": msgspec.to_builtins(settings)},
        after={},
        inputs=inputs,
        outputs=outputs,
        command=["zhen", *sys.argv[1:]],
        versions=library_versions(),
        host=this_host(),
        started=started,
        seconds=seconds,
        resumed=0,
        figures=figures_of(made),
    )
    write_record(folder, record, VERB_RECORD)
