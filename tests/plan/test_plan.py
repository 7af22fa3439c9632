"""The verb: a plan as a table, as JSON, as a page; without torch; one clear error for what can't be."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from zhen.cli.app import run
from zhen.plan.layouts import Layout
from zhen.recipe import load_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
YI = str(RECIPES / "yi-34b.toml")


def test_a_plan_is_made_without_torch_or_any_other_heavy_library() -> None:
    code = f"""
import sys
from zhen.cli.app import run
status = run(["plan", {YI!r}, "--gpus", "128", "--device", "H100"])
heavy = {{"torch", "pyarrow", "daft", "numba", "jinja2", "altair", "sentencepiece"}} & set(sys.modules)
print("LOADED", *heavy)
sys.exit(status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED"
    assert "128 × H100" in done.stdout


def test_json_is_one_object_with_all_of_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", YI, "--gpus", "128", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["model"]["parameters"] == 34_388_917_248
    assert plan["chosen"]["fits"]
    assert plan["chosen"]["bytes"] <= plan["usable_bytes"]
    assert plan["chosen"]["seconds"] == pytest.approx(sum(plan["chosen"]["step"]["parts"].values()))
    assert {"checkpoints", "run", "data", "serving", "device", "choices"} <= plan.keys()
    assert [work["raw_bytes"] for work in plan["data"]] == [1e12, 1e15, 3e15]


@pytest.mark.parametrize(
    "layout",
    [
        Layout(shards=16, tensor=8, micro_batch=2),
        Layout(shards=4, context=2),
        Layout(shards=8, recompute="selective", loss_chunk=2048),
        Layout(shards=4, context=2, precision="float8"),
    ],
)
def test_a_recipe_takes_what_a_layout_is_asked_for_with(layout: Layout) -> None:
    pretrain = load_recipe(Path(YI), layout.asked_for("pretrain")).pretrain
    assert pretrain is not None
    mesh = pretrain.parallel
    assert (mesh.data, mesh.tensor, mesh.context) == (layout.shards, layout.tensor, layout.context)
    assert pretrain.micro_batch == layout.micro_batch
    assert (pretrain.recompute, pretrain.loss_chunk) == (layout.recompute, layout.loss_chunk)
    assert (pretrain.float8 is not None) == (layout.precision == "float8")
    assert not list(pretrain.problems())


def test_what_a_recipe_recomputes_already_is_changed_to_what_is_planned() -> None:
    for layout in (Layout(shards=8), Layout(shards=2, tensor=4), Layout(shards=8, recompute="full")):
        sets = ['pretrain.recompute="full"', *layout.asked_for("pretrain", "full")]
        pretrain = load_recipe(Path(YI), sets).pretrain
        assert pretrain is not None
        assert pretrain.recompute == layout.recompute
        assert not list(pretrain.problems())
    assert Layout(shards=2, tensor=4).asked_for("pretrain", loss_chunk=2048) == []


@pytest.mark.parametrize("gpus", [6, 8, 12, 20])
def test_the_command_below_a_plan_starts_as_many_processes(gpus: int, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = f"pretrain.tokens_per_step={240 * 64 * 4096}"
    run(["plan", str(RECIPES / "yi-6b.toml"), "--gpus", str(gpus), "--set", tokens])
    shown = " ".join(capsys.readouterr().out.split())
    (words,) = re.findall(r"torchrun (?:--nnodes (\d+) … )?--nproc-per-node (\d+)", shown)
    assert int(words[0] or 1) * int(words[1]) == gpus


def test_layouts_that_training_can_not_make_are_asked_for_by_nothing() -> None:
    for layout in (Layout(shards=2, tensor=2, precision="float8"), Layout(replicas=2, shards=2)):
        assert layout.asked_for("pretrain") == []


def test_a_price_changes_the_cost_alone(capsys: pytest.CaptureFixture[str]) -> None:
    plans = []
    for price in ("1", "2"):
        run(["plan", YI, "--gpus", "128", "--json", "--price", price])
        plans.append(json.loads(capsys.readouterr().out))
    assert plans[1]["run"]["cost"] == pytest.approx(2 * plans[0]["run"]["cost"])
    assert plans[1]["run"]["days"] == plans[0]["run"]["days"]


@pytest.mark.parametrize("price", ["inf", "nan", "-1"])
def test_a_price_that_is_none_is_one_clear_error(price: str, capsys: pytest.CaptureFixture[str]) -> None:
    for given in (["--price", price], ["--set", f"plan.price={price}"]):
        assert run(["plan", YI, *given]) == 2
        told = capsys.readouterr()
        assert (told.out, "price" in told.err) == ("", True)


def test_a_recipe_keeps_what_its_plan_is_for_and_options_go_before(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(Path(YI).read_text() + '\n[plan]\ngpus = 256\ndevice = "A800"\nprice = 0.5\n')
    assert run(["plan", str(recipe), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["gpus"], plan["device"]["name"], plan["device"]["price"]) == (256, "A800", 0.5)
    assert run(["plan", str(recipe), "--gpus", "128", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gpus"] == 128
    assert run(["plan", str(recipe), "--set", "plan.gpus=0"]) == 2
    assert "gpus" in capsys.readouterr().err


def test_the_page_has_both_languages_and_needs_no_network(tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    assert run(["plan", YI, "--gpus", "128", "--html", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "Memory of a device" in text
    assert "每卡显存" in text
    assert "http://" not in text
    assert "https://" not in text


def test_an_extension_is_planned_with_the_model_that_it_makes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    longer = (RECIPES / "yi-34b-200k.toml").read_text()
    recipe.write_text(longer.replace("[extend]", "[extend]\nrepeat_layers = 8"))
    asked = ["--gpus", "128", "--stage", "extend"]
    assert run(["plan", str(recipe), *asked, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["training"]["sequence_length"] == 200_000
    assert plan["training"]["tokens"] == pytest.approx(5e9, rel=1e-3)
    layer = (34_388_917_248 - 2 * 64_000 * 7_168 - 7_168) // 60
    assert plan["model"]["parameters"] == 34_388_917_248 + 8 * layer
    assert max(row["context"] for row in plan["serving"]) == 200_000
    assert run(["plan", str(RECIPES / "yi-34b-200k.toml"), *asked]) == 0
    assert "--set 'extend.parallel={" in capsys.readouterr().out
    # as planned without saying which: the training from the beginning
    assert run(["plan", str(recipe), "--gpus", "128", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["training"]["sequence_length"] == 4_096
    assert run(["plan", YI, *asked]) == 2
    assert "no [extend]" in capsys.readouterr().err


def test_where_nothing_fits_the_answer_is_no_with_the_part_that_is_too_large(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["plan", YI, "--gpus", "1", "--device", "4090"]) == 1
    assert "No layout fits on 1 × 4090" in capsys.readouterr().out
    assert run(["plan", YI, "--gpus", "1", "--device", "4090", "--json"]) == 1
    plan = json.loads(capsys.readouterr().out)
    assert plan["chosen"] is None
    assert plan["run"] is None
    assert {choice["limit"] for choice in plan["choices"]} == {"optimizer"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "H10"], '--device: unknown device "H10"; expected one of H100'),
        (["--gpus", "7"], "--gpus: 7 devices for steps of 1,024 sequences"),
        (["--device", "A800", "--precision", "float8"], "--precision: A800 has no float8; expected bfloat16"),
        (["--device", "A800", "--set", 'pretrain.float8="rowwise"'], "pretrain.float8: A800 has no float8"),
        (["--set", 'pretrain.dtype="float32"'], "pretrain.dtype: H100 has no float32; expected bfloat16, float8"),
        (["--set", 'plan.precision="float8"', "--device", "A800"], "plan.precision: A800 has no float8"),
        (["--set", 'plan.device="H10"'], 'yi-34b.toml, plan.device: unknown device "H10"'),
        (["--device", "here", "--gpus", "2"], "--gpus: 2 devices here; expected one"),
    ],
)
def test_what_can_not_be_planned_is_one_clear_error(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plan", YI, *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("options", "due"),
    [
        ([], "bfloat16"),
        (["--set", 'pretrain.float8="tensorwise"'], "float8"),
        (["--set", 'pretrain.float8="tensorwise"', "--precision", "bfloat16"], "bfloat16"),
    ],
)
def test_it_is_planned_in_what_the_recipe_trains_in(
    options: list[str], due: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plan", YI, "--gpus", "1024", "--json", *options]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["training"]["precision"] == plan["chosen"]["layout"]["precision"] == due


def test_the_plans_in_the_docs_are_those_of_today() -> None:
    pages = sorted((RECIPES.parent / "docs" / "results" / "plans").glob("*.md"))
    assert len(pages) == 3
    for page in pages:
        shown = page.read_text(encoding="utf-8").split("```\n")[1].splitlines()
        words = shown[0].removeprefix("$ zhen ").split()
        command = [sys.executable, "-m", "zhen", *words]
        made = subprocess.run(
            command, cwd=RECIPES.parent, env={**os.environ, "COLUMNS": "200"}, stdout=subprocess.PIPE, text=True
        )
        assert [line.rstrip() for line in made.stdout.splitlines()] == shown[1:], page.name


@pytest.mark.parametrize("recipe", sorted(path.name for path in RECIPES.glob("*.toml") if "chat" not in path.name))
def test_every_recipe_has_a_plan(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = run(["plan", str(RECIPES / recipe), "--gpus", "8"])
    assert (status, capsys.readouterr().out != "") in ((0, True), (1, True), (2, False))


@pytest.mark.parametrize(
    ("units", "named", "due"),
    [(True, [], "bfloat16"), (False, [], "float32"), (True, ["--set", 'pretrain.dtype="float32"'], "float32")],
)
def test_this_machine_is_measured_and_planned_as_the_recipe_trains(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, units: bool, named: list[str], due: str
) -> None:
    monkeypatch.setenv("ZHEN_LAUNCHED", "1")
    monkeypatch.setattr("zhen.plan.here.SECONDS", 0.01)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": units})
    assert run(["plan", str(RECIPES / "micro.toml"), "--device", "here", "--json", *named]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["device"]["name"] == "here"
    assert plan["training"]["precision"] == plan["chosen"]["layout"]["precision"] == due
    assert list(plan["device"]["peak"]) == [due]
    # autocast has a second copy of the weights
    assert bool(plan["chosen"]["memory"]["parts"].get("bfloat16 copies")) == (due == "bfloat16")
    assert plan["looked_at"] == 1
    assert set(plan["chosen"]["step"]["parts"]) == {"products", "attention", "between them", "optimizer"}
    assert plan["chosen"]["layout"]["compiled"] is False


@pytest.mark.filterwarnings("ignore")  # PyTorch's compiler warns of its own doings
def test_this_machine_is_planned_compiled_where_the_training_will_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZHEN_LAUNCHED", "1")
    monkeypatch.setattr("zhen.plan.here.SECONDS", 0.01)
    how = ["pretrain.compile=true", 'pretrain.recompute="selective"', "pretrain.loss_chunk=64"]
    command = ["plan", str(RECIPES / "micro.toml"), "--device", "here", "--json"]
    assert run(command + [word for given in how for word in ("--set", given)]) == 0
    layout = json.loads(capsys.readouterr().out)["chosen"]["layout"]
    assert (layout["compiled"], layout["recompute"], layout["loss_chunk"]) == (True, "selective", 64)
