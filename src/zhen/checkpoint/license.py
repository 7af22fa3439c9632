"""What a folder says about its licence: the head of its README.md, and files that bear a licence's name."""

from __future__ import annotations

import re
from pathlib import Path

_FILES = re.compile(r"(licen[cs]e|notice|copying)([._-].*)?", re.IGNORECASE)
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\s*$", re.DOTALL | re.MULTILINE)
_STATED = re.compile(r"^license:[ \t]*([\w.\-]{1,60})[ \t]*$", re.MULTILINE)
_CARD_BYTES = 1 << 20


def stated(folder: Path) -> str | None:
    """`license:` at the head of README.md."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    with card.open("rb") as file:
        text = file.read(_CARD_BYTES).decode("utf-8", "replace")
    head = _FRONT_MATTER.search(text)
    found = _STATED.search(head[1]) if head else None
    return found[1] if found else None


def bears(name: str) -> bool:
    """Whether a file's name is that of a licence or a notice."""
    return _FILES.fullmatch(name) is not None


def files(folder: Path) -> list[Path]:
    """Licence and notice files, sorted."""
    return sorted(path for path in folder.iterdir() if bears(path.name) and path.is_file())
