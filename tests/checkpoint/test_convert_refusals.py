"""What a conversion refuses, and that it then leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
from math import prod
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conversions import CONFIG, content, convert, write_model

from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.writer import write_sharded
from zhen.errors import ZhenError
from zhen.model.config import RopeScaling, to_config_json
from zhen.model.size import shapes

LLAMA_3 = RopeScaling(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=8192,
)


@pytest.mark.parametrize(
    ("changes", "target", "wanted", "says"),
    [
        ({}, "lama", {}, 'did you mean "llama"'),
        ({}, "llama", {"dtype": "q8_0"}, "--to gguf"),
        ({}, "gguf", {"model_parallel": 2}, "--to meta"),
        ({}, "gguf", {"shard_bytes": 2000}, "--shard-bytes: 2000"),
        ({}, "meta", {"model_parallel": 4}, "num_key_value_heads: 2; expected a multiple of the 4"),
        ({"tie_word_embeddings": True}, "meta", {}, "--untie"),
        ({"head_dim": 8}, "meta", {}, "head_dim: 8"),
        ({}, "baichuan", {}, "num_key_value_heads: 2"),
        ({"rope_scaling": LLAMA_3, "max_position_embeddings": 8192}, "phi3", {}, "rope_scaling: llama3"),
        ({"rope_scaling": RopeScaling(rope_type="dynamic", factor=2.0)}, "gguf", {}, "'dynamic'"),
    ],
)
def test_what_a_target_cannot_hold_is_refused(
    changes: dict[str, Any], target: str, wanted: dict[str, Any], says: str, tmp_path: Path
) -> None:
    config = msgspec.structs.replace(CONFIG, **changes)
    source = write_model(tmp_path / "source", config, "BF16", 10**9, 1)
    for dry_run in (True, False):
        with pytest.raises(ZhenError) as error:
            convert(source, tmp_path / "out", target, dry_run=dry_run, **wanted)
        assert says in "\n".join(error.value.lines())
    assert os.listdir(tmp_path) == ["source"]


@pytest.mark.parametrize(("dtype", "hint"), [("I8", None), ("F64", "--dtype f32 casts it"), ("F8_E4M3", None)])
def test_weights_that_are_no_plain_numbers_are_refused(dtype: str, hint: str | None, tmp_path: Path) -> None:
    width = 8 if dtype == "F64" else 1
    tensors = [(name, dtype, shape, bytes(width * prod(shape))) for name, shape in shapes(CONFIG).items()]
    (tmp_path / "source").mkdir()
    write_sharded(tmp_path / "source", tensors, 10**9)
    (tmp_path / "source" / "config.json").write_text(json.dumps(to_config_json(CONFIG, "float32")))
    for target in ("llama", "gguf", "meta"):
        with pytest.raises(ZhenError, match=f"dtype {dtype}") as error:
            convert(tmp_path / "source", tmp_path / "out", target)
        assert error.value.hint == hint
    if dtype == "F64":
        convert(tmp_path / "source", tmp_path / "cast", "llama", dtype="f32")
        assert {kind for kind, _, _ in content(tmp_path / "cast").values()} == {"F32"}


def test_quantised_weights_and_unknown_names_are_refused(theirs: Path, tmp_path: Path) -> None:
    shutil.copytree(theirs, tmp_path / "source")
    config = json.loads((theirs / "config.json").read_text())
    (tmp_path / "source" / "config.json").write_text(json.dumps(config | {"quantization_config": {"bits": 8}}))
    with pytest.raises(ZhenError, match="weights quantised as"):
        convert(tmp_path / "source", tmp_path / "out", "llama")
    (tmp_path / "odd").mkdir()
    write_sharded(tmp_path / "odd", [("one.two", "F32", (1,), bytes(4))], 10**9)
    with pytest.raises(ZhenError, match="no known scheme"):
        convert(tmp_path / "odd", tmp_path / "out", "llama")


def test_a_pointer_of_git_lfs_is_no_tokenizer(theirs: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(theirs, tmp_path / "source"))
    (source / "tokenizer.model").write_text("version https://git-lfs.github.com/spec/v1\nsize 5\n")
    with pytest.raises(ZhenError, match="Git LFS pointer"):
        convert(source, tmp_path / "out", "llama")


def test_a_number_too_large_leaves_nothing(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", CONFIG, "BF16", 10**9, 1)
    with pytest.raises(ZhenError, match="too large for F16"):
        convert(source, tmp_path / "out", "llama", dtype="f16")
    with pytest.raises(ZhenError, match="too large for F16"):
        convert(source, tmp_path / "out.gguf", "gguf", dtype="f16")
    assert os.listdir(tmp_path) == ["source"]


def test_what_exists_is_not_overwritten_but_an_empty_folder_may_be_given(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", CONFIG, "BF16", 10**9, 1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file.gguf").write_text("mine")
    for out, target in (("full", "llama"), ("file.gguf", "gguf"), ("full", "gguf")):
        with pytest.raises(ZhenError, match="exists already"):
            convert(source, tmp_path / out, target)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ZhenError, match=r"expected a new name$"):
        convert(source, tmp_path / "empty", "gguf")
    convert(source, tmp_path / "empty", "yi")
    assert open_checkpoint(tmp_path / "empty").tensors
