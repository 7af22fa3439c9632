"""`zhen rename`: another naming scheme's tensor names, in a new folder or in place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from zhen.checkpoint.provenance import step_of
from zhen.checkpoint.rename import Renamed, Wanted, rename_checkpoint
from zhen.checkpoint.renaming import Witness
from zhen.checkpoint.stored import Checkpoint
from zhen.checkpoint.unknown import Losses
from zhen.cli.app import print_json
from zhen.cli.options import AsJson
from zhen.console import Line, duration, out, say, size, table, tell
from zhen.errors import ZhenError


def command(
    checkpoint: Annotated[Path, typer.Argument(help="A folder, or a .safetensors file.", show_default=False)],
    to: Annotated[str, typer.Option("--to", help="Naming scheme: llama or yi.", show_default=False)],
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Write new headers into the files; no tensor is copied.")
    ] = False,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="The new folder (default: CHECKPOINT-SCHEME).", show_default=False)
    ] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", help="OLD=NEW, N for the layer's number; may be repeated.", show_default=False),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option("--text", help="A text file by which the model may tell an unknown naming.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Don't hash the tensors before and after.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="In place, also files that have other names or links.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Give a checkpoint's tensors the names of another scheme; config and index follow, no weight changes.

    Example: zhen rename Yi-34B --to llama --in-place
    """
    wanted = Wanted(
        target=to,
        maps=[_pair(item) for item in maps or []],
        out=out_folder,
        in_place=in_place,
        verify=not no_verify,
        force=force,
        dry_run=dry_run,
        witness=_witness(text) if text else None,
    )
    line = Line("rename")
    try:
        done = rename_checkpoint(checkpoint, wanted, lambda at, total, what: line.update(at, total, "bytes", what))
    finally:
        line.abandon()
    if as_json:
        print_json(msgspec.to_builtins(done))
        return
    _show(done)


def _witness(text: Path) -> Witness:
    """The loss on a text file, under the checkpoint's own tokenizer; torch is loaded only if the naming is unknown."""

    def losses(checkpoint: Checkpoint) -> Losses:
        from zhen.checkpoint.by_loss import TextLosses
        from zhen.tokenizer.load import load_tokenizer

        try:
            documents = text.read_text(encoding="utf-8").split("\n\n")
        except (OSError, UnicodeDecodeError) as error:
            found = f"can't be read: {getattr(error, 'strerror', None) or error}"
            raise ZhenError(found, expected="a text file in UTF-8", file=text, place="--text") from error
        return TextLosses(checkpoint, load_tokenizer(checkpoint.folder), documents)

    return losses


def _pair(item: str) -> tuple[str, str]:
    old, found, new = item.partition("=")
    if not (old and found and new):
        raise ZhenError(f'"{item}"', expected="OLD=NEW", place="--map")
    return old, new


def _show(done: Renamed) -> None:
    short = step_of(done.source, done.target, done.renamed).map
    if short:
        title = f"{len(done.renamed)} tensors of {done.source}" + (" would be" if done.dry_run else "")
        out.print(table(("old name", "new name"), list(short.items()), title=title))
    for file in done.files:
        tell(f"{'to write' if done.dry_run else 'written':<10}{file}")
    for file, why in done.left_out.items():
        tell(f"{'removed' if done.in_place else 'left out':<10}{file}: {why}")
    for note in done.notes:
        say(f"note: {note}")
    if done.dry_run:
        tell(f"{done.folder}: nothing was done")
        return
    moved = "no tensor copied" if done.in_place else f"{size(done.bytes_copied)} of tensors copied"
    proof = (
        f"every tensor's SHA-256 is as before ({duration(done.seconds_of_proof)})" if done.verified else "not verified"
    )
    tell(f"{done.folder}: {moved}, {size(done.bytes_written)} written, {proof}; {duration(done.seconds)} in all")
