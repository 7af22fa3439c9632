"""The same settings and seed give the same bytes: again, over an interrupted attempt, under other hash seeds."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zhen.errors import Interrupted
from zhen.formats.stage import Context
from zhen.sampleweb.settings import SamplewebSettings
from zhen.sampleweb.stage import make

SMALL = SamplewebSettings(people=8, pages=60)

PROGRAM = """
import sys
from pathlib import Path
from zhen.formats.stage import Context
from zhen.sampleweb.settings import SamplewebSettings
from zhen.sampleweb.stage import make
class Silent:
    def update(self, *a, **k): pass
folder = Path(sys.argv[1])
sections = {"sampleweb": SamplewebSettings(people=8, pages=60), "run.seed": 3}
make(Context(folder, sections, {}, Silent(), lambda: False, 1))
"""


def tree(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_two_makes_are_equal_and_every_file_is_declared_with_its_hash(tmp_path: Path, remake: Any) -> None:
    one = remake(tmp_path / "one", SMALL)
    remake(tmp_path / "two", SMALL)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    declared = {path: digest.sha256 for path, (kind, digest) in one.context.outputs.items() if kind == "result"}
    assert declared == tree(tmp_path / "one")


def test_other_hash_seeds_and_processes_give_the_same_bytes(tmp_path: Path, remake: Any) -> None:
    trees = []
    for hash_seed in ("0", "4242"):
        folder = tmp_path / hash_seed
        folder.mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], check=True, env=environment)
        trees.append(tree(folder))
    remake(tmp_path / "here", SMALL, 3)
    assert trees[0] == trees[1] == tree(tmp_path / "here")


def test_another_seed_gives_another_world(tmp_path: Path, remake: Any) -> None:
    names = [remake(tmp_path / str(seed), SMALL, seed).facts[0]["subject"]["en"] for seed in (1, 2, 3)]
    assert len(set(names)) == 3


def test_an_interrupted_make_is_gone_on_with_to_the_same_bytes(tmp_path: Path, remake: Any, web: Any) -> None:
    folder = tmp_path / "stopped"
    folder.mkdir()
    calls = iter([False] * 4)
    sections = {"sampleweb": SMALL, "run.seed": 7}
    with pytest.raises(Interrupted):
        make(Context(folder, sections, {}, web.context.line, lambda: next(calls, True), 1))
    assert tree(folder)
    remake(folder, SMALL)
    remake(tmp_path / "whole", SMALL)
    assert tree(folder) == tree(tmp_path / "whole")
