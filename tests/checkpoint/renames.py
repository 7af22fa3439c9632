"""What the tests of `zhen rename` share: the verb without its command line, and a folder as it lies on the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import deserialize

from zhen.checkpoint.rename import Renamed, Wanted, rename_checkpoint

WriteYi = Callable[..., Path]


def renamed(folder: Path, target: str = "llama", **options: Any) -> Renamed:
    return rename_checkpoint(folder, Wanted(target=target, **options))


def by_reference(folder: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Every tensor as the reference implementation reads it."""
    found = {}
    for file in folder.glob("*.safetensors"):
        for name, tensor in deserialize(file.read_bytes()):  # type: ignore[no-untyped-call]
            found[name] = (tensor["dtype"], tensor["shape"], bytes(tensor["data"]))
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
