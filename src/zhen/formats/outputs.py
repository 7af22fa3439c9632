"""A stage's outputs: gathered with size and hash when it ends, checked against its record afterwards."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from zhen.errors import ZhenError
from zhen.formats.files import TEMPORARY, sha256_file, write_json
from zhen.formats.record import RECORD, Output, Record, read_record
from zhen.formats.stage import Context

ATTEMPTS = ".attempts.json"
"""How often a stage was begun: in its folder while it is not done."""


def count_attempt(folder: Path) -> int:
    """Note in a stage's folder that it is begun; returns how often it was, this time included."""
    path = folder / ATTEMPTS
    try:
        before = int(json.loads(path.read_bytes())["attempts"])
    except FileNotFoundError:
        before = 0
    except (ValueError, TypeError, KeyError):
        before = 1  # torn: there was an attempt
    count = before + 1
    write_json(path, {"attempts": count})
    return count


def gather_outputs(context: Context) -> list[Output]:
    """The declared outputs with sizes and hashes. Raises ZhenError for a file that was declared or made alone."""
    made = {os.path.relpath(path, context.folder) for path in _files(context.folder)}
    if odd := sorted(made ^ set(context.outputs)):
        raise ZhenError(f"{len(odd)} files are not both made and declared, first {odd[0]}", file=context.folder)
    outputs = []
    for path, (kind, digest) in sorted(context.outputs.items()):
        digest = digest or sha256_file(context.folder / path)
        outputs.append(Output(path, digest.bytes, digest.sha256, kind))
    return outputs


def _files(folder: Path) -> Iterator[Path]:
    """Regular files below a stage's folder that are its own: no links, no temporary names, no bookkeeping."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(TEMPORARY)]
        for name in names:
            path = Path(root, name)
            if not path.is_symlink() and not name.startswith(TEMPORARY) and name not in (RECORD, ATTEMPTS):
                yield path


def check_sizes(folder: Path, record: Record) -> None:
    """Raise ZhenError unless every output of a finished stage is there with the size its record says."""
    for output in record.outputs:
        path = folder / output.path
        found = path.stat().st_size if path.is_file() else None
        if found != output.bytes:
            raise _tampered(folder, output, "is missing" if found is None else f"has {found:,} bytes")


def check_hashes(folders: Mapping[str, Path]) -> int:
    """Raise ZhenError unless every output of these stages still has the hash its record says; returns how many."""
    count = 0
    for folder in folders.values():
        record = read_record(folder)
        if record is None:
            raise ZhenError("no record", file=folder, hint="the stage was not finished: run its recipe again")
        for output in record.outputs:
            path = folder / output.path
            if not path.is_file():
                raise _tampered(folder, output, "is missing")
            digest = sha256_file(path)
            if digest != (output.bytes, output.sha256):
                raise _tampered(folder, output, f"has SHA-256 {digest.sha256[:16]}")
            count += 1
    return count


def _tampered(folder: Path, output: Output, found: str) -> ZhenError:
    return ZhenError(
        found,
        expected=f"{output.bytes:,} bytes, SHA-256 {output.sha256[:16]} by the stage's record",
        file=folder / output.path,
        hint=f"the file was changed after it was made; remove {folder} and run again to make it anew",
    )
