"""A planted run, and the browser of the tests of pages."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_planted = _module("planted_run", Path(__file__).with_name("planted.py"))
browser = _module("watch_browser", Path(__file__).parents[1] / "pages" / "conftest.py").browser


@pytest.fixture
def plant(tmp_path: Path) -> Callable[..., Any]:
    """`plant(name, …)`: a run's folder `name`, as training writes it."""
    return lambda name="tiny", **more: _planted.Planted(tmp_path / name, **more)
