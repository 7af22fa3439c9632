"""Recipes with [tune]: a checkpoint of others is tuned and released without any text; impossible ones are told."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from zhen.errors import ManyErrors
from zhen.recipe import load_recipe
from zhen.run import stages_of

TUNED = """
[run]
name = "tuned"
[model]
init = "{base}"
[tune]
data = ["{data}"]
steps = 2
batch = 2
sequence_length = 64
[tune.lora]
rank = 2
[release]
license = "apache-2.0"
"""


@pytest.fixture
def recipe(base: Path, tmp_path: Path) -> Path:
    data, path = tmp_path / "mine.jsonl", tmp_path / "recipe.toml"
    data.write_text('{"prompt": "Where does Mara live?", "completion": "In Orlin."}\n' * 5)
    path.write_text(TUNED.format(base=base, data=data))
    return path


def test_a_checkpoint_of_others_is_tuned_and_released(recipe: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zhen", "run", str(recipe), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    release = tmp_path / "run" / "release"
    assert json.loads((release / "generation_config.json").read_text())["eos_token_id"] == [2, 7]
    assert (release / "chat_template.jinja").exists()
    record = json.loads((tmp_path / "run" / "tune" / "record.json").read_text())
    assert {Path(given["path"]).name for given in record["inputs"]} >= {"mine.jsonl", "model.safetensors"}
    assert {each["kind"] for each in record["outputs"] if each["path"].startswith("adapter/")} == {"result"}
    again = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=True)
    assert len(re.findall(r" done +stages/", again.stdout)) == 3


def test_without_pretrain_there_is_no_stage_of_text(recipe: Path) -> None:
    assert [stage.name for stage in stages_of(load_recipe(recipe))] == ["tokenizer", "tune", "release"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ('tune.data=["sampleweb"]', "a section [sampleweb]"),
        ("tune.data=[]", "tune.data"),
        ('tune.method="dpo"', "tune.method"),
        ("tune.micro_batch=9", "at most the 2 of a step"),
        ("tune.warmup_steps=2", "fewer than the 2 steps"),
        ('tune.lora.targets=["lm_head"]', "lora.targets"),
        ("tune.lora.targets=[]", "each matrix once"),
        ("tune.keep_steps=[3]", "steps from 0 to 2"),
    ],
)
def test_what_cannot_be_is_told(recipe: Path, change: str, told: str) -> None:
    with pytest.raises(ManyErrors) as error:
        load_recipe(recipe, [change])
    assert told in "\n".join(error.value.lines())
