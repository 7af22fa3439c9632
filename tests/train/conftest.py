"""A small tokenizer and shards for the tests of training, made once."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def small_run() -> ModuleType:
    """The module `small_run.py` beside this file."""
    return importlib.import_module("small_run")


@pytest.fixture(scope="session")
def inputs(small_run: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders `tokenizer` and `shards` that the stage reads."""
    folder = tmp_path_factory.mktemp("train-inputs")
    small_run.make_inputs(folder)
    return folder
