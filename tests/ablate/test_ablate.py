"""`zhen ablate` from a recipe to its page: points, common data, divergence, going on, mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from zhen.ablate.grid import Grid, resolved, result
from zhen.ablate.points import Point, Source, toml
from zhen.ablate.results import ALL, Outcome, PointResult
from zhen.ablate.run import run_ablation
from zhen.cli.app import run
from zhen.cli.launch import LAUNCHED
from zhen.errors import ManyErrors, ZhenError
from zhen.model.size import flops_per_token, parameters
from zhen.recipe import load_recipe
from zhen.run import Run

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = (REPOSITORY / "recipes" / "micro.toml").read_text(encoding="utf-8")
POINTS = """
[ablate]
seeds = [1, 2]

[[ablate.points]]
name = "gqa"

[[ablate.points]]
name = "post"
set = { "model.norm_place" = "post" }

[[ablate.points]]
name = "too-fast"
set = { "pretrain.learning_rate" = 1e30, "pretrain.gradient_clip" = 1e30, "pretrain.optimizer" = "adamw" }
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an ablation that was taken, by a process of its own."""
    folder = tmp_path_factory.mktemp("ablation")
    recipe = folder / "recipe.toml"
    recipe.write_text(SMALL + POINTS, encoding="utf-8")
    call = [
        sys.executable,
        "-m",
        "zhen",
        "ablate",
        str(recipe),
        "--out",
        str(folder / "out"),
        "--set",
        "pretrain.tokens=8192",
    ]
    found = subprocess.run(call, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "diverged: too-fast" in found.stdout
    again = subprocess.run([*call, "--dry-run"], capture_output=True, text=True)
    assert [line.split()[:3] for line in again.stdout.splitlines() if "too-fast" in line] == [
        ["too-fast", "1", "diverged"],
        ["too-fast", "2", "diverged"],
    ]
    return folder


def stages(folder: Path, name: str) -> list[Path]:
    """The stage folders of that name."""
    return sorted((folder / "out" / "stages").glob(f"{name}-*"))


def test_data_are_made_once_and_every_run_has_its_own_training(done: Path) -> None:
    for name in ("sampleweb", "data.scan", "data.decide", "data.write", "tokenizer", "shards"):
        assert len(stages(done, name)) == 1
    assert len(stages(done, "pretrain")) == 6


def test_what_a_run_found_is_what_its_record_says(done: Path) -> None:
    found = json.loads((done / "out" / "ablation.json").read_text())
    assert [point["name"] for point in found["points"]] == ["gqa", "post", "too-fast"]
    seen = set()
    for point in found["points"][:2]:
        for outcome in point["outcomes"]:
            link = done / "out" / "points" / f"{point['name']}-seed{outcome['seed']}" / "pretrain"
            figures = json.loads((link / "record.json").read_text())["figures"]
            values = [figures[f"bits_per_byte.{lang}"]["value"] for lang in ("en", "zh")]
            assert outcome["bits_per_byte"]["all"] == pytest.approx(sum(values) / 2)
            seen.add(tuple(values))
    assert len(seen) == 4
    assert [comparison["verdict"] for comparison in found["comparisons"] if comparison["point"] == "too-fast"] == [
        "diverged"
    ] * 3


def test_post_norm_has_a_result_and_no_checkpoint(done: Path) -> None:
    post = done / "out" / "points" / "post-seed1" / "pretrain"
    assert (post / "record.json").exists()
    assert not (post / "checkpoint").exists()
    assert (done / "out" / "points" / "gqa-seed1" / "pretrain" / "checkpoint" / "config.json").exists()


def test_the_page_and_its_markdown_hold_every_point(done: Path) -> None:
    for name in ("ablation.html", "ablation.md"):
        text = (done / "out" / name).read_text(encoding="utf-8")
        assert all(point in text for point in ("gqa", "post", "too-fast"))
    assert "与 gqa 相比" in (done / "out" / "ablation.html").read_text(encoding="utf-8")


def test_a_second_call_trains_nothing(
    done: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (done / "out" / "stages").rglob("*") if path.is_file()}
    sets = ["--set", "pretrain.tokens=8192", "--json"]
    monkeypatch.setenv(LAUNCHED, "1")
    assert run(["ablate", str(done / "recipe.toml"), "--out", str(done / "out"), *sets]) == 0
    assert json.loads(capsys.readouterr().out)["seeds"] == [1, 2]
    assert before == {path: path.stat().st_mtime_ns for path in (done / "out" / "stages").rglob("*") if path.is_file()}


def test_stages_that_are_shared_are_not_pruned(done: Path) -> None:
    folder = done / "out" / "points" / "gqa-seed1"
    with pytest.raises(ZhenError, match="shares its stages"):
        Run(load_recipe(folder / "recipe.toml"), folder, command=[], workers=1, ray=None).prune()


def written(folder: Path, section: str) -> Path:
    """A recipe with this [ablate]."""
    path = folder / "recipe.toml"
    path.write_text(SMALL + section, encoding="utf-8")
    return path


def test_every_combination_of_a_grid_is_a_point(tmp_path: Path) -> None:
    grid = '[ablate.grid]\n"model.rope_theta" = [1e4, 1e5]\n"model.num_hidden_layers" = [1, 2, 3]\n'
    points = Source(written(tmp_path, grid), [], []).points()
    assert len({point.name for point in points}) == 6
    found = {(p.recipes[2].model.rope_theta, p.recipes[2].model.num_hidden_layers) for p in points}
    assert found == {(theta, layers) for theta in (1e4, 1e5) for layers in (1, 2, 3)}
    assert {seed: recipe.pretrain.seed for seed, recipe in points[0].recipes.items() if recipe.pretrain} == {
        1: 1,
        2: 2,
        3: 3,
    }


def test_combinations_with_one_name_are_refused(tmp_path: Path) -> None:
    grid = '[ablate.grid]\n"pretrain.mixture" = [{ "a/b" = 1.0 }, { "a_b" = 1.0 }]\n'
    with pytest.raises(ZhenError, match="2 points called"):
        Source(written(tmp_path, grid), [], []).points()


def test_what_was_run_is_on_the_page_where_a_fit_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = '[ablate]\nscaling = true\nseeds = [1]\n[ablate.grid]\n"model.num_hidden_layers" = [1, 2, 3]\n'
    source = Source(written(tmp_path, sizes + '"pretrain.tokens" = [8192, 16384, 32768]\n'), [], [])

    def take(grid: Grid, points: Sequence[Point]) -> list[PointResult]:
        grid.folder.mkdir()
        found = [Outcome(seed=1, bits_per_byte={ALL: 2.0, "en": 2.0, "zh": 2.0})] + [
            Outcome(seed=1, bits_per_byte={}, diverged="step 3") for _ in points[1:]
        ]
        return [result(point, [outcome]) for point, outcome in zip(points, found, strict=True)]

    monkeypatch.setattr(Grid, "take", take)
    with pytest.raises(ZhenError, match="1 runs of 1 sizes"):
        run_ablation(source, tmp_path / "out", ["zhen", "ablate"], 1)
    written_points = json.loads((tmp_path / "out" / "ablation.json").read_bytes())["points"]
    assert [bool(each["outcomes"][0]["bits_per_byte"]) for each in written_points] == [True] + [False] * 8
    assert (tmp_path / "out" / "ablation.html").exists()


def test_a_mixture_search_spreads_the_sources(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    more = f'[[data.sources]]\nname = "other"\npath = "{tmp_path}/a.txt"\n[ablate.mixture]\nproxies = 5\n'
    source = Source(written(tmp_path, more), [], [])
    shares = [point.shares for point in source.points()]
    assert len(shares) == 5
    assert all(sum(share.values()) == pytest.approx(1, abs=1e-9) and min(share.values()) >= 0.0499 for share in shares)
    assert all(list(point.recipes) == [1] for point in source.points())
    assert list(source.mixed("confirm", shares[0]).recipes) == [1, 2, 3]


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("[ablate]\n", "one of points, grid, mixture"),
        ("[ablate]\nseeds = []\n[ablate.grid]\n'model.rope_theta' = [1e4]\n", "at least one seed"),
        ("[[ablate.points]]\nname = 'a'\n[[ablate.points]]\nname = 'a'\n", "no other point has"),
        ("[[ablate.points]]\nname = 'a/b'\n", "a folder's name"),
        ("[ablate.grid]\n'model.rope_theta' = []\n", "at least one value"),
        ("[ablate.grid]\n'model.rope_theta' = [1e4, 1e5, 1e4]\n", "each once"),
        ("[ablate.grid]\n'pretrain.seed' = [1, 2]\n", r"\[ablate\] seeds"),
        ("[[ablate.points]]\nname = 'a'\nset = { 'pretrain.seed' = 7 }\n", r"\[ablate\] seeds"),
        ("[[ablate.points]]\nname = 'a'\nset = { 'run.name' = 'b' }\n", r"set = run.name; expected a key of another"),
        ("[ablate.grid]\n'ablate.seeds' = [[1], [2]]\n", "ablate.seeds; expected a key of another section"),
    ],
)
def test_mistakes_are_told_with_what_is_expected(tmp_path: Path, section: str, told: str) -> None:
    with pytest.raises(ManyErrors, match=told):
        Source(written(tmp_path, section), [], [])


def test_a_point_that_is_no_recipe_is_named(tmp_path: Path) -> None:
    section = "[[ablate.points]]\nname = 'odd'\nset = { 'model.num_key_value_heads' = 4, 'model.widht' = 1 }\n"
    with pytest.raises(ManyErrors, match=r'point "odd".*widht'):
        Source(written(tmp_path, section), [], []).points()


def test_runs_too_few_for_a_fit_are_told_before_any_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LAUNCHED, "1")
    (tmp_path / "a.txt").write_text("a")
    sources = "".join(f'[[data.sources]]\nname = "{name}"\npath = "{tmp_path}/a.txt"\n' for name in "abc")
    for section, told in (
        (
            "[ablate]\nscaling = true\n[ablate.grid]\n'model.num_hidden_layers' = [1, 2, 3]\n",
            "6 runs of 2 sizes and 1 l",
        ),
        (f"{sources}[ablate.mixture]\nproxies = 5\n", "5 for 4 sources"),
    ):
        assert run(["ablate", str(written(tmp_path, section)), "--out", str(tmp_path / "out")]) == 2
        assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_folders_place_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LAUNCHED, "1")
    path = written(tmp_path, POINTS)
    for more in ([], ["--dry-run"]):
        for folder in (path, path / "below"):
            assert run(["ablate", str(path), "--out", str(folder), *more]) == 2
            assert "is no folder" in capsys.readouterr().err
        assert run(["ablate", str(path), "--out", str(tmp_path), *more]) == 2
        assert "holds files, but no run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path]


def test_a_recipe_without_the_section_is_refused() -> None:
    with pytest.raises(ZhenError, match="nothing to compare"):
        Source(REPOSITORY / "recipes" / "micro.toml", [], [])


@pytest.mark.parametrize("value", [1, 2.5e-7, True, 'a "word" 真', [1, 2], {"a b": 0.5, "c": [True]}])
def test_values_come_back_from_toml(value: object) -> None:
    assert tomllib.loads(f"value = {toml(value)}")["value"] == value


@pytest.mark.parametrize("path", sorted((REPOSITORY / "recipes" / "ablate").glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_ablation_is_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHEN_REAL_DATA", "anywhere")
    points = Source(path, [], []).points()
    assert len({point.name for point in points}) == len(points) >= 4


def test_equal_parameters_and_equal_flops_are_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHEN_REAL_DATA", "anywhere")
    points = {p.name: p.recipes[1] for p in Source(REPOSITORY / "recipes/ablate/heads.toml", [], []).points()}

    def size_and_work(name: str) -> tuple[int, float]:
        config, pretrain = resolved(points[name]), points[name].pretrain
        assert pretrain is not None
        tokens = pretrain.steps * pretrain.tokens_per_step
        return parameters(config), flops_per_token(config, pretrain.sequence_length) * tokens

    size, work = size_and_work("gqa")
    for kind in ("mha", "mqa"):
        assert size_and_work(f"{kind}-equal-parameters")[0] == pytest.approx(size, rel=2e-3)
        # a step is a hundredth of the work, so half of one is as near as it gets
        assert size_and_work(f"{kind}-equal-flops")[1] == pytest.approx(work, rel=5.5e-3)
