"""What a source consists of: its files in a fixed order, their formats, and what stands for their content in a key."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
from msgspec import Struct

from zhen.data.settings import MADE, Source
from zhen.errors import ZhenError
from zhen.formats.files import sha256_file
from zhen.formats.record import Input

FORMATS = {
    ".warc": "warc",
    ".wet": "warc",
    ".jsonl": "jsonl",
    ".parquet": "parquet",
    ".html": "html",
    ".htm": "html",
    ".txt": "text",
    ".md": "text",
}
PACKED = {".gz": "gzip", ".zst": "zstd"}
KNOWN = ".warc .wet .jsonl .parquet .html .htm .txt .md, each also with .gz or .zst (Parquet: plain)"

HASH_LIMIT = 10_000_000_000
"""Local input up to so many bytes is hashed when the run is planned; size and time stand for the rest."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class SourceFile(Struct, frozen=True):
    """One file of a source: its path below the source, where it is, its size in bytes (None: not told)."""

    path: str
    location: str
    bytes: int | None
    revision: str | None = None
    """ETag, revision or time of a remote file."""

    @property
    def remote(self) -> bool:
        """Whether it has to be fetched first."""
        return "://" in self.location


def file_format(name: str) -> tuple[str, str | None] | None:
    """Format and packing by a file's name, or None where the name is of no format that is read."""
    lower = name.lower()
    stem, suffix = os.path.splitext(lower)
    packing = PACKED.get(suffix)
    kind = FORMATS.get(os.path.splitext(stem)[1] if packing else suffix)
    if kind is None or (kind == "parquet" and packing):
        return None
    return kind, packing


def expand(path: str, source: str) -> str:
    """`path` with each `${VARIABLE}` replaced. Raises ZhenError for one that is not set."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if not os.environ.get(name):
            raise ZhenError(
                f"the environment variable {name} is not set, but source {source!r} has path {path!r}",
                place="data.sources",
                hint=f"export {name}=…",
            )
        return os.environ[name]

    return _VARIABLE.sub(value, path)


def source_files(source: Source, made: Mapping[str, Path]) -> tuple[list[SourceFile], dict[str, int]]:
    """The files of a source, sorted by path, and how many others lie beside them (by suffix). `made`: the folders of
    the stage `sampleweb`.

    Raises ZhenError where the source is missing or holds no file of a known format.
    """
    path = expand(source.path, source.name)
    if path in MADE:
        if MADE[path] not in made:
            raise ZhenError(
                f"source {source.name!r} is the built-in web, which this recipe does not make",
                place="data.sources",
                hint="add a section [sampleweb], or give the source another path",
            )
        path = str(made[MADE[path]])
    found = _remote_files(path, source.name) if "://" in path else _local_files(path, source.name)
    files = sorted((file for file in found if file_format(file.path)), key=lambda file: file.path)
    others: dict[str, int] = {}
    for file in found:
        if not file_format(file.path):
            suffix = os.path.splitext(file.path)[1].lower() or "no suffix"
            others[suffix] = others.get(suffix, 0) + 1
    if not files:
        raise ZhenError(
            f"source {source.name!r} has no file that can be read ({len(found):,} others)",
            expected=KNOWN,
            file=path,
            place="data.sources",
        )
    return files, dict(sorted(others.items()))


def _local_files(path: str, name: str) -> list[SourceFile]:
    path = os.path.expanduser(path)
    if os.path.isfile(path):
        base, paths = os.path.dirname(path), [path]
    elif os.path.isdir(path):
        base = path
        paths = [os.path.join(folder, file) for folder, _, files in os.walk(path) for file in files]
    elif glob.has_magic(path):
        parts = Path(path).parts
        base = str(Path(*parts[: next(index for index, part in enumerate(parts) if glob.has_magic(part))]))
        paths = [file for file in glob.glob(path, recursive=True) if os.path.isfile(file)]
    else:
        paths = []
    if not paths:
        raise ZhenError(f"source {name!r}: there is nothing here", file=path, place="data.sources", hint="check `path`")
    files = []
    for file in paths:
        relative = os.path.relpath(file, base or ".")
        if not any(part.startswith(".") for part in Path(relative).parts):
            files.append(SourceFile(relative, os.path.abspath(file), os.path.getsize(file)))
    return files


def _remote_files(path: str, name: str) -> list[SourceFile]:
    scheme = path.split("://", 1)[0]
    try:
        system, root = fsspec.core.url_to_fs(path)
        if glob.has_magic(path) and scheme not in ("http", "https"):
            infos = system.glob(root, detail=True)
            base = root[: min(root.index(sign) for sign in "*?[" if sign in root)].rsplit("/", 1)[0]
        elif scheme not in ("http", "https") and system.isdir(root):
            infos, base = system.find(root, detail=True), root.rstrip("/")
        else:
            infos, base = {root: system.info(root)}, root.rsplit("/", 1)[0]
    except (ImportError, ValueError) as error:
        raise ZhenError(
            f"source {name!r}: {scheme}:// cannot be read here ({error})",
            place="data.sources",
            hint={"s3": "pip install s3fs", "hf": "pip install huggingface_hub"}.get(scheme),
        ) from error
    except Exception as error:  # each file system has errors of its own kind; all mean the same here
        raise ZhenError(f"source {name!r} cannot be reached: {error}", file=path, place="data.sources") from error
    return [
        SourceFile(os.path.relpath(key, base), system.unstrip_protocol(key), info.get("size"), _revision(info))
        for key, info in infos.items()
        if info.get("type") != "directory"
    ]


def _revision(info: Mapping[str, Any]) -> str | None:
    for key in ("ETag", "etag", "xet_hash", "blob_id", "last_commit", "LastModified", "Last-Modified", "mtime"):
        if info.get(key):
            return str(info[key])
    return None


def source_inputs(sources: Sequence[Source]) -> list[Input]:
    """The files of all sources but the built-in web, with what stands for their content: SHA-256, or size and time."""
    inputs, budget = [], HASH_LIMIT
    for source in sources:
        if source.path in MADE:
            continue
        for file in source_files(source, {})[0]:
            size, digest, revision = file.bytes or 0, None, file.revision
            if not file.remote:
                if size <= budget and os.access(file.location, os.R_OK):
                    digest = sha256_file(Path(file.location)).sha256
                    budget -= size
                else:
                    revision = str(os.stat(file.location).st_mtime_ns)
            inputs.append(Input(f"{source.name}/{file.path}", size, digest, revision))
    return inputs
