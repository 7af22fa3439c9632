"""The strict reader against the reference: what safetensors refuses we refuse; what we accept it reads as we do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize

from zhen.checkpoint.safetensors import BITS, read_header
from zhen.checkpoint.writer import write_safetensors
from zhen.errors import ZhenError

CHECKED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def reference(data: bytes) -> dict[str, tuple[str, list[int], bytes]] | None:
    try:
        return {name: (t["dtype"], t["shape"], bytes(t["data"])) for name, t in deserialize(data)}
    except SafetensorError:
        return None


def ours(file: Path, data: bytes) -> dict[str, tuple[str, list[int], bytes]] | None:
    file.write_bytes(data)
    try:
        header = read_header(file)
    except ZhenError:
        return None
    return {n: (t.dtype, list(t.shape), data[t.begin : t.end]) for n, t in header.tensors.items()}


def agree(file: Path, data: bytes) -> bool:
    """Whether we accept `data`; fails if we accept what the reference refuses, or read it otherwise."""
    mine = ours(file, data)
    if mine is None:
        return False
    theirs = reference(data)
    assert theirs is not None, f"accepted what safetensors refuses: {data[:300]!r}"
    assert mine == theirs
    return True


@st.composite
def tensor_lists(draw: st.DrawFn) -> list[tuple[str, str, list[int], bytes]]:
    names = draw(st.lists(st.text(min_size=1, max_size=6).filter(_encodes), unique=True, max_size=5))
    found = []
    for name in names:
        dtype, shape = draw(st.sampled_from(sorted(BITS))), draw(st.lists(st.integers(0, 4), max_size=3))
        if BITS[dtype] < 8:  # whole bytes only
            shape = [*shape, 8]
        elements = 1
        for dimension in shape:
            elements *= dimension
        size = elements * BITS[dtype] // 8
        found.append((name, dtype, shape, draw(st.binary(min_size=size, max_size=size))))
    return found


def _encodes(name: str) -> bool:
    return name != "__metadata__" and all(not 0xD800 <= ord(c) < 0xE000 for c in name)


def test_the_format_has_22_dtypes() -> None:
    assert len(BITS) == 22


@CHECKED
@given(tensor_lists(), st.dictionaries(st.text(max_size=3).filter(_encodes), st.text(max_size=3).filter(_encodes)))
def test_what_we_write_the_reference_reads(tmp_path: Path, tensors: Any, metadata: dict[str, str]) -> None:
    file = tmp_path / "a.safetensors"
    digest = write_safetensors(file, tensors, metadata)
    data = file.read_bytes()
    assert digest.bytes == len(data)
    assert (len(data) - sum(len(t[3]) for t in tensors)) % 8 == 0
    assert agree(file, data)
    read = ours(file, data)
    assert read == {name: (dtype, shape, content) for name, dtype, shape, content in tensors}
    assert read_header(file).metadata == metadata
    begins = [(t.begin, BITS[t.dtype]) for t in read_header(file).tensors.values()]
    assert all(begin % max(1, bits // 8) == 0 for begin, bits in begins)


HEADER = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
    "b": {"dtype": "U8", "shape": [4], "data_offsets": [12, 16]},
    "c": {"dtype": "F32", "shape": [], "data_offsets": [16, 20]},
}
DATA = bytes(range(20))


def pack(header: bytes | str | dict[str, Any], data: bytes = DATA) -> bytes:
    text = json.dumps(header) if isinstance(header, dict) else header
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(8, "little") + raw + data


def test_the_unchanged_file_is_accepted(tmp_path: Path) -> None:
    assert agree(tmp_path / "a.safetensors", pack(HEADER))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255), st.sampled_from("rid")), min_size=1, max_size=3))
def test_no_mutated_file_is_accepted_unless_the_reference_reads_the_same(tmp_path: Path, changes: Any) -> None:
    data = bytearray(pack(HEADER))
    for at, byte, kind in changes:
        at %= len(data)
        if kind == "r":
            data[at] = byte
        elif kind == "i":
            data.insert(at, byte)
        else:
            del data[at]
    agree(tmp_path / "a.safetensors", bytes(data))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**65) | st.floats() | st.sampled_from(["F32", "U8", "F4", "", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["dtype", "shape", "x"]), inner),
    max_leaves=4,
)


@CHECKED
@given(
    st.sampled_from(["a", "b", "c", "d", "__metadata__"]),
    st.sampled_from(["dtype", "shape", "data_offsets", ""]),
    json_values,
)
def test_no_strange_header_is_accepted_unless_the_reference_reads_the_same(
    tmp_path: Path, name: str, field: str, value: Any
) -> None:
    header = json.loads(json.dumps(HEADER))
    if field:
        header.setdefault(name, {})[field] = value
    else:
        header[name] = value
    agree(tmp_path / "a.safetensors", pack(header))


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    tensors = [("b", "U8", [3], b"abc"), ("a", "F32", [1], b"1234"), ("c", "U8", [1], b"z")]
    one = write_safetensors(tmp_path / "1", tensors, {"format": "pt"})
    assert one == write_safetensors(tmp_path / "2", tensors, {"format": "pt"})
    assert list(read_header(tmp_path / "1").tensors) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "tensors",
    [
        [("a", "F32", [2], b"1234")],
        [("a", "F32", [1], b"1234"), ("a", "U8", [0], b"")],
        [("__metadata__", "U8", [0], b"")],
        [("", "U8", [0], b"")],
        [("a", "f32", [1], b"1234")],
        [("a", "F4", [1], b"1")],
        [("a", "U8", [-1], b"")],
    ],
)
def test_what_the_format_cannot_hold_is_not_written(tmp_path: Path, tensors: Any) -> None:
    with pytest.raises(ZhenError):
        write_safetensors(tmp_path / "a.safetensors", tensors, {})
    assert list(tmp_path.iterdir()) == []
