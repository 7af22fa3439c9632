"""The runner on toy stages: keys, what is done again, resume, links, tampering, locks, Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import types
from pathlib import Path

import msgspec
import pytest

import zhen.run as runner
from zhen.errors import Interrupted, ZhenError
from zhen.formats.files import FolderLock, write_text
from zhen.formats.outputs import check_hashes, check_sizes
from zhen.formats.record import Figure, Input
from zhen.formats.stage import Context, Figures, Stage
from zhen.model.config import PRESETS, to_config_json
from zhen.recipe import Recipe, load_recipe

RECIPE = """
[run]
name = "toy"
seed = 7
[[data.sources]]
name = "s"
path = "nowhere"
[tokenizer]
vocab_size = 300
[model]
preset = "micro"
[pretrain]
tokens = 1024
tokens_per_step = 128
sequence_length = 64
warmup_steps = 0
learning_rate = 1e-3
"""


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module of toy stages: `one` (one.a, one.b) -> `two`; what ran is listed in `ran`."""
    module = types.ModuleType("toy_stages")
    module.ran = []  # type: ignore[attr-defined]
    module.source = [Input("a.txt", 1, "00")]  # type: ignore[attr-defined]

    def work(name: str, reads: str | None) -> object:
        def entry(context: Context) -> Figures:
            module.ran.append(name)
            text = name + str(sorted(context.sections.items(), key=str))
            if reads:
                text += (context.after[reads] / "out.txt").read_text() if reads in context.after else ""
            context.output("out.txt", "result", write_text(context.folder / "out.txt", text))
            context.stop_here()
            return {"length": Figure(len(text), "characters")}

        return entry

    module.a, module.b = work("one.a", None), work("one.b", "one.a")  # type: ignore[attr-defined]
    module.two = work("two", "one.b")  # type: ignore[attr-defined]
    module.inputs = lambda _sections: module.source  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_stages", module)
    stages = (
        Stage("one.a", 1, ("run.seed",), (), "toy_stages:a", "toy_stages:inputs"),
        Stage("one.b", 1, ("pretrain.tokens",), ("one.a",), "toy_stages:b"),
        Stage("two", 1, ("pretrain.learning_rate",), ("one.b",), "toy_stages:two"),
    )
    monkeypatch.setattr(runner, "STAGES", stages)
    return module


def recipe(tmp_path: Path, *sets: str) -> Recipe:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return load_recipe(path, sets)


def take(tmp_path: Path, *sets: str, names: tuple[str, ...] = ()) -> dict:
    run = runner.Run(recipe(tmp_path, *sets), tmp_path / "run", command=["zhen"], workers=1, ray=None)
    return run.take(names)


def test_a_second_run_does_nothing(tmp_path: Path, toy: types.ModuleType) -> None:
    first = take(tmp_path)
    assert toy.ran == ["one.a", "one.b", "two"]
    assert take(tmp_path) == first
    assert toy.ran == ["one.a", "one.b", "two"]


def test_a_changed_setting_runs_only_what_depends_on_it_and_changing_back_runs_none(
    tmp_path: Path, toy: types.ModuleType
) -> None:
    take(tmp_path)
    toy.ran.clear()
    take(tmp_path, "pretrain.tokens=2048")
    assert toy.ran == ["one.b", "two"]
    toy.ran.clear()
    take(tmp_path, "pretrain.learning_rate=0.5")
    assert toy.ran == ["two"]
    toy.ran.clear()
    take(tmp_path)
    assert toy.ran == []


def test_the_name_changes_no_key_and_an_input_does(tmp_path: Path, toy: types.ModuleType) -> None:
    take(tmp_path)
    toy.ran.clear()
    take(tmp_path, "run.name=other")
    assert toy.ran == []
    toy.source[0] = Input("a.txt", 1, "01")
    take(tmp_path)
    assert toy.ran == ["one.a", "one.b", "two"]


def test_links_show_the_present_recipe_and_all_parts(tmp_path: Path, toy: types.ModuleType) -> None:
    take(tmp_path)
    old = (tmp_path / "run" / "two").resolve()
    take(tmp_path, "pretrain.learning_rate=0.5")
    assert (tmp_path / "run" / "two").resolve() != old
    take(tmp_path)
    assert (tmp_path / "run" / "two").resolve() == old
    assert (tmp_path / "run" / "one" / "out.txt").read_text().startswith("one.b")
    assert list(runner.records_of(tmp_path / "run")) == ["one.a", "one.b", "two"]


@pytest.mark.parametrize("change", ["shorter", "gone"])
def test_a_tampered_output_is_named_at_start(tmp_path: Path, toy: types.ModuleType, change: str) -> None:
    take(tmp_path)
    path = (tmp_path / "run" / "one").resolve() / "out.txt"
    path.write_text("x") if change == "shorter" else path.unlink()
    with pytest.raises(ZhenError, match="is missing" if change == "gone" else "has 1 bytes") as caught:
        take(tmp_path)
    assert str(path) == caught.value.file
    assert str(path.parent) in (caught.value.hint or "")


def test_equal_size_with_other_bytes_is_found_by_hash(tmp_path: Path, toy: types.ModuleType) -> None:
    take(tmp_path)
    folder = (tmp_path / "run" / "two").resolve()
    text = (folder / "out.txt").read_text()
    (folder / "out.txt").write_text("X" + text[1:])
    check_sizes(folder, runner.records_of(tmp_path / "run")["two"][1])
    with pytest.raises(ZhenError, match="SHA-256"):
        check_hashes({"two": folder})


def test_a_folder_in_use_names_its_owner(tmp_path: Path, toy: types.ModuleType) -> None:
    with FolderLock(tmp_path / "run"), pytest.raises(ZhenError, match=f"in use by pid {os.getpid()} on"):
        take(tmp_path)


def test_an_undeclared_file_is_an_error(tmp_path: Path, toy: types.ModuleType) -> None:
    entry = toy.two

    def careless(context: Context) -> Figures:
        (context.folder / "stray.bin").write_bytes(b"1")
        return entry(context)

    toy.two = careless
    with pytest.raises(ZhenError, match=r"stray\.bin"):
        take(tmp_path)


def test_a_failed_stage_leaves_no_record_and_is_gone_on_with(tmp_path: Path, toy: types.ModuleType) -> None:
    entry = toy.two

    def failing(_context: Context) -> Figures:
        raise ZhenError("disk full")

    toy.two = failing
    with pytest.raises(ZhenError, match="disk full"):
        take(tmp_path)
    toy.two = entry
    records = take(tmp_path)
    assert records["two"].resumed == 1
    assert records["one.b"].resumed == 0


def test_ctrl_c_stops_at_a_safe_point_and_the_same_run_goes_on(tmp_path: Path, toy: types.ModuleType) -> None:
    entry = toy.b

    def interrupted(context: Context) -> Figures:
        os.kill(os.getpid(), signal.SIGINT)
        return entry(context)

    toy.b = interrupted
    with pytest.raises(Interrupted):
        take(tmp_path)
    toy.b = entry
    assert set(take(tmp_path)) == {"one.a", "one.b", "two"}
    events = [json.loads(line)["event"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert events == ["start", "done", "start", "stopped", "kept", "start", "done", "start", "done"]


def test_naming_a_stage_runs_it_and_what_it_needs(tmp_path: Path, toy: types.ModuleType) -> None:
    assert list(take(tmp_path, names=("one",))) == ["one.a", "one.b"]
    with pytest.raises(ZhenError, match='no stage "tow"'):
        take(tmp_path, names=("tow",))


def test_a_missing_source_is_listed_and_stops_the_run(tmp_path: Path, toy: types.ModuleType) -> None:
    def missing(_sections: object) -> list[Input]:
        raise ZhenError("no such folder", file="corpus")

    toy.inputs = missing
    planned = runner.plan(recipe(tmp_path), tmp_path / "run")
    assert [item.key for item in planned] == ["?", "?", "?"]
    assert [item.state for item in planned] == ["source missing", "unknown", "unknown"]
    with pytest.raises(ZhenError, match="corpus: no such folder"):
        take(tmp_path)


def test_prune_removes_only_what_the_recipe_does_not_use(tmp_path: Path, toy: types.ModuleType) -> None:
    take(tmp_path, "pretrain.tokens=2048")
    take(tmp_path)
    run = runner.Run(recipe(tmp_path), tmp_path / "run", command=["zhen"], workers=1, ray=None)
    assert sorted(path.name.split("-")[0] for path in run.prune()) == ["one.b", "two"]
    assert len(list((tmp_path / "run" / "stages").iterdir())) == 3


def test_prune_removes_nothing_while_a_source_is_missing(tmp_path: Path, toy: types.ModuleType) -> None:
    take(tmp_path)

    def missing(_sections: object) -> list[Input]:
        raise ZhenError("no such folder", file="corpus")

    toy.inputs = missing
    before = sorted((tmp_path / "run" / "stages").iterdir())
    run = runner.Run(recipe(tmp_path), tmp_path / "run", command=["zhen"], workers=1, ray=None)
    with pytest.raises(ZhenError, match="corpus: no such folder"):
        run.prune()
    assert sorted((tmp_path / "run" / "stages").iterdir()) == before


def test_prune_leaves_a_folder_in_use_alone(tmp_path: Path, toy: types.ModuleType) -> None:
    take(tmp_path)
    run = runner.Run(recipe(tmp_path), tmp_path / "run", command=["zhen"], workers=1, ray=None)
    with FolderLock(tmp_path / "run"), pytest.raises(ZhenError, match="in use"):
        run.prune()


def test_links_of_another_recipe_are_gone_when_only_some_stages_are_named(
    tmp_path: Path, toy: types.ModuleType
) -> None:
    take(tmp_path)
    take(tmp_path, "pretrain.tokens=2048", names=("one",))
    assert not (tmp_path / "run" / "two").is_symlink()
    assert list(runner.records_of(tmp_path / "run")) == ["one.a", "one.b"]


def test_a_removed_stage_is_missed(tmp_path: Path, toy: types.ModuleType) -> None:
    take(tmp_path)
    gone = next((tmp_path / "run" / "stages").glob("one.a-*"))
    shutil.rmtree(gone)
    with pytest.raises(ZhenError, match="no record of a finished stage") as caught:
        runner.records_of(tmp_path / "run")
    assert caught.value.file == str(gone)
    take(tmp_path)
    assert list(runner.records_of(tmp_path / "run")) == ["one.a", "one.b", "two"]


@pytest.mark.parametrize("content", ["", "{", "{}", "[]"])
def test_a_torn_count_of_attempts_is_an_attempt(tmp_path: Path, toy: types.ModuleType, content: str) -> None:
    take(tmp_path)
    folder = (tmp_path / "run" / "two").resolve()
    (folder / "record.json").unlink()
    (folder / ".attempts.json").write_text(content)
    assert take(tmp_path)["two"].resumed == 1


def test_killed_between_record_and_the_end_of_the_count_it_is_done(tmp_path: Path, toy: types.ModuleType) -> None:
    take(tmp_path)
    folder = (tmp_path / "run" / "stages").glob("one.a-*")
    (next(folder) / ".attempts.json").write_text('{"attempts": 1}')
    toy.ran.clear()
    take(tmp_path, "pretrain.tokens=2048")
    assert toy.ran == ["one.b", "two"]
    assert sorted(path.name for path in (tmp_path / "run" / "one").iterdir()) == ["out.txt", "record.json"]


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path, toy: types.ModuleType) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.toml").write_text("mine")
    with pytest.raises(ZhenError, match="holds files, but no run"):
        take(tmp_path)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["recipe.toml"]


def test_a_file_with_the_name_of_a_link_is_not_replaced(tmp_path: Path, toy: types.ModuleType) -> None:
    take(tmp_path)
    (tmp_path / "run" / "two").unlink()
    (tmp_path / "run" / "two").write_text("mine")
    with pytest.raises(ZhenError, match="in the way of the link"):
        take(tmp_path)
    assert (tmp_path / "run" / "two").read_text() == "mine"


def test_a_run_folder_that_is_a_file_is_an_error(tmp_path: Path, toy: types.ModuleType) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(ZhenError, match="is no folder"):
        take(tmp_path)


def test_ctrl_c_in_a_stages_last_moments_begins_no_other(tmp_path: Path, toy: types.ModuleType) -> None:
    entry = toy.a

    def interrupted(context: Context) -> Figures:
        figures: Figures = entry(context)
        os.kill(os.getpid(), signal.SIGINT)
        return figures

    toy.a = interrupted
    with pytest.raises(Interrupted):
        take(tmp_path)
    assert toy.ran == ["one.a"]
    assert [path.name for path in (tmp_path / "run" / "stages").glob("*/record.json")] == ["record.json"]


def test_a_declared_file_that_is_missing_is_named(tmp_path: Path, toy: types.ModuleType) -> None:
    entry = toy.two

    def careless(context: Context) -> Figures:
        context.output("never.bin", "result")
        return entry(context)

    toy.two = careless
    with pytest.raises(ZhenError, match=r"never\.bin"):
        take(tmp_path)


def test_a_run_does_not_go_on_from_a_checkpoint_that_it_would_replace(tmp_path: Path, toy: types.ModuleType) -> None:
    take(tmp_path)
    config = msgspec.structs.replace(PRESETS["micro"], vocab_size=300)
    (tmp_path / "run" / "two" / "config.json").write_text(json.dumps(to_config_json(config, "float32")))
    with pytest.raises(ZhenError, match="in this run's own folder"):
        take(tmp_path, f"model.init={tmp_path / 'run' / 'two'}")
    assert (tmp_path / "run" / "two").is_symlink()
