"""A conversion that is stopped half-way, and the memory that one takes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from math import prod
from pathlib import Path

import numpy as np
import pytest
from conversions import CONFIG, convert, write_model

from zhen.checkpoint.writer import write_sharded
from zhen.model.config import ModelConfig, to_config_json
from zhen.model.size import shapes


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("target", ["llama", "meta", "gguf"])
def test_stopped_half_way_nothing_of_that_name_is_there(sent: signal.Signals, target: str, tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", CONFIG, "BF16", 10**9, 1)
    out = tmp_path / "out"
    code = f"""
import os, signal, sys
from zhen.checkpoint.convert import Wanted, convert_checkpoint
def report(done, total):
    if done > total / 2:
        os.kill(os.getpid(), {int(sent)})
convert_checkpoint({str(source)!r}, {str(out)!r}, Wanted({target!r}), report)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode != 0
    assert not out.exists()
    if sent == signal.SIGINT:
        assert os.listdir(tmp_path) == ["source"]
    convert(source, out, target)
    assert sorted(os.listdir(tmp_path)) == ["out", "source"]


MEASURED = """
import re, sys
from pathlib import Path
from zhen.checkpoint.convert import Wanted, convert_checkpoint
def largest():  # resident set so far, mapped pages of files included
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
source, out, target, dtype = sys.argv[1:]
before = largest()
convert_checkpoint(source, out, Wanted(target, dtype=dtype or None), lambda done, total: None)
print(before, largest())
"""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """266 MB in tensors of at most 8 MB."""
    config = ModelConfig(
        hidden_size=1024,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=8,
        vocab_size=4096,
        max_position_embeddings=64,
    )
    one = (np.random.default_rng(0).integers(0, 1 << 10, 4096 * 1024, dtype=np.uint16) + 0x3C00).tobytes()
    tensors = [(name, "BF16", shape, memoryview(one)[: 2 * prod(shape)]) for name, shape in shapes(config).items()]
    folder = tmp_path_factory.mktemp("wide")
    write_sharded(folder, tensors, 10**9)
    (folder / "config.json").write_text(json.dumps(to_config_json(config, "bfloat16")))
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("target", "dtype"), [("llama", "f32"), ("phi3", ""), ("meta", ""), ("gguf", "q8_0")])
def test_memory_is_that_of_a_few_tensors_whatever_the_model(
    target: str, dtype: str, wide: Path, tmp_path: Path
) -> None:
    """Beyond what Python and numpy have: the promised limit is 3 times the largest tensor and 200 MB in all."""
    largest = 3 * 2 * 2048 * 1024 if target == "phi3" else 2 * 4096 * 1024
    arguments = [str(wide), str(tmp_path / "out"), target, dtype]
    done = subprocess.run([sys.executable, "-c", MEASURED, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, peak = map(int, done.stdout.split())
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    print(peak - before, peak)
    assert peak - before < 3 * largest + 60_000_000
