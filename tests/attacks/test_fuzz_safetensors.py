"""Changed files beside the reference, a part of them: no crash, no hang, nothing accepted that it refuses."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from zhen.checkpoint import safetensors

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_changed_files_are_refused_by_name_or_read_as_the_reference_reads_them(shared_data: Path) -> None:
    suite = shared_data / "dirty" / "json-test-suite.jsonl.zst"
    command = [sys.executable, BENCHMARKS / "fuzz_safetensors.py", "--files", "1500", "--seed", "7", "--suite", suite]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "accepted though the reference refuses them: 0; faults: 0" in done.stdout


def test_the_comparison_sees_a_reader_that_is_too_lax(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    fuzz_safetensors = importlib.import_module("fuzz_safetensors")
    monkeypatch.setattr(safetensors, "_joined", lambda *_: None)
    header = b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}'
    data = len(header).to_bytes(8, "little") + header + b"ab"
    (tmp_path / "w").write_bytes(data)
    assert fuzz_safetensors.verdict(tmp_path / "w", data)[0] == "FAULT: accepted what the reference refuses"
