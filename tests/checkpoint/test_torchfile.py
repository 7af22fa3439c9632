"""PyTorch's files against torch.save and torch.load(weights_only=True), which are the oracles for the tensors."""

from __future__ import annotations

import collections
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.writer import write_safetensors
from zhen.errors import ZhenError

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
}


def filled(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape) + 1)
    return (torch.randn(*shape, generator=generator) * 50).to(dtype)


def same_as_torch(file: Path, loaded: Any = None) -> None:
    theirs = torch.load(file, weights_only=True, map_location="cpu") if loaded is None else loaded
    checkpoint = open_checkpoint(file)
    assert checkpoint.kind == "torch"
    assert checkpoint.tensors.keys() == {name for name, value in theirs.items() if isinstance(value, torch.Tensor)}
    for name, info in checkpoint.tensors.items():
        assert (info.dtype, info.shape) == (DTYPES[theirs[name].dtype], tuple(theirs[name].shape))
        plain = theirs[name].detach().contiguous().reshape(-1)
        assert bytes(checkpoint.read(name)) == bytes(plain.view(torch.uint8).numpy() if plain.numel() else b"")


@pytest.mark.parametrize("zip_format", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_dtype_is_read_as_torch_reads_it(tmp_path: Path, zip_format: bool, protocol: int) -> None:
    table = {str(dtype): filled(3, 5, dtype=dtype) for dtype in DTYPES} | {"empty": torch.zeros(0, 4)}
    file = tmp_path / "pytorch_model.bin"
    torch.save(table, file, _use_new_zipfile_serialization=zip_format, pickle_protocol=protocol)
    same_as_torch(file, table if protocol > 2 else None)  # torch's own reader warns of later protocols


@pytest.mark.parametrize("zip_format", [True, False])
def test_views_of_a_storage_are_read_as_torch_reads_them(tmp_path: Path, zip_format: bool) -> None:
    base = filled(6, 8)
    odd = filled(2, 3, 4, dtype=torch.bfloat16).permute(2, 0, 1)
    table = {"base": base, "tied": base, "transposed": base.T, "rows": base[2:4], "stepped": base[::2, 1::3]}
    table |= {"odd": odd, "parameter": torch.nn.Parameter(filled(4)), "scalar": filled(1)[0]}
    table |= {"complex": torch.complex(filled(3, 4), filled(3, 4)).T}
    file = tmp_path / "x.pth"
    torch.save(table, file, _use_new_zipfile_serialization=zip_format)
    same_as_torch(file)


def test_a_modules_state_is_read(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    file = tmp_path / "x.pt"
    torch.save(module.state_dict(), file)
    same_as_torch(file)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "module"])
def test_a_trainers_wrapper_is_opened_and_the_rest_noted(tmp_path: Path, wrapper: str) -> None:
    file = tmp_path / "x.pt"
    inner = collections.OrderedDict(a=filled(2), note="x")
    torch.save({wrapper: inner, "epoch": 3, "optimizer": {"state": {0: {"step": filled(1)}}}}, file)
    same_as_torch(file, inner)
    notes = open_checkpoint(file).notes
    assert "also there: epoch, optimizer" in notes[0]
    assert "not read: note" in notes[1]


@pytest.mark.parametrize("value", [filled(2), [filled(2)], {"a": {"b": filled(2)}}, {"lr": 1.0}, {}])
def test_no_table_of_tensors_is_said(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(ZhenError, match=r"a flat table of tensors.*torch\.table"):
        open_checkpoint(tmp_path / "x.pt")


def test_the_other_byte_order_is_turned(tmp_path: Path) -> None:
    table = {"a": filled(3, 2), "b": filled(4, dtype=torch.bool), "c": torch.complex(filled(3), filled(3))}
    torch.save(table, tmp_path / "little.pt")
    swapped = tmp_path / "big.pt"
    with zipfile.ZipFile(tmp_path / "little.pt") as old, zipfile.ZipFile(swapped, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("byteorder"):
                data = b"big"
            elif "/data/" in name and len(data) != 4:
                data = b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4))
            new.writestr(name, data)
    same_as_torch(swapped, table)


def test_shards_are_read_by_their_index(tmp_path: Path) -> None:
    parts = {"pytorch_model-00001-of-00002.bin": {"a": filled(2)}, "pytorch_model-00002-of-00002.bin": {"b": filled(3)}}
    for name, table in parts.items():
        torch.save(table, tmp_path / name)
    weight_map = {tensor: name for name, table in parts.items() for tensor in table}
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    for path in (tmp_path, index):
        assert sorted(open_checkpoint(path).tensors) == ["a", "b"]
    for wrong in ({"a": weight_map["b"]}, {"c": weight_map["a"]}, {"a": "../x.bin"}):
        index.write_text(json.dumps({"weight_map": weight_map | wrong}))
        with pytest.raises(ZhenError, match=r"tensor '[ac]'|plain file name"):
            open_checkpoint(tmp_path)


def test_a_folder_with_one_file_is_read(tmp_path: Path) -> None:
    torch.save({"a": filled(2)}, tmp_path / "pytorch_model.bin")
    assert list(open_checkpoint(tmp_path).tensors) == ["a"]
    torch.save({"b": filled(2)}, tmp_path / "pytorch_model-2.bin")
    with pytest.raises(ZhenError, match="no pytorch_model"):
        open_checkpoint(tmp_path)


def test_content_decides_and_not_the_name(tmp_path: Path) -> None:
    torch.save({"a": filled(2)}, tmp_path / "a.safetensors")
    assert open_checkpoint(tmp_path / "a.safetensors").kind == "torch"
    write_safetensors(tmp_path / "b.bin", [("b", "U8", [1], b"x")], {})
    assert open_checkpoint(tmp_path / "b.bin").kind == "safetensors"
