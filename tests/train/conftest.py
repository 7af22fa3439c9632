"""A small tokenizer and shards for the tests of training, made once."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def small_run() -> ModuleType:
    """The module `small_run.py` beside this file."""
    spec = importlib.util.spec_from_file_location("small_run", Path(__file__).with_name("small_run.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["small_run"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def inputs(small_run: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders `tokenizer` and `shards` that the stage reads."""
    folder = tmp_path_factory.mktemp("train-inputs")
    small_run.make_inputs(folder)
    return folder
