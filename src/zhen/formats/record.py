"""The record a stage leaves: what it was given, what it made (sizes, hashes), with which figures, where and when."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from zhen.errors import ZhenError
from zhen.formats.files import write_bytes

RECORD = "record.json"
"""The record's file name inside a stage's folder; written last, so it means done."""

VERB_RECORD = "zhen-record.json"
"""The record of a verb that ran outside a run, in its output folder."""

Kind = Literal["result", "log"]
"""`result`: the same bytes on every run. `log`: holds a time, a rate or a host."""

LIBRARIES = [
    "zhen",
    "torch",
    "numpy",
    "daft",
    "pyarrow",
    "fastwarc",
    "resiliparse",
    "trafilatura",
    "py3langid",
    "sentencepiece",
    "tokenizers",
    "numba",
    "xxhash",
]


class Input(msgspec.Struct, frozen=True):
    """Something from outside the run: a source file, an initial checkpoint's file, a benchmark file."""

    path: str
    """Relative to its source."""
    bytes: int
    sha256: str | None = None
    """Hex; None where size and `revision` stand for the content in the key (large or remote)."""
    revision: str | None = None
    """Modification time, ETag or revision, for what was not hashed beforehand."""


class Output(msgspec.Struct, frozen=True):
    """A file that the stage made, relative to its folder."""

    path: str
    bytes: int
    sha256: str
    kind: Kind


class Figure(msgspec.Struct, frozen=True):
    """A number that may be quoted: value, unit, and where it is a mean the number of items and standard error."""

    value: float | int | str | bool | None
    unit: str = ""
    n: int | None = None
    stderr: float | None = None


class Event(msgspec.Struct, frozen=True):
    """Something worth knowing that happened on the way: a resume, a fall-back, a slow stretch."""

    time: str
    kind: str
    data: dict[str, Any] = {}


class Host(msgspec.Struct, frozen=True):
    """The machine: kind of CPU, cores, threads used, memory in bytes, GPU or None."""

    cpu: str
    cores: int
    threads: int
    memory: int
    gpu: str | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a stage (or a verb outside a run) says about what it did."""

    stage: str
    version: int
    key: str
    sections: dict[str, Any]
    after: dict[str, str]
    """Stage read -> its key."""
    inputs: list[Input]
    outputs: list[Output]
    command: list[str]
    versions: dict[str, str]
    host: Host
    started: str
    """UTC, ISO 8601."""
    seconds: float
    resumed: int
    """How often the stage was gone on with after a stop."""
    figures: dict[str, Figure]
    events: list[Event] = []

    def output(self, path: str) -> Output:
        """The output of that path; raises KeyError."""
        for output in self.outputs:
            if output.path == path:
                return output
        raise KeyError(path)


def read_record(folder: Path, name: str = RECORD) -> Record | None:
    """The record in `folder`, or None where there is none. Raises ZhenError when it is damaged."""
    path = folder / name
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ZhenError(
            f"is not a record: {error}", file=path, hint="delete this file; the stage is then gone over again"
        ) from error


def write_record(folder: Path, record: Record, name: str = RECORD) -> None:
    """Write the record of `folder`, atomically. A figure that is no number (a loss that is NaN) becomes null."""
    write_bytes(folder / name, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def key_of(value: Any) -> str:
    """SHA-256 (hex) of a value's canonical JSON (sorted keys, no blanks); the key of a stage or a verb."""
    try:
        encoded = msgspec.json.encode(msgspec.to_builtins(value, str_keys=True), order="sorted")
    except UnicodeEncodeError as error:
        raise ZhenError(
            f"{error.object!r} is not valid Unicode", hint="rename the file or change the value: keys are made of UTF-8"
        ) from error
    return hashlib.sha256(encoded).hexdigest()


def result_sections(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Sections as they go into a key: without the fields that a settings class, or one inside it, names in
    `NO_RESULTS`, such as how many processes share the work."""
    return {name: _results(value) for name, value in sections.items()}


def _results(value: Any) -> Any:
    if not (left_out := getattr(value, "NO_RESULTS", ())):
        return value
    return {name: _results(getattr(value, name)) for name in value.__struct_fields__ if name not in left_out}


def utc_now() -> str:
    """The time, UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def library_versions() -> dict[str, str]:
    """Versions of the libraries that results depend on, those that are installed."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def this_host(threads: int | None = None, gpu: str | None = None) -> Host:
    """The machine this process runs on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return Host(
        cpu=_cpu_name(),
        cores=cores,
        threads=threads or int(os.environ.get("OMP_NUM_THREADS", "0") or 0) or cores,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpu=gpu,
    )


def _cpu_name() -> str:
    """The CPU's model with the features that decide its speed (AMX, AVX-512 with bf16)."""
    model, flags = platform.machine(), ""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
            elif line.startswith("flags"):
                flags = line
                break
    except OSError:
        return model
    features = [name for name, flag in (("AMX", "amx_bf16"), ("AVX512-BF16", "avx512_bf16")) if flag in flags]
    return f"{model} ({', '.join(features) or 'no bf16 units'})"
