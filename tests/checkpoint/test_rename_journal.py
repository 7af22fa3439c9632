"""A rename in place that was cut off, and its journal: whoever opens the folder next goes on, or is told why not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from renames import WriteYi, by_reference, contents, renamed

from zhen.audit.checks import audit_checkpoint
from zhen.checkpoint import journal
from zhen.checkpoint.disk import _INSERT, Disk, _fallocate
from zhen.checkpoint.journal import JOURNAL
from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.rename import Wanted, rename_checkpoint
from zhen.checkpoint.renaming import BLOCK
from zhen.cli.app import run
from zhen.errors import ZhenError


def cut_off(folder: Path, after: str) -> None:
    """Begin a rename in place and be killed after the first change of that kind."""

    class Cut(Disk):
        def __getattribute__(self, name: str) -> Any:
            found = super().__getattribute__(name)
            if name != after:
                return found

            def last(*arguments: Any) -> None:
                found(*arguments)
                raise SystemExit

            return last

    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(journal, "take_back", lambda *arguments: None)
        with pytest.raises(SystemExit):
            rename_checkpoint(folder, Wanted(target="llama", in_place=True, verify=False), disk=Cut())


@pytest.mark.usefixtures("inserts")
def test_the_next_inspect_finishes_a_rename_that_was_cut_off(
    tmp_path: Path, write_yi: WriteYi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZHEN_LAUNCHED", "1")
    folder = write_yi(tmp_path / "yi", shard_bytes=10**9)
    renamed(folder, verify=False)
    cut_off(folder, "insert")
    assert (folder / JOURNAL).exists()
    assert run(["inspect", str(folder), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["naming"], shown["remote_code"]) == ("llama", [])
    assert contents(folder) == contents(tmp_path / "yi-llama")


@pytest.mark.usefixtures("inserts")
def test_a_journal_that_was_copied_along_is_not_obeyed(tmp_path: Path, write_yi: WriteYi) -> None:
    folder = write_yi(tmp_path / "yi", shard_bytes=10**9)
    before = contents(folder)
    cut_off(folder, "create")
    shutil.copytree(folder, tmp_path / "all-old")
    assert sorted(open_checkpoint(tmp_path / "all-old").tensors) == sorted(by_reference(tmp_path / "all-old"))
    assert contents(tmp_path / "all-old").items() >= before.items()
    cut_off_again = write_yi(tmp_path / "other", shard_bytes=10**9)
    cut_off(cut_off_again, "insert")
    shutil.copytree(cut_off_again, tmp_path / "between")
    between = contents(tmp_path / "between")
    with pytest.raises(ZhenError, match="copied since"):
        open_checkpoint(tmp_path / "between")
    assert contents(tmp_path / "between") == between


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "", ".."])
def test_a_journal_that_names_other_folders_is_refused(tmp_path: Path, write_yi: WriteYi, name: str) -> None:
    folder = write_yi(tmp_path / "yi")
    small = journal.Small(file=name, old=None, new=b"mine")
    made = journal.Journal(folder=folder.stat().st_ino, weights=[], files=[small])
    (folder / JOURNAL).write_bytes(journal.encode(made))
    with pytest.raises(ZhenError, match="expected a file of this folder"):
        open_checkpoint(folder)
    assert not audit_checkpoint(folder).passed


def test_a_journal_that_is_not_whole_was_never_acted_on(tmp_path: Path, write_yi: WriteYi) -> None:
    folder = write_yi(tmp_path / "yi")
    before = contents(folder)
    made = journal.Journal(folder=folder.stat().st_ino, weights=[], files=[journal.Small(file="x", old=None, new=b"x")])
    (folder / JOURNAL).write_bytes(journal.encode(made)[:-3])
    open_checkpoint(folder)
    assert contents(folder) == before


@pytest.mark.usefixtures("inserts")
def test_an_opener_that_may_not_write_is_told_so(
    tmp_path: Path, write_yi: WriteYi, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_yi(tmp_path / "yi", shard_bytes=10**9)
    cut_off(folder, "insert")
    with monkeypatch.context() as context:
        context.setattr(os, "access", lambda path, mode: Path(path).name != "model.safetensors")
        with pytest.raises(ZhenError, match=r"model\.safetensors may not be written"):
            open_checkpoint(folder)
    assert "model.layers.0.input_layernorm.weight" in open_checkpoint(folder).tensors


@pytest.mark.usefixtures("inserts")
@pytest.mark.parametrize("place", [1, 2, 5, -1])
def test_blocks_that_stopped_half_way_are_gathered_on_a_real_disk(
    tmp_path: Path, write_yi: WriteYi, place: int
) -> None:
    folder = write_yi(tmp_path / "yi", layers=40, dtype="F32", shard_bytes=10**9)
    renamed(folder, verify=False)
    file = folder / "model.safetensors"
    size = file.stat().st_size
    cut_off(folder, "create")
    if place < 0:  # longer already, and no block has moved
        os.truncate(file, size + grown(folder))
    else:
        _fallocate(file, _INSERT, place * BLOCK, grown(folder))
    open_checkpoint(folder)
    assert contents(folder) == contents(tmp_path / "yi-llama")


def grown(folder: Path) -> int:
    """Bytes by which the journal says that the weights grow."""
    steps = journal.decode((folder / JOURNAL).read_bytes(), folder / JOURNAL)
    assert steps is not None
    return steps.weights[0].insert
