"""`zhen convert`: a LLaMA checkpoint in another format, layout or dtype."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from zhen.checkpoint.convert import SHARD_BYTES, Converted, Wanted, convert_checkpoint
from zhen.cli.app import print_json
from zhen.cli.options import AsJson
from zhen.console import Line, amount, duration, say, size, tell, visible


def command(
    checkpoint: Annotated[
        Path,
        typer.Argument(help="A folder, an index, or a .safetensors, .bin, .pth or .gguf file.", show_default=False),
    ],
    to: Annotated[
        str, typer.Option("--to", help="llama, yi, meta, gguf, phi3, internlm2 or baichuan.", show_default=False)
    ],
    out_path: Annotated[Path, typer.Option("--out", help="The new folder; for gguf the new file.", show_default=False)],
    dtype: Annotated[
        str | None,
        typer.Option(help="f32, bf16 or f16; for gguf also q8_0 (default: as it is).", show_default=False),
    ] = None,
    shard_bytes: Annotated[int, typer.Option(help="Largest safetensors file, in bytes.")] = SHARD_BYTES,
    tie: Annotated[
        bool | None,
        typer.Option("--tie/--untie", help="One matrix for embedding and head, if equal; or two.", show_default=False),
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option(help="Rows of embedding and head; new ones are zeros.", show_default=False)
    ] = None,
    model_parallel: Annotated[int, typer.Option(help="For meta: the number of parts.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a LLaMA checkpoint in another format, layout or dtype; config and tokenizer follow.

    Example: zhen convert Yi-6B --to gguf --out yi-6b.gguf --dtype q8_0
    """
    wanted = Wanted(
        target=to,
        dtype=dtype,
        shard_bytes=shard_bytes,
        tie=tie,
        vocab_size=vocab_size,
        model_parallel=model_parallel,
        dry_run=dry_run,
    )
    line = Line("convert")
    try:
        done = convert_checkpoint(checkpoint, out_path, wanted, lambda at, total: line.update(at, total, "bytes"))
    finally:
        line.abandon()
    if as_json:
        print_json(msgspec.to_builtins(done))
        return
    _show(done)


def _show(done: Converted) -> None:
    for file, count in done.files.items():
        tell(f"{size(count):>10}  {file}")
    for note in done.notes:
        say(f"note: {visible(note)}")
    dtypes = ", ".join(f"{amount(count)} {dtype}" for dtype, count in done.dtypes.items())
    would = "would be " if done.dry_run else ""
    tell(f"{done.out}: {would}{done.target} from {done.source}, {dtypes}, {size(done.bytes)}; {duration(done.seconds)}")
