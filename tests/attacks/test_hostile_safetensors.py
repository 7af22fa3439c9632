"""Hostile safetensors files: each is refused, and the message names file, place and numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import deserialize

from zhen.checkpoint import safetensors
from zhen.checkpoint.reader import open_checkpoint
from zhen.errors import ZhenError


def pack(header: str | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    raw = header.encode() if isinstance(header, str) else header
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def tensor(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4), **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def one(**changes: Any) -> bytes:
    text = json.dumps({"w": tensor(**changes)})
    return pack(text + " " * (-len(text) % 8), b"1234")


TEXT = json.dumps(tensor())
HUGE = 2**63
ATTACKS: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "0 bytes"),
    "seven bytes": (b"\x01" * 7, "7 bytes"),
    "header longer than the file": (pack("{}", length=1000), "1000 bytes"),
    "header of 2^64-1 bytes": (pack("{}", length=2**64 - 1), "18446744073709551615"),
    "header above the limit": (pack("{}", length=100_000_001), "100000001"),
    "no table": (pack("[]"), r"'\[';.*safetensors.table"),
    "byte order mark": (pack(b"\xef\xbb\xbf{}"), r"ufeff.*safetensors.table"),
    "padded with NUL": (pack(b"{}\x00\x00"), "byte 10.*only white space"),
    "nothing but white space": (pack(" \n  "), "safetensors.table"),
    "not UTF-8": (pack(b'{"\xff":1}'), "byte 10 is not UTF-8.*json.utf8"),
    "half a character": (pack('{"\\ud800":' + TEXT + "}", b"1234"), "half a character"),
    "half a character in metadata": (pack('{"__metadata__":{"a":"\\udc00"}}'), "half a character"),
    "cut JSON": (pack('{"w":' + TEXT[:-1] + " "), "not JSON.*json.syntax"),
    "two values": (pack("{}{}"), "json.syntax"),
    "nested without end": (pack('{"a":' + "[" * 200_000 + "}"), "nested|not JSON"),
    "tensor twice": (pack(f'{{"w":{TEXT},"w":{TEXT}}}', b"1234"), "'w' twice"),
    "metadata key twice": (pack('{"__metadata__":{"a":"1","a":"2"}}'), "'a' twice"),
    "field twice": (
        pack('{"w":{"dtype":"U8","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"1234"),
        "'dtype' twice",
    ),
    "escaped name twice": (pack('{"w":' + TEXT + ',"\\u0077":' + TEXT + "}", b"1234"), "'w' twice"),
    "unknown field": (one(extra=1), "'extra'"),
    "missing field": (pack('{"w":{"dtype":"F32","shape":[1]}}', b"1234"), "data_offsets"),
    "tensor as list": (pack('{"w":["F32",[1],[0,4]]}', b"1234"), "a table with"),
    "metadata a list": (pack('{"__metadata__":[]}'), "__metadata__, byte 24.*safetensors.metadata"),
    "metadata with a number": (pack('{"__metadata__":{"a":1}}'), "__metadata__.a"),
    "nameless": (pack('{"":' + TEXT + "}", b"1234"), "without a name"),
    "unknown dtype": (one(dtype="F128"), "F128"),
    "lower-case dtype": (one(dtype="f32"), "f32"),
    "dtype no string": (one(dtype=32), "dtype 32"),
    "negative size": (one(shape=[-1]), r"shape \[-1\]"),
    "size with a point": (pack('{"w":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}', b"1234"), r"shape \[1.0\]"),
    "size minus zero": (pack('{"w":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}'), "-0"),
    "size true": (one(shape=[True]), "True"),
    "size of 5,000 digits": (
        pack('{"w":{"dtype":"F32","shape":[' + "9" * 5000 + '],"data_offsets":[0,4]}}'),
        "number 9999",
    ),
    "sizes without end": (
        pack('{"w":{"dtype":"F32","shape":[' + "1," * 50_000 + '1],"data_offsets":[0,4]}}', b"1234"),
        "json.long",
    ),
    "size is NaN": (pack('{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}'), "NaN"),
    "product wraps to the right size": (one(shape=[2**62, 4, 1]), r"2\^64"),
    "product wraps, then 0": (pack(json.dumps({"w": tensor(shape=[HUGE, 4, 0], offsets=[0, 0])})), r"2\^64"),
    "bits wrap": (one(shape=[2**60 + 1]), r"2\^64"),
    "shape and bytes differ": (one(shape=[2]), "4 bytes; expected 8 bytes"),
    "half bytes": (pack(json.dumps({"w": tensor("F4", [3], [0, 1])}), b"1"), "12 bits"),
    "begin behind end": (one(offsets=[4, 0]), r"\[4, 0\]"),
    "end behind the file": (one(shape=[2], offsets=[0, 8]), r"\[0, 8\]"),
    "three offsets": (one(offsets=[0, 2, 4]), r"\[0, 2, 4\]"),
    "gap at the start": (pack(json.dumps({"w": tensor("U8", [3], [1, 4])}), b"1234"), "a hole"),
    "overlap": (pack(json.dumps({"a": tensor(), "b": tensor("U8", [2], [2, 4])}), b"1234"), "an overlap"),
    "same bytes twice": (pack(json.dumps({"a": tensor(), "b": tensor()}), b"1234"), "an overlap"),
    "bytes behind": (pack(json.dumps({"w": tensor()}), b"1234 hidden"), "7 bytes behind"),
    "bytes without tensors": (pack("{}", b"x"), "1 bytes behind"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "Git LFS"),
    "web page": (b"<!DOCTYPE html><html></html>", "web page"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_it_is_refused(name: str, tmp_path: Path) -> None:
    content, message = ATTACKS[name]
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(ZhenError, match=message) as caught:
        open_checkpoint(file)
    assert str(file) in caught.value.text()
    assert (caught.value.rule or "").startswith(("safetensors.", "json."))
    assert len(caught.value.text()) < 600


def test_names_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors, "_NAMES", 10)
    names = {str(number): tensor("U8", [0], [0, 0]) for number in range(11)}
    for table in (names, {"__metadata__": dict.fromkeys(names, "")}):
        (tmp_path / "model.safetensors").write_bytes(pack(json.dumps(table)))
        with pytest.raises(ZhenError, match=r"more than 10 names.*safetensors\.count"):
            open_checkpoint(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(ZhenError, match=r"safetensors\.file"):
        open_checkpoint(tmp_path)


UNUSUAL: dict[str, tuple[str, str | None, str]] = {
    "blank before": (" " * 7 + "\n", "", "white space"),
    "newlines behind": ("", "\r\n\t ", "white space"),
    "metadata null": ("", None, "__metadata__ is null"),
    "unaligned": ("", " ", "not aligned"),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_the_unusual_is_read_with_a_note_as_the_reference_reads_it(name: str, tmp_path: Path) -> None:
    before, behind, note = UNUSUAL[name]
    table = {"__metadata__": None} if behind is None else {}
    text = json.dumps(table | {"w": tensor(), "v": tensor("U8", [3], [4, 7])})
    text = text + " " * (-len(text) % 8) if behind is None else before + text + " " * (-len(text) % 8) + behind
    data = pack(text, b"1234567")
    (tmp_path / "model.safetensors").write_bytes(data)
    checkpoint = open_checkpoint(tmp_path)
    assert any(note in each for each in checkpoint.notes)
    reference = {each: bytes(found["data"]) for each, found in deserialize(data)}
    assert {each: bytes(checkpoint.read(each)) for each in checkpoint.tensors} == reference


def shards(folder: Path, index: dict[str, Any] | str, **files: bytes) -> Path:
    text = index if isinstance(index, str) else json.dumps(index)
    (folder / "model.safetensors.index.json").write_text(text)
    for name, content in files.items():
        (folder / f"{name}.safetensors").write_bytes(content)
    return folder


OUTSIDE = ["../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "..", "", "a\\b.safetensors", "x.bin", 7, None]


@pytest.mark.parametrize("shard", OUTSIDE)
def test_an_index_cannot_leave_its_folder(shard: Any, tmp_path: Path) -> None:
    with pytest.raises(ZhenError, match=r"weight_map 'w'.*plain file name"):
        open_checkpoint(shards(tmp_path, {"weight_map": {"w": shard}}))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {"w": "a.safetensors", "v": "a.safetensors"}}, "'v'.*missing"),
        ({"weight_map": {}}, "no tensors"),
        ({"weight_map": {"w": "b.safetensors"}}, "b.safetensors: missing"),
        ({"weight_map": {"v": "a.safetensors"}}, "'w'.*not listed"),
        ({"metadata": {}}, "no weight_map"),
        ([], "no weight_map"),
        ('{"weight_map":{"w":"a.safetensors","w":"a.safetensors"}}', "'w' twice"),
        ("{", "not JSON"),
    ],
)
def test_an_index_that_lies_is_refused(index: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ZhenError, match=message) as caught:
        open_checkpoint(shards(tmp_path, index, a=one()))
    assert (caught.value.rule or "").startswith(("index.", "json."))


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    index = {"weight_map": {"w": "a.safetensors", "v": "b.safetensors"}}
    both = pack(json.dumps({"w": tensor("U8", [2], [0, 2]), "v": tensor("U8", [2], [2, 4])}), b"1234")
    with pytest.raises(ZhenError, match="not listed"):
        open_checkpoint(shards(tmp_path, index, a=one(), b=both))


def test_a_wrong_total_and_a_stray_shard_are_noted(tmp_path: Path) -> None:
    index = {"metadata": {"total_size": 5}, "weight_map": {"w": "a.safetensors"}}
    notes = open_checkpoint(shards(tmp_path, index, a=one(), stray=one())).notes
    assert "total_size 5; the tensors have 4 bytes" in notes[0]
    assert "stray.safetensors" in notes[1]


def test_two_answers_to_which_weights_are_refused(tmp_path: Path) -> None:
    shards(tmp_path, {"weight_map": {"w": "a.safetensors"}}, a=one(), model=one())
    with pytest.raises(ZhenError, match="both"):
        open_checkpoint(tmp_path)


def test_a_lone_file_of_another_format_is_named(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"")
    with pytest.raises(ZhenError, match=r"no \.safetensors") as caught:
        open_checkpoint(tmp_path)
    assert "weights.pt" in (caught.value.hint or "")


def test_other_formats_beside_safetensors_are_noted_not_read(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(one())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert open_checkpoint(tmp_path).notes == ["also here and not read: pytorch_model.bin"]


def test_reading_a_checkpoint_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(one())
    code = (
        "import sys; from zhen.checkpoint.inspect import inspect_checkpoint; "
        f"inspect_checkpoint({str(tmp_path)!r}); sys.exit(bool({{'torch', 'numpy'}} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
