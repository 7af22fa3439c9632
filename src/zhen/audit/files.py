"""Checks of the files themselves: manifest, pickles, code. Content decides, never the extension alone."""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zhen.audit.finding import Finding, fails, holds, unchecked
from zhen.audit.folder import Folder
from zhen.audit.manifest import HUB_FOLDER, MANIFEST, UNLISTED, read_manifest
from zhen.checkpoint.torchfile import says
from zhen.console import size
from zhen.errors import ZhenError
from zhen.formats.files import sha256_file

HEAD = 1 << 20
"""Bytes of each file that are looked at for a pickle; the opcodes of one show at once."""

PICKLE_NAMES = frozenset({".bin", ".pth", ".pt", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill"})
"""Names that loaders unpickle, whatever is in the file today."""

CODE_NAMES = frozenset(
    {".py", ".pyc", ".pyd", ".pyw", ".pyx", ".pyz", ".pth", ".whl", ".egg", ".ipynb", ".so", ".dll", ".dylib", ".exe"}
    | {".sh", ".bat", ".ps1", ".js", ".jar", ".c", ".cpp", ".cu"}
)

PACKED = (
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\0",
    b"\x28\xb5\x2f\xfd",
    b"\x04\x22\x4d\x18",
    b"\x78\x9c",
    b"\x78\xda",
    b"7z\xbc\xaf",
)
"""First bytes of gzip, bzip2, xz, zstd, LZ4, zlib (twice) and 7z; joblib packs pickles in most of these."""

EXECUTABLE = (b"\x7fELF", b"#!", b"MZ", b"\0asm", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
"""First bytes of programs: ELF, scripts, Windows, WebAssembly, macOS (three)."""

CODE_KEYS = ("auto_map", "custom_code", "custom_pipelines")
"""Keys in a JSON file that name code to be loaded with the model."""

_NO_CODE = "no code comes with the files"
_NO_PICKLES = "no file is a pickle, which runs code when it is loaded, or holds one"
_LISTED = f"every file is the one that {MANIFEST} lists"


def check_manifest(folder: Folder) -> Iterator[Finding]:
    """Each listed file present with equal size and hash; each other file named."""
    if not folder.has(MANIFEST):
        yield _no_manifest(folder)
        return
    try:
        listed = read_manifest(folder.text(MANIFEST))
    except ZhenError as error:
        yield fails("files.manifest", _LISTED, error.text(), fix="fetch the manifest again", file=MANIFEST)
        return
    faults = 0
    total = 0
    for name, digest in listed.items():
        path = folder.root / name
        if name not in folder.files or not folder.inside(name):
            faults += 1
            yield fails("files.missing", _LISTED, f"{name} is listed and not here", fix=f"fetch {name}", file=name)
            continue
        found = path.stat().st_size
        total += found
        if digest.bytes not in (-1, found):
            faults += 1
            evidence = f"{name} has {found:,} bytes, listed are {digest.bytes:,}"
            yield fails("files.hash", _LISTED, evidence, fix=f"fetch {name} again", file=name)
        elif (actual := sha256_file(path).sha256) != digest.sha256:
            faults += 1
            evidence = f"{name} has SHA-256 {actual[:16]}…, listed is {digest.sha256[:16]}…"
            yield fails("files.hash", _LISTED, evidence, fix=f"fetch {name} again", file=name)
    for name in folder.files:
        if name not in listed and name not in UNLISTED and not name.startswith(HUB_FOLDER):
            faults += 1
            yield fails("files.unlisted", _LISTED, f"{name} is here and not listed", fix=f"remove {name}", file=name)
    if not listed:
        yield unchecked("files.manifest", _LISTED, f"{MANIFEST} lists nothing", severity="error")
    elif not faults:
        yield holds("files.manifest", _LISTED, f"{len(listed)} files, {size(total)}, all with equal size and SHA-256")


def _no_manifest(folder: Folder) -> Finding:
    if folder.is_release:
        return fails(
            "files.manifest",
            _LISTED,
            f"there is no {MANIFEST}, though the folder has a card with figures",
            fix="fetch the whole release",
            file=MANIFEST,
        )
    return unchecked("files.manifest", _LISTED, f"there is no {MANIFEST}")


def check_pickles(folder: Folder) -> Iterator[Finding]:
    """No file that a loader would unpickle, none that is a pickle under another name, no archive with one in it."""
    found = 0
    for name in folder.files:
        if not folder.inside(name):
            continue
        what = _pickled(folder.root / name)
        if what:
            found += 1
            yield fails(
                "files.pickle",
                _NO_PICKLES,
                f"{name} {what}; {says(folder.root / name)}",
                fix="convert the weights to safetensors and remove it",
                file=name,
            )
    if not folder.files:
        yield unchecked("files.pickle", _NO_PICKLES, "there are no files", severity="error")
    elif not found:
        yield holds("files.pickle", _NO_PICKLES, f"looked into {len(folder.files)} files, names and content")


def _pickled(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(HEAD)
        file.seek(0, io.SEEK_END)
        length = file.tell()
    if path.suffix.lower() in PICKLE_NAMES:
        return f"ends in {path.suffix}, which loaders unpickle"
    if path.suffix == ".safetensors" and _is_safetensors(head, length):
        return None
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _archive(path)
    if head.startswith(PACKED) or head[257:262] == b"ustar":
        return "is a packed file or archive, whose content is not looked into"
    if head[:6] == b"\x93NUMPY" and b"O'" in head[:256]:
        return "is a NumPy file of objects, which are pickled"
    return "is a pickle" if looks_pickled(head) else None


def _archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return "is a damaged zip archive"
    pickles = [member for member in members if Path(member).suffix.lower() in PICKLE_NAMES]
    return f"is a zip archive with the pickle {pickles[0]}" if pickles else "is a zip archive"


def _is_safetensors(head: bytes, length: int) -> bool:
    """A header length that fits, then `{`: a length of 640 would otherwise read as the start of a pickle."""
    size = int.from_bytes(head[:8], "little")
    return len(head) > 8 and 2 <= size <= min(length - 8, 100_000_000) and head[8:9] in (b"{", b" ")


def looks_pickled(head: bytes) -> bool:
    """Whether the first bytes of a file read as a pickle.

    From protocol 2 on: the opcode PROTO and a second one that exists. Before that a pickle is plain text; it counts
    where all of it parses to the STOP and a name is looked up or called on the way, which no text does by chance.
    """
    seen: list[str] = []
    try:
        for opcode, _, _ in pickletools.genops(head):
            seen.append(opcode.name)
            if opcode.name == "STOP":
                return seen[0] == "PROTO" or bool({"GLOBAL", "INST", "REDUCE", "EXT1", "EXT2", "EXT4"} & set(seen))
            if seen[0] == "PROTO" and len(seen) >= 3:
                return True
    except Exception:  # genops raises many kinds on bytes that are no pickle; any of them means just that
        return False
    return False


def check_code(folder: Folder) -> Iterator[Finding]:
    """No program files, no executables, no key that names code to be loaded."""
    found = list(_code(folder))
    yield from found
    if not folder.files:
        yield unchecked("code.none", _NO_CODE, "there are no files", severity="error")
    elif not found:
        number = sum(name.endswith(".json") for name in folder.files)
        yield holds("code.none", _NO_CODE, f"{len(folder.files)} files, {number} JSON files read for {CODE_KEYS[0]}")


def _code(folder: Folder) -> Iterator[Finding]:
    for name in folder.files:
        path = folder.root / name
        if not folder.inside(name):
            evidence = f"{name} is a link that leads out of the folder, or no file; it was not opened"
            yield fails("files.link", _NO_CODE, evidence, fix="remove it", file=name)
            continue
        if path.suffix.lower() in CODE_NAMES:
            yield _is_code(name, f"{name} is a program")
            continue
        with path.open("rb") as file:
            start = file.read(4)
        if start.startswith(EXECUTABLE):
            yield _is_code(name, f"{name} starts like an executable")
        elif name.endswith(".json"):
            try:
                value = folder.json(name)
            except ZhenError as error:
                yield unchecked("code.none", _NO_CODE, error.text(), severity="error")
                continue
            for place in _code_keys(value):
                yield _is_code(name, f"{name} has {place}, which names code to be loaded")


def _is_code(name: str, evidence: str) -> Finding:
    return fails("code.found", _NO_CODE, evidence, fix="remove it; a LLaMA model needs no code of its own", file=name)


def _code_keys(value: Any, place: str = "") -> Iterator[str]:
    """Places of keys that name code, and of attention kernels taken from another repository."""
    if isinstance(value, dict):
        for key, inner in value.items():
            where = f"{place}.{key}" if place else str(key)
            if key in CODE_KEYS and inner:
                yield where
            elif key.endswith("attn_implementation") and isinstance(inner, str) and "/" in inner:
                yield f"{where} = {inner!r}"
            else:
                yield from _code_keys(inner, where)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _code_keys(inner, f"{place}[{number}]")
