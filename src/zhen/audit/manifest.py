"""The manifest of a release: `SHA256SUMS`, as `sha256sum -c` reads it, with sizes in comment lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from zhen.errors import ZhenError
from zhen.formats.files import Digest

MANIFEST = "SHA256SUMS"

UNLISTED = frozenset({MANIFEST, "record.json", "audit.json", "zhen-record.json", ".attempts.json", ".gitattributes"})
"""What is written after the manifest, and so is not in it (`.attempts.json` while the stage runs; the last by the Hub,
when a release is uploaded)."""

HUB_FOLDER = ".cache/huggingface/"
"""Where the Hub's client notes what it has downloaded into a folder."""

_HASH = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_SIZE = re.compile(r"# size ([0-9]+) (.+)")


def render_manifest(files: Mapping[str, Digest]) -> str:
    """The manifest's text: per file, in the order of names, a comment with its size and the line of its hash."""
    lines = ["# SHA-256 of every file of this release. Check them with: sha256sum -c SHA256SUMS"]
    for name in sorted(files):
        lines += [f"# size {files[name].bytes} {name}", f"{files[name].sha256}  {name}"]
    return "\n".join(lines) + "\n"


def read_manifest(text: str) -> dict[str, Digest]:
    """File name -> digest; `bytes` is -1 where the manifest gives no size (another program wrote it).

    Raises ZhenError for a line that is neither comment nor hash, a name twice, or a path that leaves the folder.
    """
    sizes: dict[str, int] = {}
    found: dict[str, Digest] = {}
    for number, line in enumerate(text.splitlines(), 1):
        place = f"line {number}"
        if size := _SIZE.fullmatch(line):
            sizes[size[2]] = int(size[1])
        if not line.strip() or line.startswith("#"):
            continue
        entry = _HASH.fullmatch(line)
        if not entry:
            raise ZhenError(f"found {line[:80]!r}", expected="`<sha256>  <file>`", file=MANIFEST, place=place)
        name = entry[2]
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts:
            raise ZhenError(f"{name!r} leads out of the folder", file=MANIFEST, place=place)
        if name in found:
            raise ZhenError(f"{name!r} is listed twice", file=MANIFEST, place=place)
        found[name] = Digest(sizes.get(name, -1), entry[1])
    return found
