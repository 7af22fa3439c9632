"""Recipes with [tune]: a checkpoint of others is tuned and released without any text; impossible ones are told."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from zhen.audit.checks import audit_checkpoint
from zhen.errors import ManyErrors
from zhen.infer.engine import load_engine
from zhen.infer.requests import Request
from zhen.infer.template import load_template
from zhen.recipe import load_recipe
from zhen.run import stages_of
from zhen.tune.readers import read_dialogues

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
learning_rate = 0.05
checkpoint_dtype = "float32"
[tune.lora]
rank = 2
[release]
license = "apache-2.0"
"""


@pytest.fixture(scope="module")
def recipe(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    data, path = folder / "mine.jsonl", folder / "recipe.toml"
    data.write_text('{"prompt": "Where does Mara live?", "completion": "In Orlin."}\n' * 5)
    path.write_text(TUNED.format(base=base, data=data))
    return path


@pytest.fixture(scope="module")
def command(recipe: Path) -> list[str]:
    return [sys.executable, "-m", "zhen", "run", str(recipe), "--out", str(recipe.parent / "run")]


@pytest.fixture(scope="module")
def release(recipe: Path, command: list[str]) -> Path:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return recipe.parent / "run" / "release"


def test_a_checkpoint_of_others_is_tuned_and_released(release: Path, command: list[str]) -> None:
    assert json.loads((release / "generation_config.json").read_text())["eos_token_id"] == [2, 7]
    assert (release / "chat_template.jinja").exists()
    record = json.loads((release.parent / "tune" / "record.json").read_text())
    assert {Path(given["path"]).name for given in record["inputs"]} >= {"mine.jsonl", "model.safetensors"}
    assert {each["kind"] for each in record["outputs"] if each["path"].startswith("adapter/")} == {"result"}
    again = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=True)
    assert len(re.findall(r" done +stages/", again.stdout)) == 3


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT of transformers
def test_the_adapter_is_released_checked_and_loaded_by_peft(base: Path, release: Path) -> None:
    verdicts = {found["id"]: found["verdict"] for found in json.loads((release / "audit.json").read_text())["findings"]}
    for claim in ("adapter.fits", "weights.only", "claims.weights", "claims.checkpoint", "claims.context"):
        assert verdicts[claim] == "holds"
    assert "`adapter/` holds what tuning added" in (release / "README.md").read_text(encoding="utf-8")
    peft = pytest.importorskip("peft", reason="PEFT is not installed")
    tokens = torch.randint(9, 400, (2, 12), generator=torch.Generator().manual_seed(1))
    models = [AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) for folder in (base, base, release)]
    models[1] = peft.PeftModel.from_pretrained(models[1], release / "adapter")
    before, applied, merged = (model(tokens).logits for model in models)
    torch.testing.assert_close(applied, merged, rtol=1e-4, atol=1e-4)
    assert (before - merged).abs().max() > 0.01


@pytest.mark.parametrize("change", ["rank", "name", "elsewhere", "bare"])
def test_an_adapter_that_is_not_the_releases_own_is_found(release: Path, tmp_path: Path, change: str) -> None:
    folder = tmp_path / "release"
    shutil.copytree(release, folder)
    if change == "rank":
        config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
        (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config | {"r": 3}))
    elif change == "name":
        weights = folder / "adapter" / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes().replace(b"layers.1.self_attn.q_proj", b"layers.7.self_attn.q_proj"))
    elif change == "elsewhere":
        shutil.move(folder / "adapter" / "adapter_config.json", folder / "adapter_config.json")
    else:
        shutil.rmtree(folder / "records")
        (folder / "figures.json").unlink()
    failed = {found.id for found in audit_checkpoint(folder).of("fails")}
    assert {"rank": "adapter.fits", "name": "adapter.fits"}.get(change, "weights.only") in failed


def test_transformers_chats_with_the_same_greedy_tokens(release: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(release, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(release, trust_remote_code=False, dtype=torch.float32)
    engine, template = load_engine(release, dtype="float32"), load_template(release)
    assert template is not None
    for text in ("Where does Mara live?", "马拉住在哪里？"):
        turns = [{"role": "user", "content": text}]
        asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        prompt = asked["input_ids"][0].tolist()
        assert template.encode(turns, engine.tokenizer) == prompt
        said = model.generate(**asked, max_new_tokens=20, do_sample=False)[0, len(prompt) :].tolist()
        (own,) = engine.generate([Request(prompt=prompt, max_tokens=20, stop_ids=frozenset({2, 7}))])
        assert own.tokens == [token for token in said if token not in (2, 7)]


def test_the_recipe_for_messages_of_ones_own_reads_its_dialogues(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(repository)
    recipe = load_recipe(repository / "recipes" / "tiny-chat.toml", [f"model.init={base}"])
    assert recipe.tune is not None
    assert [read_dialogues(Path(path))[1] for path in recipe.tune.data] == [[]]
    assert {dialogue.lang for dialogue in read_dialogues(Path(recipe.tune.data[0]))[0]} == {"en", "zh"}


def test_without_pretrain_there_is_no_stage_of_text(recipe: Path) -> None:
    assert [stage.name for stage in stages_of(load_recipe(recipe))] == ["tokenizer", "tune", "release"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ('tune.data=["sampleweb"]', "a section [sampleweb]"),
        ("tune.data=[]", "tune.data"),
        ('tune.method="dpo"', "tune.method"),
        ("tune.text_share=0.5", "no text is known"),
        ("tune.text_share=1.0", "tune.text_share"),
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
