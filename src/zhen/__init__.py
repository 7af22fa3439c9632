"""Zhen: bilingual models of the LLaMA architecture. The public names, each resolved on first use."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "load_model": "zhen.checkpoint.load",
    "load_tokenizer": "zhen.tokenizer.load",
    "inspect_checkpoint": "zhen.checkpoint.inspect",
    "audit_checkpoint": "zhen.audit.checks",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'zhen' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
