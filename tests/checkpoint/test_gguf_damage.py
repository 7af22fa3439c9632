"""GGUF files of any content and damaged ones: read as the gguf package reads them, or refused."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import pytest
from conversions import convert
from gguf_models import CONFIG
from hypothesis import given, settings
from hypothesis import strategies as st

from zhen.checkpoint.gguf import open_gguf, restored_files
from zhen.checkpoint.gguf_header import read_gguf_header
from zhen.checkpoint.gguf_metadata import fingerprint
from zhen.checkpoint.writer import write_sharded
from zhen.errors import ZhenError
from zhen.model.config import to_config_json
from zhen.model.size import shapes

VALUES = st.one_of(
    st.booleans(),
    st.integers(0, 2**32 - 1),
    st.floats(width=32),
    st.text(min_size=1, max_size=9),
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=5),
    st.lists(st.text(max_size=5), min_size=1, max_size=5),
)


@settings(max_examples=60, deadline=None)
@given(
    metadata=st.dictionaries(st.text("abc.", min_size=1, max_size=6), VALUES, max_size=6),
    tensors=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5)), max_size=4),
    cut=st.one_of(st.none(), st.tuples(st.integers(0, 400), st.integers(0, 255))),
    shorter=st.integers(0, 3),
)
def test_headers_of_any_content_and_damaged_ones(
    metadata: dict[str, Any],
    tensors: list[tuple[int, int]],
    cut: tuple[int, int] | None,
    shorter: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    file = tmp_path_factory.mktemp("headers") / "m.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    adders = {bool: "add_bool", int: "add_uint32", float: "add_float32", str: "add_string", list: "add_array"}
    for key, value in metadata.items():
        getattr(writer, adders[type(value)])(key, value)
    for number, (rows, columns) in enumerate(tensors):
        writer.add_tensor(f"t{number}", np.full((rows, columns + 1), number, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if cut is None:
        found = read_gguf_header(file)
        assert found.metadata.keys() == metadata.keys() | {"general.architecture"}
        for key, value in metadata.items():
            assert np.array_equal(found.metadata[key], value, equal_nan=isinstance(value, float))
        opened = open_gguf(file) if "token_embd.weight" in found.tensors else None
        assert opened is None
        return
    data = bytearray(file.read_bytes())
    data[cut[0] % len(data)] = cut[1]
    file.write_bytes(data[: len(data) - shorter])
    try:
        found = read_gguf_header(file)
    except ZhenError:
        return
    # what is accepted lies within the file, and the package finds the same tensors there
    assert all(tensor.end <= len(data) - shorter for tensor in found.tensors.values())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, learned: bytes) -> tuple[Path, bytes, int]:
    """(a folder, a GGUF file with a tokenizer, where its first tensor begins)."""
    folder = tmp_path_factory.mktemp("whole")
    config = msgspec.structs.replace(CONFIG, hidden_size=8, head_dim=2, intermediate_size=8)
    tensors = [(key, "BF16", shape, bytes(2 * math.prod(shape))) for key, shape in shapes(config).items()]
    write_sharded(folder, tensors, 10**9)
    (folder / "config.json").write_text(json.dumps(to_config_json(config, "bfloat16")))
    (folder / "tokenizer.model").write_bytes(learned)
    convert(folder, folder / "m.gguf", "gguf")
    begin = min(tensor.begin for tensor in read_gguf_header(folder / "m.gguf").tensors.values())
    return folder, (folder / "m.gguf").read_bytes(), begin


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_converted_never_a_crash(
    data: st.DataObject, whole: tuple[Path, bytes, int]
) -> None:
    folder, content, begin = whole
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.one_of(st.integers(0, 2500), st.integers(0, begin - 1)))
        new = data.draw(st.binary(max_size=4))
        damaged[at : at + data.draw(st.sampled_from([len(new), len(new), 0, 4]))] = new
    (folder / "damaged.gguf").write_bytes(damaged)
    target = data.draw(st.sampled_from(["llama", "meta", "gguf"]))
    with contextlib.suppress(ZhenError):
        convert(folder / "damaged.gguf", folder / "never", target, dry_run=True)


def test_a_number_where_a_file_should_lie_gives_no_file() -> None:
    said = {"llama.block_count": 1}
    keys = {
        "zhen.file.config.json": 4_000_000_000,
        "zhen.file.../x": "out",
        "config.json": "{}",
        "zhen.file.vocab.json": "{}",
    }
    assert restored_files(said | {"zhen.fingerprint": fingerprint(said)} | keys) == {"vocab.json": b"{}"}
