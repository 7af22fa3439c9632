"""What an audit looks at: the files of a folder (or one file), read once and never trusted."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhen.checkpoint.stored import Checkpoint
from zhen.errors import ZhenError
from zhen.model.config import ModelConfig

MAX_TEXT = 64 << 20
"""Bytes; a JSON or text file above this is not read whole (a tokenizer.json of 256 k pieces has about 35 MB)."""


class DuplicateKeyError(ValueError):
    """A JSON object names a key twice: readers disagree about which one counts."""


@dataclass
class Folder:
    """The audited files by relative name, with what several checks need of them."""

    root: Path
    files: list[str]
    """Relative names, sorted, with forward slashes."""
    checkpoint: Checkpoint | None = None
    config: ModelConfig | None = None
    """None where there is no config.json or it is not a LLaMA-shaped one."""
    config_error: str | None = None
    _json: dict[str, Any] = field(default_factory=dict)

    @property
    def is_release(self) -> bool:
        """Whether it says that Zhen released it: then manifest, card and figures must be there."""
        return "figures.json" in self.files or any(name.startswith("records/") for name in self.files)

    def has(self, name: str) -> bool:
        """Whether that file is there."""
        return name in self.files

    def inside(self, name: str) -> bool:
        """Whether a name, links followed, is a file below the root (or a blob of the Hub's cache, for its snapshots).

        Anything else (links elsewhere, pipes, devices) is not opened.
        """
        path, root = self.root / name, self.root.resolve()
        if not path.is_file():
            return False
        homes = [root, root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [root]
        return any(path.resolve().is_relative_to(home) for home in homes)

    def text(self, name: str) -> str:
        """The UTF-8 text of a file. Raises ZhenError naming it where it is not text or is too long."""
        path = self.root / name
        if not self.inside(name):
            raise ZhenError("is a link out of the folder, or no file", expected="a file", file=name)
        if path.stat().st_size > MAX_TEXT:
            raise ZhenError(f"has {path.stat().st_size:,} bytes", expected=f"at most {MAX_TEXT:,}", file=name)
        try:
            return path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise ZhenError("is not UTF-8 text", file=name, place=f"byte {error.start}") from error

    def json(self, name: str) -> Any:
        """The value of a JSON file, keys at most once. Raises ZhenError naming the file."""
        if name not in self._json:
            try:
                self._json[name] = json.loads(self.text(name), object_pairs_hook=_unique)
            except (json.JSONDecodeError, DuplicateKeyError) as error:
                raise ZhenError(f"is not JSON: {error}", file=name) from error
            except RecursionError as error:
                raise ZhenError("is nested too deeply", file=name) from error
        return self._json[name]

    def object(self, name: str) -> dict[str, Any]:
        """The object in a JSON file; an empty one where the file is missing. Raises ZhenError."""
        if not self.has(name):
            return {}
        value = self.json(name)
        if not isinstance(value, dict):
            raise ZhenError(f"holds a {type(value).__name__}", expected="an object", file=name)
        return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DuplicateKeyError(f"key {twice!r} stands twice in one object")
    return made


def list_files(root: Path) -> list[str]:
    """Relative names of everything below `root` that is not a folder (symbolic links too), sorted."""
    return sorted(
        path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_symlink() or not path.is_dir()
    )
