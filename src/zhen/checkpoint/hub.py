"""Models that a hub's client has fetched before, found in its cache by their id. Nothing is downloaded."""

from __future__ import annotations

import os
import re
from pathlib import Path

from zhen.errors import ZhenError

_ID = re.compile(r"[\w.-]+/[\w.-]+")


def cache() -> Path:
    """The folder where huggingface_hub keeps what it fetched, by the same variables (its constants.py)."""
    if named := os.environ.get("HF_HUB_CACHE", os.environ.get("HUGGINGFACE_HUB_CACHE")):
        return Path(named).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("HF_HOME", f"{shared}/huggingface")).expanduser() / "hub"


def in_cache(path: Path) -> Path:
    """The newest snapshot of the model whose id (`org/name`) `path` is; `path` itself where it is none, or is there.

    Raises ZhenError for an id that isn't in the cache.
    """
    name = path.as_posix()
    if path.exists() or not _ID.fullmatch(name) or ".." in name:
        return path
    model = cache() / f"models--{name.replace('/', '--')}"
    snapshots = sorted((model / "snapshots").glob("*"), key=lambda folder: folder.stat().st_mtime_ns)
    if not snapshots:
        hint = f"for a model of a hub, fetch it first: hf download {name}" if "/" in name else None
        raise ZhenError("not found", expected=f"a checkpoint, or a model in {cache()}", file=name, hint=hint)
    main = model / "refs" / "main"
    named = model / "snapshots" / main.read_text().strip() if main.is_file() else snapshots[-1]
    return named if named in snapshots else snapshots[-1]
