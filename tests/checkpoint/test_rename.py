"""`zhen rename`: the same bytes under other names, what follows the names, what is refused, and the record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from renames import WriteYi, by_reference, contents, renamed
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

from zhen.audit.checks import audit_checkpoint
from zhen.checkpoint.load import load_model
from zhen.cli.app import run
from zhen.errors import ZhenError


def llamas(name: str) -> str:
    return name.replace("ln1", "input_layernorm").replace("ln2", "post_attention_layernorm")


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"dtype": "F32", "kv_heads": 4},
        {"dtype": "F16", "kv_heads": 1, "shard_bytes": 10**9},
        {"tied": True, "layers": 5, "shard_bytes": 3000},
    ],
)
def test_tensors_are_the_same_bytes_under_the_new_names(tmp_path: Path, write_yi: WriteYi, shape: Any) -> None:
    folder = write_yi(tmp_path / "yi", **shape)
    before, untouched = by_reference(folder), contents(folder)
    done = renamed(folder)
    assert Path(done.folder) == tmp_path / "yi-llama"
    assert by_reference(tmp_path / "yi-llama") == {llamas(name): tensor for name, tensor in before.items()}
    assert done.verified
    assert done.renamed == {name: llamas(name) for name in before if llamas(name) != name}
    assert done.bytes_copied == sum(len(data) for _, _, data in before.values())
    assert contents(folder) == untouched


def test_transformers_reads_the_renamed_folder_as_llama(tmp_path: Path, write_yi: WriteYi) -> None:
    folder = write_yi(tmp_path / "yi")
    config = json.loads((folder / "config.json").read_text())
    for key in ("rope_theta", "rope_parameters", "rope_scaling", "rms_norm_eps"):
        del config[key]  # left to configuration_yi.py: 5,000,000 and 1e-5
    (folder / "config.json").write_text(json.dumps(config))
    renamed(folder)
    found = AutoConfig.from_pretrained(tmp_path / "yi-llama")
    assert isinstance(found, LlamaConfig)
    assert found.architectures == ["LlamaForCausalLM"]
    assert (found.rms_norm_eps, found.to_dict()["rope_parameters"]["rope_theta"]) == (1e-5, 5e6)


def test_a_model_of_transformers_gives_the_same_logits_after_both_ways(tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        vocab_size=50,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model: Any = LlamaForCausalLM(config)
    model.save_pretrained(tmp_path / "llama")
    renamed(tmp_path / "llama", "yi", out=tmp_path / "yi")
    renamed(tmp_path / "yi", out=tmp_path / "back")
    assert json.loads((tmp_path / "yi" / "config.json").read_text())["rope_theta"] == 10_000  # not Yi's 5,000,000
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        expected = model(tokens).logits
        back: Any = LlamaForCausalLM.from_pretrained(tmp_path / "back", dtype=torch.float32)
        assert torch.equal(back(tokens).logits, expected)
        torch.testing.assert_close(load_model(tmp_path / "yi")(tokens), expected)


def test_code_of_the_old_naming_stays_behind_and_all_else_follows(tmp_path: Path, write_yi: WriteYi) -> None:
    folder = write_yi(tmp_path / "yi")
    (folder / "pytorch_model.bin").write_bytes(b"old names")
    (folder / "extra").mkdir()
    (folder / "extra" / "notes.txt").write_text("kept")
    (folder / "secret").symlink_to("/etc/hostname")
    done = renamed(folder)
    made = tmp_path / "yi-llama"
    assert set(done.left_out) == {
        "configuration_yi.py",
        "modeling_yi.py",
        "tokenization_yi.py",
        "pytorch_model.bin",
        "secret",
    }
    assert not any((made / name).exists() for name in done.left_out)
    assert (made / "extra" / "notes.txt").read_text() == "kept"
    assert json.loads((made / "tokenizer_config.json").read_text()) == {"tokenizer_class": "LlamaTokenizer"}
    assert "auto_map" not in json.loads((made / "config.json").read_text())


def test_code_of_another_tokenizer_is_kept_and_noted(tmp_path: Path, write_yi: WriteYi) -> None:
    folder = write_yi(tmp_path / "yi")
    own = {"tokenizer_class": "OddTokenizer", "auto_map": {"AutoTokenizer": ["tokenization_yi.OddTokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(own))
    done = renamed(folder)
    assert (tmp_path / "yi-llama" / "tokenization_yi.py").exists()
    assert any("tokenization_yi.py" in note for note in done.notes)


def test_a_dry_run_says_all_and_does_nothing(tmp_path: Path, write_yi: WriteYi) -> None:
    folder = write_yi(tmp_path / "yi")
    before = contents(tmp_path)
    done = renamed(folder, dry_run=True)
    assert contents(tmp_path) == before
    assert done.dry_run
    assert done.renamed
    assert not done.verified


def test_a_config_that_is_not_llamas_is_refused(tmp_path: Path, write_yi: WriteYi) -> None:
    folder = write_yi(tmp_path / "yi")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu"}))
    with pytest.raises(ZhenError, match="gelu"):
        renamed(folder)
    assert not (tmp_path / "yi-llama").exists()


def test_what_yis_first_code_does_not_do_is_refused(tmp_path: Path, write_yi: WriteYi) -> None:
    renamed(write_yi(tmp_path / "yi"))
    config = json.loads((tmp_path / "yi-llama" / "config.json").read_text())
    scaled = {"rope_type": "linear", "factor": 2.0}
    changed = {"rope_scaling": scaled, "rope_parameters": config["rope_parameters"] | scaled}
    (tmp_path / "yi-llama" / "config.json").write_text(json.dumps(config | changed))
    with pytest.raises(ZhenError, match="rope_scaling"):
        renamed(tmp_path / "yi-llama", "yi", out=tmp_path / "never")


def test_what_has_the_names_already_is_refused(tmp_path: Path, write_yi: WriteYi) -> None:
    renamed(write_yi(tmp_path / "yi"))
    with pytest.raises(ZhenError, match="already"):
        renamed(tmp_path / "yi-llama", out=tmp_path / "again")


def test_a_new_folder_is_never_written_over(tmp_path: Path, write_yi: WriteYi) -> None:
    folder = write_yi(tmp_path / "yi")
    (tmp_path / "yi-llama").mkdir()
    (tmp_path / "yi-llama" / "mine").write_text("mine")
    with pytest.raises(ZhenError, match="exists already"):
        renamed(folder)


def strange(folder: Path) -> Path:
    """The norms under names that no scheme knows."""
    for file in folder.glob("*.safetensors"):
        data = file.read_bytes()
        file.write_bytes(data.replace(b".ln1.", b".ab1.").replace(b".ln2.", b".ab2."))
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text().replace(".ln1.", ".ab1.").replace(".ln2.", ".ab2."))
    return folder


def test_unknown_names_are_listed_and_can_be_mapped(tmp_path: Path, write_yi: WriteYi) -> None:
    folder = strange(write_yi(tmp_path / "odd"))
    with pytest.raises(ZhenError, match=r"model\.layers\.N\.ab1\.weight") as caught:
        renamed(folder)
    assert "--map model.layers.N.ab1.weight=" in str(caught.value.hint)
    one = ("model.layers.N.ab1.weight", "model.layers.N.input_layernorm.weight")
    two = ("model.layers.N.ab2.weight", "model.layers.N.post_attention_layernorm.weight")
    done = renamed(folder, maps=[one, two])
    assert done.renamed["model.layers.1.ab2.weight"] == "model.layers.1.post_attention_layernorm.weight"


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ([("model.layers.N.ab9.weight", "model.layers.N.input_layernorm.weight")], "no tensor"),
        ([("model.layers.N.ab1.weight", "model.norm.weight")], "on both sides"),
        ([(f"model.layers.N.ab{n}.weight", "model.layers.N.input_layernorm.weight") for n in (1, 2)], "both be"),
        ([(f"model.layers.N.ab{n}.weight", f"model.layers.N.mine{n}.weight") for n in (1, 2)], "doesn't have"),
    ],
)
def test_maps_that_give_no_llama_are_refused(tmp_path: Path, write_yi: WriteYi, maps: Any, message: str) -> None:
    with pytest.raises(ZhenError, match=message):
        renamed(strange(write_yi(tmp_path / "odd")), maps=maps)


def test_a_single_file_is_renamed_alone_and_one_of_several_is_not(tmp_path: Path, write_yi: WriteYi) -> None:
    folder = write_yi(tmp_path / "yi", shard_bytes=10**9)
    alone = tmp_path / "alone" / "weights.safetensors"
    alone.parent.mkdir()
    shutil.copy(folder / "model.safetensors", alone)
    done = renamed(alone)
    assert {file.name for file in Path(done.folder).iterdir()} == {"weights.safetensors", "zhen-record.json"}
    several = write_yi(tmp_path / "several")
    with pytest.raises(ZhenError, match="one of several"):
        renamed(next(several.glob("*.safetensors")))


def test_the_record_is_carried_on_and_the_audit_checks_it(tmp_path: Path, write_yi: WriteYi) -> None:
    renamed(write_yi(tmp_path / "yi"))
    renamed(tmp_path / "yi-llama", "yi", out=tmp_path / "back")
    record = json.loads((tmp_path / "back" / "zhen-record.json").read_text())
    assert [(step["source"], step["target"]) for step in record["steps"]] == [("yi", "llama"), ("llama", "yi")]
    assert all(name == origin["was"] for name, origin in record["tensors"].items())
    assert (record["license"]["stated"], list(record["license"]["files"])) == ("other", ["LICENSE"])
    assert str(tmp_path) not in json.dumps(record)
    made = tmp_path / "yi-llama"
    assert origin_verdicts(made) == {"claims.origin": "holds", "license.origin": "holds"}
    file = sorted(made.glob("*.safetensors"))[-1]
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    (made / "LICENSE").write_text("as I like\n")
    assert origin_verdicts(made) == {"claims.origin": "fails", "license.origin": "fails"}
    with pytest.raises(ZhenError, match="another hash than is recorded"):
        renamed(made, "yi", out=tmp_path / "never")


def test_a_record_without_hashes_is_not_checkable(tmp_path: Path, write_yi: WriteYi) -> None:
    done = renamed(write_yi(tmp_path / "yi"), verify=False)
    assert not done.verified
    assert origin_verdicts(tmp_path / "yi-llama")["claims.origin"] == "could not be checked"


def origin_verdicts(folder: Path) -> dict[str, str]:
    findings = audit_checkpoint(folder).findings
    return {finding.id: finding.verdict for finding in findings if finding.id.endswith(".origin")}


def test_json_has_the_keys_of_the_contract(
    tmp_path: Path, write_yi: WriteYi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZHEN_LAUNCHED", "1")
    folder = write_yi(tmp_path / "yi")
    assert run(["rename", str(folder), "--to", "llama", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert {"renamed", "bytes_copied", "seconds", "verified"} <= made.keys()
    assert made["verified"] is True
    assert made["renamed"]["model.layers.0.ln1.weight"] == "model.layers.0.input_layernorm.weight"
