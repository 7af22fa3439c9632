"""Hostile files of torch.save: each is refused with its rule and place, and nothing in it is ever run or imported."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zhen.checkpoint import pickles, torchfile
from zhen.checkpoint.reader import open_checkpoint
from zhen.errors import ZhenError

PLAIN = {"a": torch.arange(6, dtype=torch.float32).reshape(2, 3), "b": torch.arange(4)}


class Calls:
    """Pickles as a call of `function`; a pickle of it is built here and never loaded."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class Made:
    """Pickles as an object of a class of its own."""


def saved(value: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def rezipped(data: bytes, change: Callable[[dict[str, bytes]], Any], **options: Any) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        members = {name: old.read(name) for name in old.namelist()}
    change(members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", **options) as new:
        for name, content in members.items():
            new.writestr(name, content)
    return out.getvalue()


def with_pickle(content: bytes) -> bytes:
    return rezipped(saved(PLAIN), lambda members: members.update({"archive/data.pkl": content}))


def picklings() -> dict[str, tuple[bytes, str]]:
    found = {}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        called = pickle.dumps({"w": Calls(os.system, "true")}, protocol)
        found[f"os.system, protocol {protocol}"] = called, "pickle.name|pickle.opcode"
        found[f"an object, protocol {protocol}"] = pickle.dumps(Made(), protocol), "pickle.name|pickle.opcode"
    return found | {
        "importlib.import_module": (pickle.dumps(Calls(__import__, "os"), 2), "pickle.name"),
        "getattr": (
            pickle.dumps(Calls(getattr, "a", "b"), 2),
            "pickle.name",
        ),
        "INST": (b"(S'true'\nios\nsystem\n.", "pickle.opcode"),
        "OBJ": (b"(ccollections\nOrderedDict\no.", "pickle.opcode"),
        "NEWOBJ": (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "pickle.opcode"),
        "NEWOBJ_EX": (b"\x80\x04\x8c\x0bcollections\x8c\x0bOrderedDict\x93)}\x92.", "pickle.opcode"),
        "EXT1": (b"\x80\x02\x82\x01.", "pickle.opcode"),
        "EXT4": (b"\x80\x02\x84\x01\x00\x00\x00.", "pickle.opcode"),
        "STACK_GLOBAL from the memo": (b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93.", "pickle.name"),
        "name with a dot": (b"\x80\x04\x8c\x05torch\x8c\x08hub.load\x93.", "pickle.name"),
        "BUILD on a tuple": (b"\x80\x02)}b.", "pickle.shape"),
        "SETITEM on a list": (b"\x80\x02]K\x00K\x01s.", "pickle.shape"),
        "calling a table": (b"\x80\x02})R.", "pickle.shape"),
        "calling a storage": (b"\x80\x02ctorch\nFloatStorage\n)R.", "pickle.shape"),
        "popped": (b"\x80\x02cos\nsystem\n0}.", "pickle.name"),
        "two pickles": (pickle.dumps({}, 2) + pickle.dumps({}, 2), "pickle.trailing"),
        "no STOP": (pickle.dumps({}, 2)[:-1], "pickle.broken"),
        "unknown opcode": (b"\x80\x02\xff.", "pickle.broken"),
        "an odd escape": (b"S'\\z'\n0.", "pickle.opcode"),
        "empty": (b"", "pickle.broken"),
        "empty stack": (b"\x80\x02.", "pickle.broken"),
        "an unfilled memo": (b"\x80\x02h\x07.", "pickle.broken"),
        "two values": (b"\x80\x02NN.", "pickle.broken"),
        "no mark": (b"\x80\x02t.", "pickle.broken"),
        "tuples in tuples as a key": (b"\x80\x02})" + b"q\x00h\x00\x86" * 60 + b"K\x01s.", "pickle.shape"),
        "tuples in tuples in a set": (b"\x80\x04\x8f()" + b"q\x00h\x00\x86" * 60 + b"\x90.", "pickle.shape"),
        "a number for a table": (b"\x80\x02K\x01.", "torch.table"),
        "a number of 100,000 digits": (b"I" + b"9" * 100_000 + b"\n.", "pickle.broken"),
    }


def tensor(storage: bytes = b"ctorch\nFloatStorage\n", key: bytes = b"0", elements: int = 6, **more: bytes) -> bytes:
    """A pickle of one tensor of shape [2, 3], with a part of it replaced."""
    begin = b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
    begin += storage + b"X" + struct.pack("<I", len(key)) + key + b"X\x03\x00\x00\x00cpu"
    begin += b"\x8a\x08" + struct.pack("<q", elements) + b"tQ"
    rest = {"offset": b"K\x00", "shape": b"K\x02K\x03\x86", "strides": b"K\x03K\x01\x86"} | more
    return begin + b"".join(rest.values()) + b"\x89ccollections\nOrderedDict\n)RtRs."


def layouts() -> dict[str, tuple[bytes, str]]:
    return {
        "storage of another size": (tensor(elements=7), "torch.storage"),
        "storage of no size": (tensor(elements=-1), "pickle.shape"),
        "storage of 2^62": (tensor(elements=2**62), "torch.storage"),
        "storage that is not there": (tensor(key=b"7"), "torch.storage"),
        "storage that leads elsewhere": (tensor(key=b"../version"), "torch.storage"),
        "storage of another type": (tensor(storage=b"ctorch\nDoubleStorage\n"), "torch.storage"),
        "storage without a type": (tensor(storage=b"ccollections\nOrderedDict\n"), "pickle.shape"),
        "offset behind": (tensor(offset=b"K\x01"), "pickle.tensor"),
        "offset below 0": (tensor(offset=b"J\xff\xff\xff\xff"), "pickle.shape"),
        "shape too large": (tensor(shape=b"K\x03K\x03\x86"), "pickle.tensor"),
        "negative shape": (tensor(shape=b"J\xfe\xff\xff\xffK\x03\x86"), "pickle.shape"),
        "shape true": (tensor(shape=b"\x88K\x03\x86"), "pickle.shape"),
        "strides too large": (tensor(strides=b"K\x04K\x01\x86"), "pickle.tensor"),
        "negative strides": (tensor(strides=b"J\xfd\xff\xff\xffK\x01\x86"), "pickle.shape"),
        "one stride": (tensor(strides=b"K\x03\x85"), "pickle.tensor"),
        "expanded without end": (
            tensor(shape=b"\x8a\x06\x00\x00\x00\x00\x00\x01K\x03\x86", strides=b"K\x00K\x01\x86"),
            "pickle.tensor",
        ),
    }


ATTACKS = picklings() | layouts()


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_description_is_refused(name: str, tmp_path: Path) -> None:
    content, rule = ATTACKS[name]
    file = tmp_path / "pytorch_model.bin"
    file.write_bytes(with_pickle(content))
    with pytest.raises(ZhenError, match=r"\[(" + rule.replace(".", r"\.") + r")\]") as caught:
        open_checkpoint(file)
    assert str(file) in caught.value.text()
    assert len(caught.value.text()) < 600


def test_the_pickle_of_the_attacks_is_otherwise_good(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(with_pickle(tensor()))
    checkpoint = open_checkpoint(tmp_path / "a.pt")
    assert bytes(checkpoint.read("a")) == PLAIN["a"].numpy().tobytes()


def compressed(data: bytes) -> bytes:
    return rezipped(data, lambda members: None, compression=zipfile.ZIP_DEFLATED)


def twice(data: bytes) -> bytes:
    out = io.BytesIO(rezipped(data, lambda members: None))
    with warnings.catch_warnings(), zipfile.ZipFile(out, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("archive/data.pkl", b"cos\nsystem\n.")
    return out.getvalue()


def flipped(at: Callable[[bytes], int], bits: int = 1) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        place = at(data)
        return data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]

    return change


def directory(data: bytes) -> int:
    return data.index(b"PK\x01\x02")


ARCHIVES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "compressed": (compressed, "zip.compressed"),
    "a member twice": (twice, "zip.duplicate"),
    "bytes behind": (lambda data: data + b"x", "zip.trailing"),
    "a comment": (lambda data: data[:-2] + b"\x01\x00x", "zip.trailing"),
    "bytes in front": (lambda data: b"PK\x03\x04" + data, "zip.gap"),
    "bytes between": (
        lambda data: data[: directory(data)] + b"hidden" + data[directory(data) :],
        "zip.gap|zip.broken",
    ),
    "other name in the directory": (flipped(lambda data: directory(data) + 46 + 8), "zip.headers"),
    "other checksum in the directory": (flipped(lambda data: directory(data) + 16), "zip.headers"),
    "encrypted by the directory": (flipped(lambda data: directory(data) + 8), "zip.flags"),
    "encrypted by the member": (flipped(lambda data: 6), "zip.headers"),
    "other method in the member": (flipped(lambda data: 8, 8), "zip.headers"),
    "another pickle than the checksum says": (flipped(lambda data: data.index(b"storage")), "zip.checksum"),
    "cut": (lambda data: data[:-30], "zip.broken"),
    "TorchScript": (
        lambda data: rezipped(data, lambda members: members.update({"archive/code/a.py": b""})),
        "torch.members",
    ),
    "two descriptions": (
        lambda data: rezipped(data, lambda members: members.update({"other/data.pkl": b""})),
        "torch.members",
    ),
    "no description": (lambda data: rezipped(data, lambda members: members.pop("archive/data.pkl")), "torch.members"),
    "another byte order": (
        lambda data: rezipped(data, lambda members: members.update({"archive/byteorder": b"middle"})),
        "torch.byteorder",
    ),
}


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("by_torch", [True, False])
def test_a_hostile_archive_is_refused(name: str, by_torch: bool, tmp_path: Path) -> None:
    change, rule = ARCHIVES[name]
    data = saved(PLAIN) if by_torch else rezipped(saved(PLAIN), lambda members: None)
    (tmp_path / "a.pt").write_bytes(change(data))
    with pytest.raises(ZhenError, match=r"\[(" + rule.replace(".", r"\.") + r")\]"):
        open_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda data: data + b"x", "torch.storage"),
        (lambda data: data[:-1], "torch.storage"),
        (lambda data: data[:40], "pickle.broken"),
        (lambda data: pickle.dumps({"a": 1}, 2), "torch.magic"),
        (lambda data: pickle.dumps(Calls(os.system, "true"), 2), "pickle.name"),
        (lambda data: data.replace(b"torch\nFloatStorage", b"torch\nHalfStorage", 1), "torch.storage"),
    ],
)
def test_a_hostile_file_of_the_old_format_is_refused(
    change: Callable[[bytes], bytes], rule: str, tmp_path: Path
) -> None:
    (tmp_path / "a.pt").write_bytes(change(saved(PLAIN, _use_new_zipfile_serialization=False)))
    with pytest.raises(ZhenError, match=r"\[" + rule.replace(".", r"\.") + r"\]"):
        open_checkpoint(tmp_path / "a.pt")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([True, False]),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_no_changed_byte_is_a_crash(tmp_path: Path, zip_format: bool, changes: list[tuple[int, int]]) -> None:
    data = bytearray(saved(PLAIN, _use_new_zipfile_serialization=zip_format))
    for at, value in changes:
        data[at % len(data)] = value
    (tmp_path / "a.pt").write_bytes(data)
    try:
        checkpoint = open_checkpoint(tmp_path / "a.pt")
    except ZhenError:
        return
    for name, info in checkpoint.tensors.items():
        assert len(checkpoint.read(name)) == info.elements * {"F32": 4, "I64": 8}.get(info.dtype, info.elements)


def test_nothing_is_imported_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(with_pickle(b"\x80\x02cthis\ns\n."))
    (tmp_path / "b.pt").write_bytes(saved(PLAIN))
    code = (
        "import sys; from pathlib import Path; from zhen.checkpoint.torchfile import open_torch, says; "
        f"print(says(Path({str(tmp_path / 'a.pt')!r}))); open_torch({str(tmp_path / 'b.pt')!r}); "
        "sys.exit(bool({'this', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (
        0,
        "it names this.s (data.pkl, byte 2), and loading it may run any program\n",
    )


def test_what_a_file_holds_is_said(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    file.write_bytes(saved(PLAIN))
    assert torchfile.says(file) == "it holds only tensors"
    file.write_bytes(pickle.dumps(Calls(os.system, "true"), 2))
    assert torchfile.says(file).startswith("it names posix.system (pickle, byte 2), and loading")
    file.write_bytes(pickle.dumps(Calls(os.system, "true"), 0))
    assert torchfile.says(file).startswith("it names posix.system (pickle, byte 0), and loading")
    file.write_bytes(b"(ios\nsystem\n.")
    assert "uses the opcode INST" in torchfile.says(file)
    file.write_bytes(b"\x1f\x8b packed")
    assert torchfile.says(file) == "loading it may run any program"


def test_22_names_are_known() -> None:
    assert len(pickles.ALLOWED) == 22
