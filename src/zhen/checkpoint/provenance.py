"""`zhen-record.json`: what a renamed or converted checkpoint comes from, so that it can be published honestly."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from zhen.checkpoint import license as licences
from zhen.checkpoint import names, strictjson
from zhen.checkpoint.companions import others
from zhen.errors import ZhenError
from zhen.formats.files import sha256_file

RECORD = "zhen-record.json"

_STEPS = 20
"""Steps that a record lists; of more, the first ones are forgotten."""


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rename or conversion."""

    tool: str
    """`zhen` and its version."""
    source: str
    """Naming scheme before, "unknown" where every name was mapped by hand."""
    target: str
    map: dict[str, str]
    """Old name -> new name, where they differ; N stands for the layer's number. Empty for a conversion."""
    converted: dict[str, Any] | None = None
    """What a conversion was asked to change of the numbers: dtype, tie, vocab_size. None for a rename."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor of the first source."""

    was: str
    """Its name there."""
    sha256: str | None
    """Of its bytes there; None where the rename was told not to read them."""


class License(msgspec.Struct, frozen=True, kw_only=True):
    """What the source says about its licence."""

    stated: str | None
    """`license:` at the head of its README.md."""
    files: dict[str, str]
    """Licence and notice files -> SHA-256."""


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """What zhen-record.json holds. It names no folder of the machine."""

    kind: Literal["renamed", "converted"] = "renamed"
    """The last step."""
    steps: list[Step]
    license: License
    files: dict[str, str]
    """Files of the source -> their SHA-256 there: those beside the weights that a rename changed or left out, all that
    a conversion read."""
    tensors: dict[str, Origin] = {}
    """Name now -> tensor of the source. Empty after a conversion: its tensors are others."""


def read_provenance(folder: Path) -> Provenance | None:
    """What the record in `folder` says; None without one, and where it is another verb's, such as `zhen quantize`'s.
    Raises ZhenError where it is no record."""
    file = folder / RECORD
    if not file.exists():
        return None
    content = strictjson.read(file)
    if isinstance(content, dict) and "stage" in content:
        return None
    try:
        return msgspec.convert(content, Provenance)
    except msgspec.ValidationError as error:
        raise ZhenError(f"is no record of a rename or conversion: {error}", file=file) from error


def provenance(
    folder: Path,
    step: Step,
    renamed: Mapping[str, str],
    hashes: Mapping[str, str],
    files: Sequence[str],
) -> Provenance:
    """The record of renaming the checkpoint in `folder`; what an earlier record there says is carried on.

    `hashes` of the tensors by their old names, empty where none were taken. Raises ZhenError where an earlier record
    contradicts them.
    """
    earlier = read_provenance(folder)
    origins = earlier.tensors if earlier else {}
    if origins:
        _refuse_others(origins, renamed, hashes, folder / RECORD)
    tensors = {}
    for old, new in renamed.items():
        was = origins.get(old)
        tensors[new] = Origin(was=was.was if was else old, sha256=hashes.get(old) or (was.sha256 if was else None))
    found = {name: sha256_file(folder / name).sha256 for name in sorted(files)}
    return Provenance(
        steps=[*(earlier.steps if earlier else []), step][-_STEPS:],
        license=earlier.license if earlier else _license(folder),
        files={**found, **(earlier.files if earlier else {})},
        tensors=tensors,
    )


def converted(folder: Path, step: Step, license: License | None = None) -> Provenance:
    """The record of converting the checkpoint in `folder`; steps and licence of an earlier record there are carried on.

    `license` where the weights' own file states it, and nothing beside it counts. Raises ZhenError where the earlier
    record is none.
    """
    earlier = read_provenance(folder) if license is None else None
    return Provenance(
        kind="converted",
        steps=[*(earlier.steps if earlier else []), step][-_STEPS:],
        license=license or (earlier.license if earlier else _license(folder)),
        files={},
    )


def _refuse_others(
    origins: Mapping[str, Origin], renamed: Mapping[str, str], hashes: Mapping[str, str], file: Path
) -> None:
    hint = "the weights have changed since: remove the record"
    if origins.keys() != renamed.keys():
        raise ZhenError("names other tensors than are here", expected="the same", file=file, hint=hint)
    for name, origin in origins.items():
        if origin.sha256 and hashes.get(name, origin.sha256) != origin.sha256:
            raise ZhenError("has another hash than is recorded", file=file, place=f"tensor {name!r}", hint=hint)


def made_by() -> str:
    """This tool and its version."""
    return f"zhen {importlib.metadata.version('zhen')}"


def step_of(source: str, target: str, renamed: Mapping[str, str]) -> Step:
    """A rename in short: the changed names, with N where the same holds for every layer."""
    patterns = {}
    for old, new in renamed.items():
        (shape, number), (other, same) = names.numbered(old), names.numbered(new)
        key, value = (shape, other) if number == same else (old, new)
        if key != value:
            patterns[key] = value
    return Step(tool=made_by(), source=source, target=target, map=patterns)


def encode(record: Provenance) -> bytes:
    """The content of the file."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def _license(folder: Path) -> License:
    along, _ = others(folder, ())  # without links that lead out of the folder
    files = {name: sha256_file(folder / name).sha256 for name in along if licences.bears(name)}
    return License(stated=licences.stated(folder), files=files)
