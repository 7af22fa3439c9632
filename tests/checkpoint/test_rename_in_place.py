"""`zhen rename --in-place`: what the copy gives, and the files that it leaves alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from renames import WriteYi, by_reference, contents, renamed

import zhen.checkpoint.rename as rename_module
from zhen.checkpoint.disk import locked
from zhen.checkpoint.proof import hash_tensors
from zhen.checkpoint.reader import open_checkpoint
from zhen.cli.app import run
from zhen.errors import ZhenError


@pytest.mark.usefixtures("inserts")
@pytest.mark.parametrize("shape", [{}, {"dtype": "F32", "layers": 30, "shard_bytes": 10**9}])
def test_in_place_gives_what_the_copy_gives_and_back_again(tmp_path: Path, write_yi: WriteYi, shape: Any) -> None:
    folder = write_yi(tmp_path / "yi", **shape)
    before = by_reference(folder)
    renamed(folder, out=tmp_path / "copy")
    done = renamed(folder, in_place=True)
    assert contents(folder) == contents(tmp_path / "copy")
    assert (done.bytes_copied, done.verified) == (0, True)
    renamed(folder, "yi", in_place=True)
    assert by_reference(folder) == before
    assert open_checkpoint(folder).config["model_type"] == "Yi"  # type: ignore[index]


@pytest.mark.usefixtures("inserts")
@pytest.mark.parametrize("link", ["hard", "symbolic"])
def test_linked_files_are_not_touched_in_place_without_force(tmp_path: Path, write_yi: WriteYi, link: str) -> None:
    folder = write_yi(tmp_path / "yi", shard_bytes=10**9)
    file, blob = folder / "model.safetensors", tmp_path / "blob"
    os.link(file, blob)
    if link == "symbolic":
        file.unlink()
        file.symlink_to(blob)
    before = contents(tmp_path)
    with pytest.raises(ZhenError, match="link"):
        renamed(folder, in_place=True)
    assert contents(tmp_path) == before
    assert renamed(folder, in_place=True, force=True).verified
    assert blob.read_bytes() == file.read_bytes() != before["blob"]


@pytest.mark.usefixtures("inserts")
def test_a_file_that_is_open_elsewhere_is_not_touched_in_place(tmp_path: Path, write_yi: WriteYi) -> None:
    folder = write_yi(tmp_path / "yi", shard_bytes=10**9)
    with (folder / "model.safetensors").open("rb"), pytest.raises(ZhenError, match="open in another process"):
        renamed(folder, in_place=True)
    assert renamed(folder, in_place=True).verified


@pytest.mark.usefixtures("inserts")
def test_a_sparse_file_is_not_touched_in_place(tmp_path: Path, write_yi: WriteYi) -> None:
    folder = write_yi(tmp_path / "yi", layers=40, dtype="F32", shard_bytes=10**9)
    file = folder / "model.safetensors"
    data = file.read_bytes()
    with file.open("wb") as sparse:
        sparse.write(data[: 8 + int.from_bytes(data[:8], "little")])
        sparse.truncate(len(data))
    with pytest.raises(ZhenError, match="sparse"):
        renamed(folder, in_place=True)


def test_without_insert_range_the_copy_is_offered(
    tmp_path: Path, write_yi: WriteYi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_yi(tmp_path / "yi")
    before = contents(folder)
    monkeypatch.setattr(rename_module, "can_insert", lambda folder, length: False)
    monkeypatch.setenv("ZHEN_LAUNCHED", "1")
    assert run(["rename", str(folder), "--to", "llama", "--in-place"]) == 2
    said = capsys.readouterr().err
    assert "can't insert room" in said
    assert "hint: ext4 and XFS can; leave out --in-place" in said
    assert contents(folder) == before


def test_names_that_fit_the_old_header_need_no_insert(
    tmp_path: Path, write_yi: WriteYi, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_yi(tmp_path / "yi")
    renamed(folder)
    monkeypatch.setattr(rename_module, "can_insert", lambda folder, length: False)
    sizes = {file.name: file.stat().st_size for file in (tmp_path / "yi-llama").glob("*.safetensors")}
    renamed(tmp_path / "yi-llama", "yi", in_place=True)
    assert {file.name: file.stat().st_size for file in (tmp_path / "yi-llama").glob("*.safetensors")} == sizes
    assert by_reference(tmp_path / "yi-llama") == by_reference(folder)


@pytest.mark.usefixtures("inserts")
def test_a_tensor_with_another_hash_puts_the_old_checkpoint_back(
    tmp_path: Path, write_yi: WriteYi, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_yi(tmp_path / "yi")
    before = contents(folder)

    def damaged(tensors: Any, report: Any) -> dict[str, str]:
        found = hash_tensors(tensors, report)
        return found | {name: "0" * 64 for name in found if name == "model.layers.0.input_layernorm.weight"}

    monkeypatch.setattr(rename_module, "hash_tensors", damaged)
    with pytest.raises(ZhenError, match="SHA-256 0000"):
        renamed(folder, in_place=True)
    assert contents(folder) == before
    with pytest.raises(ZhenError, match="SHA-256 0000"):
        renamed(folder)
    assert {path.name for path in tmp_path.iterdir()} == {"yi"}


@pytest.mark.usefixtures("inserts")
def test_two_renames_do_not_run_at_once(tmp_path: Path, write_yi: WriteYi) -> None:
    folder = write_yi(tmp_path / "yi")
    with locked(folder), pytest.raises(ZhenError, match="being renamed by another process"):
        renamed(folder, in_place=True)
