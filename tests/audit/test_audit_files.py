"""Pickles, code and manifests, told by content; other libraries and hypothesis are the oracles."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zhen.audit.checks import audit_checkpoint
from zhen.audit.files import check_code, check_pickles, looks_pickled
from zhen.audit.folder import Folder, list_files
from zhen.audit.manifest import read_manifest, render_manifest
from zhen.errors import ZhenError
from zhen.formats.files import Digest


def verdicts(folder: Path, check: object) -> list[str]:
    return [finding.verdict for finding in check(Folder(folder, list_files(folder)))]  # type: ignore[operator]


class Called:
    """Pickles as a call."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return (print, (1,))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol_are_known(protocol: int) -> None:
    assert looks_pickled(pickle.dumps(Called(), protocol))
    assert looks_pickled(pickle.dumps({"weights": [1, 2, 3]}, 2))


@given(st.text())
def test_text_is_no_pickle(text: str) -> None:
    assert not looks_pickled(text.encode("utf-8"))


@pytest.mark.parametrize("zip_format", [True, False])
def test_torch_files_are_found_under_any_name(tmp_path: Path, zip_format: bool) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "weights", _use_new_zipfile_serialization=zip_format)
    assert verdicts(tmp_path, check_pickles) == ["fails"]


def test_what_a_pickle_holds_is_in_the_evidence(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.bin")
    (tmp_path / "b.bin").write_bytes(pickle.dumps(Called(), 2))
    first, second = check_pickles(Folder(tmp_path, list_files(tmp_path)))
    assert first.evidence == "a.bin ends in .bin, which loaders unpickle; it holds only tensors"
    assert "it names __builtin__.print (pickle, byte 2), and loading it may run any program" in second.evidence
    assert (first.verdict, first.severity) == (second.verdict, second.severity) == ("fails", "error")


def test_numpy_objects_are_found_and_numbers_are_not(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    assert verdicts(tmp_path, check_pickles) == ["holds"]
    np.save(tmp_path / "b.npy", np.array([{}], dtype=object))
    assert verdicts(tmp_path, check_pickles) == ["fails"]


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480, 0x580])
def test_header_length_that_reads_like_a_pickle_is_none(tmp_path: Path, length: int) -> None:
    header = json.dumps({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode().ljust(length)
    data = struct.pack("<Q", length) + header + b"\0"
    (tmp_path / "model.safetensors").write_bytes(data)
    assert data[0] == 0x80
    assert verdicts(tmp_path, check_pickles) == ["holds"]


@pytest.mark.parametrize(
    "value",
    [
        {"auto_map": {"AutoModel": "repo--modeling.Model"}},
        {"text": [{"custom_pipelines": {"a": {"impl": "b.C"}}}]},
        {"_attn_implementation": "someone/kernel"},
    ],
)
def test_keys_that_name_code_are_found_at_any_depth(tmp_path: Path, value: object) -> None:
    (tmp_path / "any.json").write_text(json.dumps(value))
    assert verdicts(tmp_path, check_code) == ["fails"]


def test_empty_code_keys_are_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": {}, "_attn_implementation": "sdpa"}))
    assert verdicts(tmp_path, check_code) == ["holds"]


def test_json_that_readers_disagree_about_is_not_passed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"auto_map": {"a": "b.C"}, "auto_map": {}}')
    assert verdicts(tmp_path, check_code) == ["could not be checked"]


def test_no_files_are_no_pass(tmp_path: Path) -> None:
    report = audit_checkpoint(tmp_path)
    assert not report.passed
    assert not report.of("holds")


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), min_size=1, max_size=20).filter(
    lambda name: ".." not in name.split("/") and not name.startswith("/") and name == name.strip()
)


@given(st.dictionaries(NAMES, st.tuples(st.integers(0, 2**60), st.binary(min_size=32, max_size=32)), max_size=5))
def test_manifest_reads_back_what_was_written(files: dict[str, tuple[int, bytes]]) -> None:
    digests = {name: Digest(size, digest.hex()) for name, (size, digest) in files.items()}
    assert read_manifest(render_manifest(digests)) == digests


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../../b"])
def test_manifest_that_leaves_the_folder_is_refused(name: str) -> None:
    with pytest.raises(ZhenError, match="leads out of the folder"):
        read_manifest(f"{'0' * 64}  {name}\n")


GARBAGE = [
    *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer.model", "x.bin"),
    *("tokenizer_config.json", "figures.json", "README.md", "LICENSE", "SHA256SUMS", "records/pretrain.json"),
]


@given(
    st.dictionaries(
        st.sampled_from(GARBAGE),
        st.one_of(st.binary(max_size=60), st.sampled_from([b"{}", b"[]", b"null", b'{"model": {"vocab": {"a": -1}}}'])),
    )
)
def test_garbage_never_stops_an_audit_and_never_passes(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("garbage")
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    assert not audit_checkpoint(folder).passed
