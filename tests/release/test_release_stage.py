"""The release stage: what it writes, that others can use it, and that a stop in the middle changes nothing."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from huggingface_hub import ModelCard

from zhen.errors import ZhenError
from zhen.formats.files import sha256_file
from zhen.formats.record import Figure, Record
from zhen.release.card import kind_of, languages
from zhen.release.collect import clean
from zhen.release.manifest import check_manifest
from zhen.release.summary import Run


def test_own_release_passes_its_audit_with_every_claim_checked(made: Any, tmp_path: Path) -> None:
    figures = made.release(tmp_path / "release").figures
    findings = json.loads((tmp_path / "release" / "audit.json").read_text())["findings"]
    assert {finding["verdict"] for finding in findings} == {"holds"}, findings
    assert figures["audit_passed"].value is True


def test_transformers_loads_model_and_tokenizer_without_code(released: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(released, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(released, trust_remote_code=False)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert tokenizer.decode(tokenizer("桥 and bridges")["input_ids"]) == "桥 and bridges"


def test_card_head_is_what_the_hub_reads(released: Path) -> None:
    card = ModelCard.load(released / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.language == ["en", "zh"]
    assert card.data.pipeline_tag == "text-generation"


def test_card_shows_each_figure_in_both_languages(released: Path) -> None:
    english, chinese = (released / "README.md").read_text(encoding="utf-8").split("\n## 中文\n")
    for text in ("31,234", "40,960", "1.235"):
        assert text in english
        assert text in chinese


def test_card_says_from_how_much_the_reference_learnt(released: Path) -> None:
    text = (released / "README.md").read_text(encoding="utf-8")
    assert "learnt from <!--=kneser_ney_tokens-->51,413<!--/--> tokens" in text
    assert "\n\nThe 5-gram model" in text
    assert "\n\n五元模型使用" in text


@pytest.mark.parametrize(
    ("kept", "english", "chinese"),
    [
        ({"en": 5, "zh": 7}, "A bilingual Chinese–English base model", "中英双语基座模型"),
        ({"en": 5, "zh": 0}, "A base model for text in English", "英文基座模型"),
        ({"zh": 5, "fr": 1}, "A base model for text in fr, Chinese", "fr、中文基座模型"),
    ],
)
def test_card_claims_the_languages_that_were_kept(kept: dict[str, int], english: str, chinese: str) -> None:
    figures = {f"kept_documents.{lang}": Figure(count) for lang, count in kept.items()}
    run = Run({"data.write": cast(Record, SimpleNamespace(figures=figures))}, {})
    assert kind_of(languages(run), chat=False) == (english, chinese)


def test_sha256sum_accepts_the_manifest(released: Path) -> None:
    done = subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=released, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert check_manifest(released) == done.stdout.count(b": OK")


def test_verify_names_each_changed_file(released: Path) -> None:
    (released / "NOTICE").write_text("")
    (released / "more.txt").write_text("")
    with pytest.raises(ZhenError, match=r"NOTICE has 0 bytes[\s\S]*more\.txt is here and not listed"):
        check_manifest(released)


def test_nothing_of_one_machine_is_released(released: Path) -> None:
    for path in released.rglob("*.json"):
        if path.name != "tokenizer.json":
            text = path.read_text(encoding="utf-8")
            assert not [private for private in ("/home/", "secret", "token=") if private in text], path
    scan = json.loads((released / "records" / "data.scan.json").read_text())
    assert scan["sections"]["data.sources"][0]["path"] == "https://example.org/pages.warc.gz"
    assert scan["command"][2] == "…/micro.toml"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("./data/x", "./data/x"),
        ("tokens/s", "tokens/s"),
        ("--data=/mnt/a/b", "--data=…/b"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("web:/home/a/pages", "web:…/pages"),
        ("file:///home/a/b.txt", "…/b.txt"),
        ("hf_abcdefghijklmnopqrstu", "[removed]"),
    ],
)
def test_clean_takes_away_folders_credentials_and_nothing_else(text: str, cleaned: str) -> None:
    assert clean({"a": [text]}) == {"a": [cleaned]}


def test_results_are_the_same_after_a_stop_that_left_some_files(made: Any, tmp_path: Path) -> None:
    whole = made.release(tmp_path / "whole")
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    (stopped / "config.json").write_bytes((tmp_path / "whole" / "config.json").read_bytes())
    (stopped / "model.safetensors").write_bytes(b"not the recorded file")
    again = made.release(stopped)
    for name, (kind, _) in whole.outputs.items():
        assert again.outputs[name][0] == kind
        assert kind == "log" or sha256_file(stopped / name) == sha256_file(tmp_path / "whole" / name)


def test_every_file_is_declared_and_weights_are_results(made: Any, tmp_path: Path) -> None:
    context = made.release(tmp_path / "release")
    there = {path.relative_to(context.folder).as_posix() for path in context.folder.rglob("*") if path.is_file()}
    assert there == set(context.outputs)
    results = {name for name, (kind, _) in context.outputs.items() if kind == "result"}
    assert {"model.safetensors", "config.json", "tokenizer.model", "LICENSE", "NOTICE"} <= results
    assert results.isdisjoint({"README.md", "figures.json", "SHA256SUMS", "audit.json", "records/pretrain.json"})


def test_weights_other_than_recorded_are_not_released(made: Any, tmp_path: Path) -> None:
    source = made.stages["pretrain"] / "checkpoint" / "config.json"
    kept = source.read_bytes()
    source.write_bytes(kept.replace(b"32", b"64", 1))
    try:
        with pytest.raises(ZhenError, match=r"checkpoint/config\.json: has SHA-256"):
            made.release(tmp_path / "release")
    finally:
        source.write_bytes(kept)
    assert not (tmp_path / "release" / "config.json").exists()


def test_licence_is_the_text_that_others_ship(released: Path) -> None:
    shipped = next(file for file in importlib.metadata.files("huggingface_hub") or [] if file.name == "LICENSE")
    assert (released / "LICENSE").read_text().split() == shipped.read_text().split()


def test_release_of_further_training_names_what_it_went_on_from(made: Any, tmp_path: Path) -> None:
    record = made.stages["pretrain"] / "record.json"
    kept = record.read_bytes()
    value = json.loads(kept)
    value["sections"]["model.init"] = "/home/somebody/models/parent-7b"
    record.write_text(json.dumps(value))
    try:
        made.release(tmp_path / "release")
    finally:
        record.write_bytes(kept)
    for name in ("README.md", "NOTICE"):
        text = (tmp_path / "release" / name).read_text(encoding="utf-8")
        assert "parent-7b" in text
        assert "random" not in text
        assert "/home/" not in text
