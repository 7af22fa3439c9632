"""`zhen rename`: the same bytes under other names, what follows the names, what is refused, and the record."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import deserialize
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

import zhen.checkpoint.rename as rename_module
from zhen.audit.checks import audit_checkpoint
from zhen.checkpoint import journal
from zhen.checkpoint.disk import _INSERT, Disk, _fallocate, can_insert, locked
from zhen.checkpoint.journal import JOURNAL
from zhen.checkpoint.load import load_model
from zhen.checkpoint.proof import hash_tensors
from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.rename import Renamed, Wanted, rename_checkpoint
from zhen.checkpoint.renaming import BLOCK
from zhen.cli.app import run
from zhen.errors import ZhenError

WriteYi = Callable[..., Path]


@pytest.fixture
def inserts(tmp_path: Path) -> None:
    """Skip where the file system of the tests' folder can't do it."""
    if not can_insert(tmp_path, BLOCK):
        pytest.skip("the file system of the tests' folder has no insert-range")


def renamed(folder: Path, target: str = "llama", **options: Any) -> Renamed:
    return rename_checkpoint(folder, Wanted(target=target, **options))


def by_reference(folder: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Every tensor as the reference implementation reads it."""
    found = {}
    for file in folder.glob("*.safetensors"):
        for name, tensor in deserialize(file.read_bytes()):  # type: ignore[no-untyped-call]
            found[name] = (tensor["dtype"], tensor["shape"], bytes(tensor["data"]))
    return found


def llamas(name: str) -> str:
    return name.replace("ln1", "input_layernorm").replace("ln2", "post_attention_layernorm")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


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


@pytest.mark.usefixtures("inserts")
@pytest.mark.parametrize("shape", [{}, {"dtype": "F32", "layers": 30, "shard_bytes": 10**9}])
def test_in_place_gives_what_the_copy_gives_and_back_again(tmp_path: Path, write_yi: WriteYi, shape: Any) -> None:
    folder = write_yi(tmp_path / "yi", **shape)
    before = by_reference(folder)
    renamed(folder, out=tmp_path / "copy")
    done = renamed(folder, in_place=True)
    assert contents(folder) == contents(tmp_path / "copy")
    assert (done.bytes_copied, done.verified) == (0, True)
    renamed(folder, "yi", in_place=True)
    assert by_reference(folder) == before
    assert open_checkpoint(folder).config["model_type"] == "Yi"  # type: ignore[index]


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


@pytest.mark.usefixtures("inserts")
@pytest.mark.parametrize("link", ["hard", "symbolic"])
def test_linked_files_are_not_touched_in_place_without_force(tmp_path: Path, write_yi: WriteYi, link: str) -> None:
    folder = write_yi(tmp_path / "yi", shard_bytes=10**9)
    file, blob = folder / "model.safetensors", tmp_path / "blob"
    os.link(file, blob)
    if link == "symbolic":
        file.unlink()
        file.symlink_to(blob)
    before = contents(tmp_path)
    with pytest.raises(ZhenError, match="link"):
        renamed(folder, in_place=True)
    assert contents(tmp_path) == before
    assert renamed(folder, in_place=True, force=True).verified
    assert blob.read_bytes() == file.read_bytes() != before["blob"]


@pytest.mark.usefixtures("inserts")
def test_a_file_that_is_open_elsewhere_is_not_touched_in_place(tmp_path: Path, write_yi: WriteYi) -> None:
    folder = write_yi(tmp_path / "yi", shard_bytes=10**9)
    with (folder / "model.safetensors").open("rb"), pytest.raises(ZhenError, match="open in another process"):
        renamed(folder, in_place=True)
    assert renamed(folder, in_place=True).verified


@pytest.mark.usefixtures("inserts")
def test_a_sparse_file_is_not_touched_in_place(tmp_path: Path, write_yi: WriteYi) -> None:
    folder = write_yi(tmp_path / "yi", layers=40, dtype="F32", shard_bytes=10**9)
    file = folder / "model.safetensors"
    data = file.read_bytes()
    with file.open("wb") as sparse:
        sparse.write(data[: 8 + int.from_bytes(data[:8], "little")])
        sparse.truncate(len(data))
    with pytest.raises(ZhenError, match="sparse"):
        renamed(folder, in_place=True)


def test_without_insert_range_the_copy_is_offered(
    tmp_path: Path, write_yi: WriteYi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_yi(tmp_path / "yi")
    before = contents(folder)
    monkeypatch.setattr(rename_module, "can_insert", lambda folder, length: False)
    monkeypatch.setenv("ZHEN_LAUNCHED", "1")
    assert run(["rename", str(folder), "--to", "llama", "--in-place"]) == 2
    said = capsys.readouterr().err
    assert "can't insert room" in said
    assert "hint: ext4 and XFS can; leave out --in-place" in said
    assert contents(folder) == before


def test_names_that_fit_the_old_header_need_no_insert(
    tmp_path: Path, write_yi: WriteYi, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_yi(tmp_path / "yi")
    renamed(folder)
    monkeypatch.setattr(rename_module, "can_insert", lambda folder, length: False)
    sizes = {file.name: file.stat().st_size for file in (tmp_path / "yi-llama").glob("*.safetensors")}
    renamed(tmp_path / "yi-llama", "yi", in_place=True)
    assert {file.name: file.stat().st_size for file in (tmp_path / "yi-llama").glob("*.safetensors")} == sizes
    assert by_reference(tmp_path / "yi-llama") == by_reference(folder)


@pytest.mark.usefixtures("inserts")
def test_a_tensor_with_another_hash_puts_the_old_checkpoint_back(
    tmp_path: Path, write_yi: WriteYi, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_yi(tmp_path / "yi")
    before = contents(folder)

    def damaged(tensors: Any, report: Any) -> dict[str, str]:
        found = hash_tensors(tensors, report)
        return found | {name: "0" * 64 for name in found if name == "model.layers.0.input_layernorm.weight"}

    monkeypatch.setattr(rename_module, "hash_tensors", damaged)
    with pytest.raises(ZhenError, match="SHA-256 0000"):
        renamed(folder, in_place=True)
    assert contents(folder) == before
    with pytest.raises(ZhenError, match="SHA-256 0000"):
        renamed(folder)
    assert {path.name for path in tmp_path.iterdir()} == {"yi"}


def cut_off(folder: Path, after: str) -> None:
    """Begin a rename in place and be killed after the first change of that kind."""

    class Cut(Disk):
        def __getattribute__(self, name: str) -> Any:
            found = super().__getattribute__(name)
            if name != after:
                return found

            def last(*arguments: Any) -> None:
                found(*arguments)
                raise SystemExit

            return last

    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(journal, "take_back", lambda *arguments: None)
        with pytest.raises(SystemExit):
            rename_checkpoint(folder, Wanted(target="llama", in_place=True, verify=False), disk=Cut())


@pytest.mark.usefixtures("inserts")
def test_the_next_inspect_finishes_a_rename_that_was_cut_off(
    tmp_path: Path, write_yi: WriteYi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZHEN_LAUNCHED", "1")
    folder = write_yi(tmp_path / "yi", shard_bytes=10**9)
    renamed(folder, verify=False)
    cut_off(folder, "insert")
    assert (folder / JOURNAL).exists()
    assert run(["inspect", str(folder), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["naming"], shown["remote_code"]) == ("llama", [])
    assert contents(folder) == contents(tmp_path / "yi-llama")


@pytest.mark.usefixtures("inserts")
def test_a_journal_that_was_copied_along_is_not_obeyed(tmp_path: Path, write_yi: WriteYi) -> None:
    folder = write_yi(tmp_path / "yi", shard_bytes=10**9)
    before = contents(folder)
    cut_off(folder, "create")
    shutil.copytree(folder, tmp_path / "all-old")
    assert sorted(open_checkpoint(tmp_path / "all-old").tensors) == sorted(by_reference(tmp_path / "all-old"))
    assert contents(tmp_path / "all-old").items() >= before.items()
    cut_off_again = write_yi(tmp_path / "other", shard_bytes=10**9)
    cut_off(cut_off_again, "insert")
    shutil.copytree(cut_off_again, tmp_path / "between")
    between = contents(tmp_path / "between")
    with pytest.raises(ZhenError, match="copied since"):
        open_checkpoint(tmp_path / "between")
    assert contents(tmp_path / "between") == between


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "", ".."])
def test_a_journal_that_names_other_folders_is_refused(tmp_path: Path, write_yi: WriteYi, name: str) -> None:
    folder = write_yi(tmp_path / "yi")
    small = journal.Small(file=name, old=None, new=b"mine")
    made = journal.Journal(folder=folder.stat().st_ino, weights=[], files=[small])
    (folder / JOURNAL).write_bytes(journal.encode(made))
    with pytest.raises(ZhenError, match="expected a file of this folder"):
        open_checkpoint(folder)
    assert not audit_checkpoint(folder).passed


def test_a_journal_that_is_not_whole_was_never_acted_on(tmp_path: Path, write_yi: WriteYi) -> None:
    folder = write_yi(tmp_path / "yi")
    before = contents(folder)
    made = journal.Journal(folder=folder.stat().st_ino, weights=[], files=[journal.Small(file="x", old=None, new=b"x")])
    (folder / JOURNAL).write_bytes(journal.encode(made)[:-3])
    open_checkpoint(folder)
    assert contents(folder) == before


@pytest.mark.usefixtures("inserts")
def test_an_opener_that_may_not_write_is_told_so(
    tmp_path: Path, write_yi: WriteYi, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_yi(tmp_path / "yi", shard_bytes=10**9)
    cut_off(folder, "insert")
    with monkeypatch.context() as context:
        context.setattr(os, "access", lambda path, mode: Path(path).name != "model.safetensors")
        with pytest.raises(ZhenError, match=r"model\.safetensors may not be written"):
            open_checkpoint(folder)
    assert "model.layers.0.input_layernorm.weight" in open_checkpoint(folder).tensors


@pytest.mark.usefixtures("inserts")
def test_two_renames_do_not_run_at_once(tmp_path: Path, write_yi: WriteYi) -> None:
    folder = write_yi(tmp_path / "yi")
    with locked(folder), pytest.raises(ZhenError, match="being renamed by another process"):
        renamed(folder, in_place=True)


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


@pytest.mark.usefixtures("inserts")
@pytest.mark.parametrize("place", [1, 2, 5, -1])
def test_blocks_that_stopped_half_way_are_gathered_on_a_real_disk(
    tmp_path: Path, write_yi: WriteYi, place: int
) -> None:
    folder = write_yi(tmp_path / "yi", layers=40, dtype="F32", shard_bytes=10**9)
    renamed(folder, verify=False)
    file = folder / "model.safetensors"
    size = file.stat().st_size
    cut_off(folder, "create")
    if place < 0:  # longer already, and no block has moved
        os.truncate(file, size + grown(folder))
    else:
        _fallocate(file, _INSERT, place * BLOCK, grown(folder))
    open_checkpoint(folder)
    assert contents(folder) == contents(tmp_path / "yi-llama")


def grown(folder: Path) -> int:
    """Bytes by which the journal says that the weights grow."""
    steps = journal.decode((folder / JOURNAL).read_bytes(), folder / JOURNAL)
    assert steps is not None
    return steps.weights[0].insert
