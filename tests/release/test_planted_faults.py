"""A release with one thing changed: the audit names exactly that, as its only failure."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhen.audit.checks import audit_checkpoint
from zhen.audit.report import Report
from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.writer import write_safetensors

Fault = Callable[[Path], None]
WEIGHTS = "model.safetensors"


def change_json(name: str, **values: Any) -> Fault:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values), encoding="utf-8")

    return change


def change_text(name: str, old: str, new: str) -> Fault:
    def change(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        assert re.search(old, text)
        (folder / name).write_text(re.sub(old, new, text, count=1), encoding="utf-8")

    return change


def flip_last_byte(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)


def write(name: str, content: bytes) -> Fault:
    return lambda folder: void((folder / name).write_bytes(content))


def remove(name: str) -> Fault:
    return lambda folder: (folder / name).unlink()


def void(_: object) -> None: ...


def rewrite_weights(change: Callable[[str, str, tuple[int, ...], bytes], Any]) -> Fault:
    """Write the weights anew, each tensor as `change` returns it (None leaves it out), and record their new hash."""

    def apply(folder: Path) -> None:
        checkpoint = open_checkpoint(folder)
        kept = [(i.name, i.dtype, i.shape, bytes(checkpoint.read(i.name))) for i in checkpoint.tensors.values()]
        made = [new for tensor in kept if (new := change(*tensor)) is not None]
        digest = write_safetensors(folder / WEIGHTS, made, {"format": "pt"})
        record = folder / "records" / "pretrain.json"
        value = json.loads(record.read_text())
        for output in value["outputs"]:
            if output["path"].endswith(WEIGHTS):
                output["sha256"] = digest.sha256
        record.write_text(json.dumps(value), encoding="utf-8")

    return apply


def yi_name(name: str) -> str:
    return name.replace("input_layernorm", "ln1").replace("post_attention_layernorm", "ln2")


def failures(report: Report) -> list[tuple[str, str | None]]:
    return [(finding.id, finding.file) for finding in report.of("fails")]


@pytest.mark.parametrize(
    ("fault", "id", "file"),
    [
        (flip_last_byte, "files.hash", WEIGHTS),
        (change_text("README.md", "trained", "Trained"), "files.hash", "README.md"),
        (write("NOTICE", b"short: LLaMA"), "files.hash", "NOTICE"),
        (remove("generation_config.json"), "files.missing", "generation_config.json"),
        (write("more.txt", b"hello"), "files.unlisted", "more.txt"),
        (write("SHA256SUMS", b"nonsense\n"), "files.manifest", "SHA256SUMS"),
        (remove("SHA256SUMS"), "files.manifest", "SHA256SUMS"),
    ],
)
def test_damaged_file_is_the_only_failure(released: Path, fault: Fault, id: str, file: str) -> None:
    fault(released)
    report = audit_checkpoint(released)
    assert failures(report) == [(id, file)]
    assert not report.passed


ADDED = " ".join(f"Condition {number}: the Work may not be used in place {number}." for number in range(30))

PLANTED: list[tuple[Fault, str]] = [
    (flip_last_byte, "claims.weights"),
    (rewrite_weights(lambda n, d, s, b: (yi_name(n), d, s, b)), "weights.names"),
    (rewrite_weights(lambda n, d, s, b: (n.replace("0.input_layernorm", "0.ln1"), d, s, b)), "weights.names"),
    (rewrite_weights(lambda n, d, s, b: (n.replace("1.mlp.up_proj", "1.mlp.other"), d, s, b)), "weights.names"),
    (rewrite_weights(lambda n, d, s, b: None if n == "model.norm.weight" else (n, d, s, b)), "weights.missing"),
    (rewrite_weights(lambda n, d, s, b: (n, d, s[::-1] if "up_proj" in n else s, b)), "weights.shapes"),
    (rewrite_weights(lambda n, d, s, b: (n, "F16", s, b)), "weights.dtype"),
    (change_json("config.json", intermediate_size=64), "weights.shapes"),
    (change_json("config.json", model_type="mistral"), "config.llama"),
    (change_json("config.json", num_hidden_layers=10**9), "weights.missing"),
    (change_json("config.json", max_position_embeddings=4096), "claims.context"),
    (change_json("tokenizer_config.json", model_max_length=32768), "claims.context"),
    (change_json("config.json", auto_map={"AutoModel": "modeling.Model"}), "code.found"),
    (change_json("tokenizer_config.json", x=[{"auto_map": {"AutoTokenizer": "a.B"}}]), "code.found"),
    (write("modeling_llama.py", b"print()"), "code.found"),
    (write("run", b"#!/bin/sh\n"), "code.found"),
    (write("weights.bin", b""), "files.pickle"),
    (write("pytorch_model.bin", b"\x10\0\0\0\0\0\0\0{" + b" " * 20), "files.pickle"),
    (write("notes.txt", b"cos\nsystem\n(S'true'\ntR."), "files.pickle"),
    (write("vocab", b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94."), "files.pickle"),
    (change_json("generation_config.json", eos_token_id=7), "tokenizer.special-ids"),
    (change_json("config.json", pad_token_id=5), "tokenizer.special-ids"),
    (change_text("tokenizer.json", '"bridges"|"的"|"▁b"|"座"', '"other"'), "tokenizer.same"),
    (change_text("LICENSE", "perpetual,", "revocable, non-commercial, by written application only,"), "license.text"),
    (change_text("LICENSE", r"\Z", ADDED), "license.text"),
    (remove("LICENSE"), "license.text"),
    (change_text("README.md", "\n### Data", "\n| MMLU | 85.2 |\n\n### Data"), "claims.figure"),
    (change_text("README.md", "\n### Data", "\n| MMLU | **85.2 %** |\n\n### Data"), "claims.figure"),
    (change_text("README.md", r"1\.235<!--/-->", "1.235<!--/-->9"), "claims.figure"),
    (change_text("README.md", "\nmodel-index:", "\nmetrics:\n- value: 85.2\nmodel-index:"), "claims.figure"),
    (write("tf_model.h5", b""), "weights.only"),
    (write("adapter_config.json", b"{}"), "weights.only"),
    (write("model.gguf", b"GGUF"), "weights.only"),
    (write("records/hook.py", b"print()"), "code.found"),
    (write("data.xz", b"\xfd7zXZ\0"), "files.pickle"),
    (change_text("README.md", "license: apache-2.0", "license: cc0-1.0"), "license.text"),
    (change_text("README.md", r"1\.235<", "0.935<"), "claims.figure"),
    (change_text("README.md", "31,234", "61,234"), "claims.figure"),
    (change_text("records/evaluate.json", r"1\.2345678901", "1.1345678901"), "claims.figure"),
    (change_text("figures.json", r"1\.2345678901", "1.2345678902"), "claims.figure"),
    (remove("records/shards.json"), "claims.figure"),
    (remove("figures.json"), "claims.figures"),
]


@pytest.mark.parametrize(("fault", "id"), PLANTED)
def test_planted_fault_is_found_though_the_manifest_was_made_again(
    released: Path, reseal: Callable[[Path], None], fault: Fault, id: str
) -> None:
    fault(released)
    reseal(released)
    report = audit_checkpoint(released)
    # whatever is wrong with a file of the checkpoint, it is not the recorded one any more either
    assert {found for found, _ in failures(report)} - {"claims.checkpoint"} == {id}, report.of("fails")
    assert not report.passed


def test_zip_named_like_text_is_found(released: Path, reseal: Callable[[Path], None]) -> None:
    with zipfile.ZipFile(released / "notes.txt", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
    reseal(released)
    assert failures(audit_checkpoint(released)) == [("files.pickle", "notes.txt")]


def test_other_settings_than_recorded_are_found(released: Path, reseal: Callable[[Path], None]) -> None:
    change_json("config.json", rms_norm_eps=0.1)(released)
    reseal(released)
    assert failures(audit_checkpoint(released)) == [("claims.checkpoint", "config.json")]


def test_what_the_hub_adds_is_no_fault(released: Path) -> None:
    (released / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    (released / ".cache" / "huggingface").mkdir(parents=True)
    (released / ".cache" / "huggingface" / ".gitignore").write_text("*")
    assert audit_checkpoint(released).passed


def test_pipe_is_not_opened_and_does_not_pass(released: Path) -> None:
    for name in ("config.json", WEIGHTS, "tokenizer.model", "SHA256SUMS"):
        (released / name).unlink()
        os.mkfifo(released / name)
        report = audit_checkpoint(released)
        assert ("files.link", name) in failures(report)
        assert not report.passed


def test_names_steer_no_terminal(released: Path) -> None:
    (released / "a\x1b[2J\u202eb[red].txt").write_text("")
    found = [finding.evidence for finding in audit_checkpoint(released).of("fails")]
    assert found == ["a\\x1b[2J\\u202eb[red].txt is here and not listed"]


def test_credit_to_llama_is_asked_for(released: Path, reseal: Callable[[Path], None]) -> None:
    for name in ("NOTICE", "README.md"):
        text = (released / name).read_text(encoding="utf-8")
        (released / name).write_text(re.sub("llama", "other", text, flags=re.IGNORECASE), encoding="utf-8")
    reseal(released)
    assert failures(audit_checkpoint(released)) == [("license.notice", None)]


def test_link_out_of_the_folder_is_not_followed(released: Path) -> None:
    os.symlink("/etc/hostname", released / "more.txt")
    report = audit_checkpoint(released)
    assert ("files.link", "more.txt") in failures(report)
    assert not report.passed


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150)
@given(data=st.data())
def test_hostile_json_values_never_stop_an_audit(fuzzed: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(p.relative_to(fuzzed).as_posix() for p in fuzzed.rglob("*.json"))))
    kept = (fuzzed / name).read_bytes()
    value = json.loads(kept)
    if isinstance(value, list):
        value[0] = value[0] | {data.draw(st.sampled_from(sorted(value[0]))): data.draw(JSON)}
    else:
        value[data.draw(st.sampled_from(sorted(value)))] = data.draw(JSON)
    (fuzzed / name).write_text(json.dumps(value), encoding="utf-8")
    try:
        assert audit_checkpoint(fuzzed).findings
    finally:
        (fuzzed / name).write_bytes(kept)


def test_damaged_header_ends_in_a_finding(released: Path, reseal: Callable[[Path], None]) -> None:
    (released / WEIGHTS).write_bytes(b"\xff" * 64)
    reseal(released)
    found = {finding.id for finding in audit_checkpoint(released).of("fails")}
    assert "weights.readable" in found


SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "required": ["tool", "results"],
                "properties": {
                    "tool": {"required": ["driver"], "properties": {"driver": {"required": ["name"]}}},
                    "results": {
                        "type": "array",
                        "items": {
                            "required": ["message"],
                            "properties": {
                                "message": {"required": ["text"]},
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "kind": {"enum": ["pass", "open", "informational", "notApplicable", "review", "fail"]},
                            },
                            # section 3.27.10: a result that is not a failure has level none
                            "if": {"properties": {"kind": {"const": "fail"}}},
                            "else": {"properties": {"level": {"const": "none"}}},
                        },
                    },
                },
            },
        },
    },
}
"""The parts of the OASIS schema that every reader needs."""


def test_sarif_has_the_required_shape(released: Path) -> None:
    flip_last_byte(released)
    log = audit_checkpoint(released).to_sarif()
    jsonschema.validate(log, SARIF)
    bad = [result for result in log["runs"][0]["results"] if result["level"] == "error"]
    assert [result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in bad] == [WEIGHTS]
    rules = {rule["id"] for rule in log["runs"][0]["tool"]["driver"]["rules"]}
    assert {result["ruleId"] for result in log["runs"][0]["results"]} == rules
