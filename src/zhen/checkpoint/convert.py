"""`zhen convert`: a LLaMA from one format and layout to another, tensor by tensor, so that memory stays small."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from zhen.checkpoint import consolidated, fused, gguf, names, provenance
from zhen.checkpoint.beside import Beside, beside, config_within, metadata_for
from zhen.checkpoint.cast import LARGEST, cast
from zhen.checkpoint.configs import config_of
from zhen.checkpoint.copying import building, refuse_taken
from zhen.checkpoint.journal import recover
from zhen.checkpoint.packed import packed
from zhen.checkpoint.packing import whole_views
from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.reshape import complete, resized, tied, untied
from zhen.checkpoint.safetensors import BITS
from zhen.checkpoint.stored import Checkpoint, readable
from zhen.checkpoint.targets import config_json, target_of
from zhen.checkpoint.views import Array, View, written
from zhen.checkpoint.writer import write_sharded
from zhen.errors import ZhenError, did_you_mean
from zhen.formats.files import sha256_file, write_bytes, write_json
from zhen.model.config import ModelConfig

DTYPES = {"f32": "F32", "bf16": "BF16", "f16": "F16", "q8_0": "Q8_0"}
"""Value of `--dtype` -> format of the matrices; Q8_0 is GGUF's alone."""

SHARD_BYTES = 5_000_000_000
"""Largest safetensors file, the size that hubs and file systems of every kind take."""

Report = Callable[[int, int], None]
"""Called with the bytes of tensors that were written, and of all."""


class Wanted(NamedTuple):
    """What a conversion is to do. None leaves a thing as it is."""

    target: str
    dtype: str | None = None
    """A key of DTYPES."""
    shard_bytes: int = SHARD_BYTES
    tie: bool | None = None
    vocab_size: int | None = None
    model_parallel: int = 1
    """Parts of Meta's folder."""
    dry_run: bool = False


class Converted(msgspec.Struct, frozen=True, kw_only=True):
    """What a conversion did, or would do. Its JSON keys are a contract."""

    source: str
    """Naming scheme of the source."""
    target: str
    out: str
    files: dict[str, int]
    """File written -> bytes; empty in a dry run."""
    tensors: int
    bytes: int
    """Bytes of the tensors in the target."""
    dtypes: dict[str, int]
    """Dtype -> number of tensors in the target."""
    notes: list[str]
    dry_run: bool
    seconds: float


class _Plan(NamedTuple):
    """A conversion worked out: nothing but headers and, where equality had to be known, rows was read."""

    checkpoint: Checkpoint
    naming: str
    config: ModelConfig
    original: Mapping[str, Any]
    views: list[View]
    """The target's tensors."""
    beside: Beside
    dtype: str
    """Of most matrices, in safetensors' words."""


def convert_checkpoint(path: str | Path, out: str | Path, wanted: Wanted, report: Report) -> Converted:
    """Write the LLaMA in `path` to `out` as `wanted` says: a new folder, for GGUF a new file.

    `out` appears whole or not at all. Raises ZhenError where it exists already (an empty folder may), where the source
    is not a LLaMA or damaged, and for what the target can't hold.
    """
    began = time.monotonic()
    path, out = Path(path), Path(out)
    _refuse_wrong(wanted, out)
    with readable(path):
        recover(path)
        plan = _plan(path, wanted)
        writer = {"gguf": _gguf, "meta": _meta}.get(wanted.target, _safetensors)
        notes = [*plan.checkpoint.notes, *plan.beside.notes]
        if packed(plan.checkpoint):
            notes.append("weights of few bits are unpacked, to the numbers that they stand for")
        job = writer(plan, wanted, out, notes)
        record = None if job.file else _record(plan, wanted)
    files = {} if wanted.dry_run else _written(job, out, plan, record, report)
    return Converted(
        source=plan.naming,
        target=wanted.target,
        out=str(out),
        files=files,
        tensors=sum(job.dtypes.values()),
        bytes=job.bytes,
        dtypes=job.dtypes,
        notes=notes,
        dry_run=wanted.dry_run,
        seconds=round(time.monotonic() - began, 3),
    )


def _refuse_wrong(wanted: Wanted, out: Path) -> None:
    target_of(wanted.target)
    if wanted.dtype is not None and wanted.dtype not in DTYPES:
        expected = "one of " + ", ".join(DTYPES)
        raise ZhenError(
            f'"{wanted.dtype}"', expected=expected, place="--dtype", hint=did_you_mean(wanted.dtype, DTYPES)
        )
    if wanted.dtype == "q8_0" and wanted.target != "gguf":
        raise ZhenError('"q8_0"', expected="f32, bf16 or f16, or --to gguf", place="--dtype")
    if wanted.model_parallel != 1 and wanted.target != "meta":
        raise ZhenError(f"{wanted.model_parallel}", expected="1, or --to meta", place="--model-parallel")
    for place, value in (("--model-parallel", wanted.model_parallel), ("--shard-bytes", wanted.shard_bytes)):
        if value < 1:
            raise ZhenError(f"{value}", expected="at least 1", place=place)
    if wanted.shard_bytes != SHARD_BYTES and wanted.target in ("gguf", "meta"):
        raise ZhenError(f"{wanted.shard_bytes}", expected="a target of safetensors files", place="--shard-bytes")
    refuse_taken(out, file=wanted.target == "gguf")


def _plan(path: Path, wanted: Wanted) -> _Plan:
    checkpoint = open_checkpoint(path)
    whole = whole_views(checkpoint)
    naming = names.detect(whole)
    if naming == names.UNKNOWN:
        hint = f"zhen rename {path} --to llama finds out what they stand for, or can be told"
        raise ZhenError("tensor names of no known scheme", expected="LLaMA's tensors", file=path, hint=hint)
    follow = beside(checkpoint)
    original = config_within(checkpoint, follow.metadata)
    if checkpoint.kind == "gguf" and original.get("model_type") != "llama":
        raise ZhenError(f"architecture {original.get('model_type')!r}", expected="llama", file=checkpoint.files[0])
    config = config_of(original, naming, _said_in(checkpoint))
    found = complete(fused.to_llama(whole, naming, config), config, checkpoint.folder)
    if wanted.tie is not None:
        found, config = (tied if wanted.tie else untied)(found, config)
    if wanted.vocab_size is not None:
        found, config = resized(found, config, wanted.vocab_size)
    if wanted.dtype is not None and wanted.target != "gguf":
        found = {name: cast(view, DTYPES[wanted.dtype]) for name, view in found.items()}
    _refuse_others(found)
    matrices = Counter(view.dtype for view in found.values() if len(view.shape) > 1)
    laid_out = fused.from_llama(found, wanted.target, config)
    return _Plan(checkpoint, naming, config, original, laid_out, follow, matrices.most_common(1)[0][0])


def _refuse_others(found: Mapping[str, View]) -> None:
    """Raises ZhenError for weights that aren't plain numbers: whole ones, scaled ones, double ones."""
    for view in found.values():
        if view.dtype not in LARGEST:
            hint = "--dtype f32 casts it" if view.dtype == "F64" else None
            expected = "one of " + ", ".join(LARGEST)
            raise ZhenError(f"dtype {view.dtype}", expected=expected, place=f"tensor {view.name!r}", hint=hint)


def _said_in(checkpoint: Checkpoint) -> Path:
    """The file that says what the model is."""
    if checkpoint.kind == "gguf":
        return checkpoint.files[0]
    params = checkpoint.kind == "consolidated" and not (checkpoint.folder / "config.json").exists()
    return checkpoint.folder / (consolidated.PARAMS if params else "config.json")


class _Job(NamedTuple):
    """What is to be written: `write` puts it into an empty folder, told what to call after each tensor."""

    write: Callable[[Path, Callable[[int], None]], None]
    bytes: int
    dtypes: dict[str, int]
    file: bool = False
    """Whether it is one file, which `out` names."""


def _safetensors(plan: _Plan, wanted: Wanted, out: Path, notes: list[str]) -> _Job:
    config = config_json(plan.config, wanted.target, plan.dtype, plan.original)
    if not target_of(wanted.target).own_class:
        notes.append(f"transformers has no {config['architectures'][0]} of its own: loading needs code from elsewhere")

    def write(folder: Path, done: Callable[[int], None]) -> None:
        write_json(folder / "config.json", config)
        _write_beside(folder, plan)
        write_sharded(folder, [written(_counted(view, done)) for view in plan.views], wanted.shard_bytes)

    return _Job(write, sum(map(_bytes, plan.views)), _dtypes(plan))


def _meta(plan: _Plan, wanted: Wanted, out: Path, notes: list[str]) -> _Job:
    # what params.json has no keys for: the trained length, the tokens that begin and end a text
    config = config_json(plan.config, "llama", plan.dtype, plan.original)
    if plan.config.tie_word_embeddings:
        raise ZhenError("one matrix for embedding and head", expected="two: Meta's code has no other", hint="--untie")
    if "tokenizer.model" not in plan.beside.files:
        notes.append("no tokenizer.model, which Meta's code reads")
    consolidated.params_of(plan.config)
    parts = consolidated.parts(plan.views, plan.config, wanted.model_parallel)

    def write(folder: Path, done: Callable[[int], None]) -> None:
        write_json(folder / "config.json", config)
        _write_beside(folder, plan)
        consolidated.write_parts(folder, parts, plan.config, done)

    return _Job(write, sum(_bytes(view) for part in parts for view in part), _dtypes(plan))


def _gguf(plan: _Plan, wanted: Wanted, out: Path, notes: list[str]) -> _Job:
    planned, widened, lost = gguf.plan(plan.views, DTYPES[wanted.dtype] if wanted.dtype else None)
    metadata, said = metadata_for(plan.beside, plan.checkpoint.folder, plan.config, plan.original, plan.dtype)
    notes += [*lost, *said]
    if widened:
        metadata[gguf.WIDENED] = widened
    if (factors := gguf.rope_factors(plan.config)) is not None:
        planned.append(factors)

    def write(folder: Path, done: Callable[[int], None]) -> None:
        gguf.write_gguf(folder / out.name, planned, metadata, done)

    dtypes = dict(Counter(tensor.type for tensor in planned).most_common())
    return _Job(write, sum(tensor.nbytes for tensor in planned), dtypes, file=True)


def _written(job: _Job, out: Path, plan: _Plan, record: provenance.Provenance | None, report: Report) -> dict[str, int]:
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        plan.checkpoint.release()
        report(done, job.bytes)

    pool = ThreadPoolExecutor(1)
    try:
        with building(out, file=job.file) as folder:
            hashes = {file: pool.submit(sha256_file, file) for file in (_sources(plan) if record else [])}
            job.write(folder, count)
            if record:
                read = {file.name: future.result().sha256 for file, future in hashes.items()}
                content = provenance.encode(msgspec.structs.replace(record, files=read))
                write_bytes(folder / provenance.RECORD, content)
            made = [file for file in sorted(folder.iterdir()) if not file.name.startswith(".")]
            return {file.name: file.stat().st_size for file in made}
    finally:
        pool.shutdown(cancel_futures=True)


def _sources(plan: _Plan) -> list[Path]:
    """The files that the conversion reads."""
    checkpoint = plan.checkpoint
    if checkpoint.kind == "gguf":
        return checkpoint.files
    small = sorted({"config.json", consolidated.PARAMS, provenance.RECORD, *plan.beside.files})
    return [*checkpoint.files, *(file for name in small if (file := checkpoint.folder / name).is_file())]


def _record(plan: _Plan, wanted: Wanted) -> provenance.Provenance:
    """What the conversion says of itself, but for the hashes of the files that it reads."""
    own = None
    if plan.checkpoint.kind == "gguf":  # what lies in its folder may be anything
        stated = (plan.beside.metadata or {}).get("general.license")
        own = provenance.License(stated=str(stated) if stated else None, files={})
    asked = {"dtype": wanted.dtype, "tie": wanted.tie, "vocab_size": wanted.vocab_size}
    step = provenance.Step(
        tool=provenance.made_by(),
        source=plan.naming,
        target=wanted.target,
        map={},
        converted={option: value for option, value in asked.items() if value is not None},
    )
    return provenance.converted(plan.checkpoint.folder, step, own)


def _counted(view: View, done: Callable[[int], None]) -> View:
    """`view`, which tells when it is read; by then the tensor before it has been written."""

    def read() -> Array:
        done(_bytes(view))
        return view.read()

    return view._replace(read=read)


def _bytes(view: View) -> int:
    return prod(view.shape) * BITS[view.dtype] // 8


def _dtypes(plan: _Plan) -> dict[str, int]:
    return dict(Counter(view.dtype for view in plan.views).most_common())


def _write_beside(folder: Path, plan: _Plan) -> None:
    for name, data in plan.beside.files.items():
        write_bytes(folder / name, data)
