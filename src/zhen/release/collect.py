"""What a release is made of: the model's files, checked against their record, and cleaned copies of all records."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from zhen.audit.adapter import ADAPTER
from zhen.errors import ZhenError
from zhen.formats.files import Digest, atomic_write, sha256_file
from zhen.formats.record import Record, read_record
from zhen.formats.stage import Context

MODEL_STAGES = ("quantize", "tune", "extend", "pretrain")
"""Stages that make a model, last first; the newest one planned is released."""

CHECKPOINT = "checkpoint/"

_PIECE = 1 << 20
_PATH = re.compile(r"(?<![\w./~-])(?:file://)?/(?:[^\s/'\"=:,;|<>]+/)+(?P<last>[^\s/'\"=:,;|<>]*)")
_URL = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+]*://)(?:[^\s/@]*@)?(?P<rest>[^\s?#'\"]*)(?:[?#][^\s'\"]*)?")
_SECRET = re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[\w-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16})\b")


def all_records(after: Mapping[str, Path]) -> dict[str, Record]:
    """Stage -> record, in the order of `after`. Raises ZhenError for a stage without one."""
    records = {}
    for name, folder in after.items():
        record = read_record(folder)
        if record is None:
            raise ZhenError("no record", file=folder, hint="the stage was not finished: run its recipe again")
        records[name] = record
    return records


def model_stage(records: Mapping[str, Record]) -> str:
    """The stage whose model is released. Raises ZhenError where none made one."""
    for stage in MODEL_STAGES:
        if stage in records:
            return stage
    raise ZhenError("no stage made a model", expected="one of " + ", ".join(reversed(MODEL_STAGES)))


def copy_model(context: Context, stage: str, record: Record) -> Iterator[tuple[str, Digest]]:
    """Copy the checkpoint of a stage, and its adapter where it has one, into the release; yields name and digest.

    A copy from an attempt that was stopped is kept where it is the recorded one. Raises ZhenError where the source
    is not the recorded one any more, or there is no checkpoint.
    """
    outputs = [output for output in record.outputs if output.path.startswith(CHECKPOINT)]
    outputs += [output for output in record.outputs if output.path.startswith(ADAPTER)]
    if not any(output.path.startswith(CHECKPOINT) for output in outputs):
        raise ZhenError(f"{stage} left no checkpoint", file=context.after[stage], expected="checkpoint/config.json, …")
    total = sum(output.bytes for output in outputs)
    done = 0
    for output in sorted(outputs, key=lambda output: output.path):
        context.stop_here()
        name = output.path.removeprefix(CHECKPOINT)
        due = Digest(output.bytes, output.sha256)
        target = context.folder / name
        if not (target.is_file() and sha256_file(target) == due):
            target.parent.mkdir(parents=True, exist_ok=True)
            found = copy_file(context.after[stage] / output.path, target)
            if found != due:
                target.unlink()
                raise ZhenError(
                    f"has SHA-256 {found.sha256[:16]}",
                    expected=f"{due.sha256[:16]} by its stage's record",
                    file=context.after[stage] / output.path,
                    hint=f"remove {context.after[stage]} and run again to make it anew",
                )
        done += output.bytes
        context.line.update(done, total, "bytes", name)
        yield name, due


def copy_file(source: Path, target: Path) -> Digest:
    """Copy a file, all or nothing, hashing it on the way."""
    with source.open("rb") as read, atomic_write(target) as write:
        while piece := read.read(_PIECE):
            write.write(piece)
    return write.digest


def clean(value: Any) -> Any:
    """A copy of plain data without what belongs to one machine: folders before file names, credentials in URLs, keys.

    A path keeps its last part (`…/pages.jsonl`), a URL loses user and query.
    """
    if isinstance(value, dict):
        return {key: clean(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [clean(inner) for inner in value]
    if not isinstance(value, str):
        return value
    text = _SECRET.sub("[removed]", value)
    text = _URL.sub(lambda found: found[0] if found["scheme"] == "file://" else found["scheme"] + found["rest"], text)
    return _PATH.sub(lambda found: "…/" + found["last"], text)


def clean_record(record: Record) -> dict[str, Any]:
    """A record as it is released."""
    made: dict[str, Any] = clean(msgspec.to_builtins(record))
    return made
