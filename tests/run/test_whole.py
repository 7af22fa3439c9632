"""The whole way on the micro recipe: what a newcomer gets, and whether others can read it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from zhen.cli.app import run as zhen
from zhen.recipe import load_recipe
from zhen.run import records_of, stages_of

MICRO = Path(__file__).resolve().parents[2] / "recipes" / "micro.toml"
PLANNED = stages_of(load_recipe(MICRO))


def test_the_run_ends_well_and_reaches_for_no_network(micro_run: Any) -> None:
    assert micro_run.status == 0, micro_run.stderr
    assert "SOCKET" not in micro_run.stderr
    assert micro_run.stdout == ""
    assert list(records_of(micro_run.folder)) == [stage.name for stage in PLANNED]


def test_links_and_report_stand_in_the_run_folder(micro_run: Any) -> None:
    names = {path.name for path in micro_run.folder.iterdir()}
    links = {stage.name.split(".")[0] for stage in PLANNED}
    assert links <= names
    assert {"recipe.toml", "report.html", "report.md", "report.zh.md", "log.jsonl"} <= names
    assert {"documents", "signals", "verdicts", "kept", "held-out", "lost.jsonl"} <= {
        path.name for path in (micro_run.folder / "data").iterdir()
    }


def test_transformers_loads_the_release_and_greedy_tokens_are_equal(
    micro_run: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZHEN_LAUNCHED", "1")
    release = micro_run.folder / "release"
    model = transformers.AutoModelForCausalLM.from_pretrained(release, trust_remote_code=False, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(release, trust_remote_code=False)
    for prompt in ("The town of", "他住在"):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        theirs = model.generate(ids, max_new_tokens=24, do_sample=False)[0, ids.shape[1] :].tolist()
        assert (
            zhen(
                [
                    "generate",
                    str(release),
                    "--prompt",
                    prompt,
                    "--greedy",
                    "--max-tokens",
                    "24",
                    "--dtype",
                    "float32",
                    "--json",
                ]
            )
            == 0
        )
        ours = json.loads(capsys.readouterr().out)
        assert ours["prompt_tokens"] == ids.shape[1]
        assert ours["text"] == tokenizer.decode(theirs, skip_special_tokens=True)


def test_the_release_passes_the_audit_and_a_changed_byte_fails_it(
    micro_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert zhen(["audit", str(micro_run.folder / "release"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    copy = tmp_path / "copy"
    shutil.copytree(micro_run.folder / "release", copy)
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert zhen(["audit", str(copy), "--json"]) == 1
    failed = [item for item in json.loads(capsys.readouterr().out)["findings"] if item["verdict"] == "fails"]
    assert any("model.safetensors" in json.dumps(item) for item in failed)


def test_the_audit_counts_the_questions_in_the_runs_own_shards(
    micro_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def counts(folder: Path) -> list[tuple[str, str]]:
        zhen(["audit", str(folder / "release"), "--json"])
        found = json.loads(capsys.readouterr().out)["findings"]
        return [(each["verdict"], each["evidence"]) for each in found if each["id"].startswith("training.")]

    assert [verdict for verdict, _ in counts(micro_run.folder)] == ["holds", "holds"]
    copy = tmp_path / "copy"
    shutil.copytree(micro_run.folder, copy, symlinks=True)
    figures = copy / "release" / "records" / "evaluate.json"
    record = json.loads(figures.read_text())
    record["figures"]["questions_in_training.asked.en"]["value"] -= 1
    figures.write_text(json.dumps(record))
    verdicts = counts(copy)
    assert [verdict for verdict, _ in verdicts] == ["fails", "holds"]
    assert verdicts[0][1].startswith("questions_in_training.asked.en: the record says")
    shutil.move((copy / "shards").resolve(), tmp_path / "elsewhere")
    assert [verdict for verdict, _ in counts(copy)] == ["could not be checked"]


def test_verify_accepts_the_run_and_names_a_changed_file(
    micro_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert zhen(["verify", str(micro_run.folder)]) == 0
    copy = tmp_path / "copy"
    shutil.copytree(micro_run.folder, copy, symlinks=True)
    shard = next((copy / "shards").resolve().rglob("shard-*.bin"))
    data = bytearray(shard.read_bytes())
    data[0] ^= 1
    shard.write_bytes(data)
    assert zhen(["verify", str(copy)]) == 2
    assert str(shard.relative_to(copy)) in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "release"],
        ["audit", "release"],
        ["verify", "."],
        ["generate", "release", "--prompt", "他", "--greedy"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_no_verb_reaches_for_the_network(micro_run: Any, arguments: list[str]) -> None:
    environment = dict(os.environ) | {"PYTHONPATH": str(micro_run.folder.parent)}
    environment.pop("ZHEN_LAUNCHED", None)
    verb, target, *rest = arguments
    command = [sys.executable, "-m", "zhen", verb, str(micro_run.folder / target), *rest]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "SOCKET" not in done.stderr


def test_the_block_on_sockets_is_seen_by_a_process(micro_run: Any) -> None:
    environment = dict(os.environ) | {"PYTHONPATH": str(micro_run.folder.parent)}
    code = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert "SOCKET ('127.0.0.1', 9)" in done.stderr


def test_inspect_says_llama(micro_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert zhen(["inspect", str(micro_run.folder / "release"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["family"], summary["naming"], summary["remote_code"]) == ("llama", "llama", [])


def test_a_changed_rule_runs_from_decide_on_and_changing_back_runs_nothing(micro_run: Any, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(micro_run.folder, copy, symlinks=True)

    def events(*arguments: str) -> list[str]:
        log = copy / "log.jsonl"
        before = len(log.read_text().splitlines())
        command = [sys.executable, "-m", "zhen", "run", str(MICRO), "shards", "--out", str(copy), *arguments]
        subprocess.run(command, check=True, capture_output=True)
        rows = [json.loads(line) for line in log.read_text().splitlines()[before:]]
        return [row["stage"] for row in rows if row["event"] == "start"]

    assert events("--set", "data.rules.min_characters_en=400") == ["data.decide", "data.write", "tokenizer", "shards"]
    assert events() == []


def test_dry_run_shows_every_stage_and_writes_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zhen", "run", str(MICRO), "--out", str(tmp_path / "run"), "--dry-run"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    for stage in PLANNED:
        assert stage.name in done.stdout
    for word in ("parameters", "FLOPs", "training memory", "tokens_per_step = 1024", "model.safetensors"):
        assert word in done.stdout
    assert not (tmp_path / "run").exists()
