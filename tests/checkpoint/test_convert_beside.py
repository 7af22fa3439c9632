"""What goes along with converted weights: licence, tokenizer, record; and what the verb prints."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from conversions import convert

from zhen.audit.checks import audit_checkpoint
from zhen.checkpoint.rename import Wanted as RenameWanted
from zhen.checkpoint.rename import rename_checkpoint
from zhen.cli.app import run


def test_licence_and_tokenizer_go_along_but_no_link_out_of_the_folder(theirs: Path, tmp_path: Path) -> None:
    shutil.copytree(theirs, tmp_path / "source")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "source" / "LICENSE").write_text("as you like")
    (tmp_path / "source" / "NOTICE").symlink_to(tmp_path / "secret")
    made = {"tokenizer_class": "YiTokenizer", "auto_map": {"AutoTokenizer": ["tokenization_yi.YiTokenizer", None]}}
    (tmp_path / "source" / "tokenizer_config.json").write_text(json.dumps(made))
    (tmp_path / "source" / "tokenization_yi.py").write_text("raise SystemExit")
    convert(tmp_path / "source", tmp_path / "out", "llama")
    kept = {"LICENSE", "config.json", "generation_config.json", "model.safetensors", "tokenizer_config.json"}
    assert set(os.listdir(tmp_path / "out")) == kept | {"zhen-record.json"}
    record = json.loads((tmp_path / "out" / "zhen-record.json").read_text())
    assert list(record["license"]["files"]) == ["LICENSE"]
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text()) == {"tokenizer_class": "LlamaTokenizer"}


def test_the_record_says_what_was_read_and_the_licence_and_follows_a_rename(theirs: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(theirs, tmp_path / "source"))
    (source / "LICENSE").write_text("as you like")
    convert(source, tmp_path / "phi3", "phi3", dtype="f16")
    convert(tmp_path / "phi3", tmp_path / "out", "llama")
    record = json.loads((tmp_path / "phi3" / "zhen-record.json").read_text())
    files = {name: hashlib.sha256((source / name).read_bytes()).hexdigest() for name in record["files"]}
    assert record["files"] == files
    assert {"model.safetensors", "config.json", "LICENSE"} <= files.keys()
    rename_checkpoint(tmp_path / "out", RenameWanted("yi", in_place=True))
    record = json.loads((tmp_path / "out" / "zhen-record.json").read_text())
    made = [(step["source"], step["target"], step.get("converted")) for step in record["steps"]]
    assert made == [("llama", "phi3", {"dtype": "f16"}), ("phi3", "llama", {}), ("llama", "yi", None)]
    assert str(tmp_path) not in json.dumps(record)
    (tmp_path / "phi3" / "LICENSE").write_text("as I like")
    verdicts = {finding.id: finding.verdict for finding in audit_checkpoint(tmp_path / "phi3").findings}
    assert (verdicts["claims.origin"], verdicts["license.origin"]) == ("could not be checked", "fails")


def test_the_verb_prints_one_object_and_a_dry_run_writes_nothing(
    theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZHEN_LAUNCHED", "1")
    arguments = ["convert", str(theirs), "--to", "gguf", "--out", str(tmp_path / "m.gguf"), "--json"]
    assert run([*arguments, "--dry-run"]) == 0
    dry = json.loads(capsys.readouterr().out)
    assert os.listdir(tmp_path) == []
    assert run(arguments) == 0
    done = json.loads(capsys.readouterr().out)
    assert (dry["dry_run"], dry["files"], dry["bytes"]) == (True, {}, done["bytes"])
    assert done["files"] == {"m.gguf": (tmp_path / "m.gguf").stat().st_size}
    assert run(arguments) == 2
    assert "exists already; expected a new name" in capsys.readouterr().err
