"""A renamed checkpoint of others is released with its origin, and nothing about it is taken on trust."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from zhen.audit.checks import audit_checkpoint
from zhen.checkpoint.convert import Wanted as Convert
from zhen.checkpoint.convert import convert_checkpoint
from zhen.checkpoint.rename import Wanted, rename_checkpoint
from zhen.errors import ZhenError
from zhen.release.manifest import check_manifest
from zhen.release.renamed import release_renamed


@pytest.fixture
def theirs(micro_run: Any, tmp_path: Path) -> Path:
    """Somebody's checkpoint under Yi's names, with a licence and a card."""
    ours = tmp_path / "ours"
    shutil.copytree(micro_run.folder / "release", ours, ignore=shutil.ignore_patterns("records", "*.json", "SHA*"))
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(micro_run.folder / "release" / name, ours)
    (ours / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Wonder-1M\n\nBest of all.\n")
    rename_checkpoint(ours, Wanted(target="yi", out=tmp_path / "theirs"))
    (tmp_path / "theirs" / "zhen-record.json").unlink()
    return tmp_path / "theirs"


def test_a_renamed_checkpoint_is_released_and_passes_its_audit(theirs: Path, tmp_path: Path) -> None:
    rename_checkpoint(theirs, Wanted(target="llama", out=tmp_path / "fixed"))
    audit = release_renamed(tmp_path / "fixed", tmp_path / "out", "Wonder")
    assert audit.passed
    assert {finding.id for finding in audit.of("holds")} >= {"claims.origin", "license.origin", "files.manifest"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "| `model.layers.N.ln1.weight` | `model.layers.N.input_layernorm.weight` |" in card
    assert "Best of all" not in card
    assert "Best of all" in (tmp_path / "out" / "README.source.md").read_text()
    assert check_manifest(tmp_path / "out") > 5
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        tmp_path / "fixed" / "model.safetensors"
    ).read_bytes()


def test_a_weight_changed_after_the_rename_fails_the_audit(theirs: Path, tmp_path: Path) -> None:
    rename_checkpoint(theirs, Wanted(target="llama", out=tmp_path / "fixed"))
    file = tmp_path / "fixed" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    audit = release_renamed(tmp_path / "fixed", tmp_path / "out", "Wonder")
    assert not audit.passed
    assert "claims.origin" in {finding.id for finding in audit.of("fails")}


def test_without_record_llamas_names_or_licence_nothing_is_released(theirs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ZhenError, match=r"zhen-record\.json: is not there"):
        release_renamed(theirs, out, "Wonder")
    rename_checkpoint(theirs, Wanted(target="llama", out=tmp_path / "fixed"))
    rename_checkpoint(tmp_path / "fixed", Wanted(target="yi", out=tmp_path / "again"))
    with pytest.raises(ZhenError, match="names of yi"):
        release_renamed(tmp_path / "again", out, "Wonder")
    record = json.loads((tmp_path / "fixed" / "zhen-record.json").read_text())
    record["license"] = {"stated": None, "files": {}}
    (tmp_path / "fixed" / "zhen-record.json").write_text(json.dumps(record))
    with pytest.raises(ZhenError, match="states no licence"):
        release_renamed(tmp_path / "fixed", out, "Wonder")
    convert_checkpoint(tmp_path / "again", tmp_path / "made", Convert("llama"), lambda done, total: None)
    with pytest.raises(ZhenError, match="weights were converted"):
        release_renamed(tmp_path / "made", out, "Wonder")
    assert not out.exists()


def test_a_release_that_is_there_is_not_overwritten(theirs: Path, tmp_path: Path) -> None:
    rename_checkpoint(theirs, Wanted(target="llama", out=tmp_path / "fixed"))
    with pytest.raises(ZhenError, match="exists already"):
        release_renamed(tmp_path / "fixed", theirs, "Wonder")
    assert audit_checkpoint(tmp_path / "fixed").passed
