"""Recipes: overrides, every mistake at once with its line, combinations, and that the shipped ones are right."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from zhen.errors import ManyErrors, ZhenError
from zhen.model.config import PRESETS, to_config_json
from zhen.recipe import load_recipe, model_config, section, to_toml
from zhen.run import stages_of

RECIPES = Path(__file__).resolve().parents[2] / "recipes"

GOOD = """\
[run]
name = "r"

[[data.sources]]
name = "web"
path = "./pages"

[tokenizer]
vocab_size = 1000

[model]
preset = "micro"

[pretrain]
tokens = 100_000
tokens_per_step = 1_024
sequence_length = 64
learning_rate = 1e-3
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def mistakes(path: Path, *sets: str) -> list[str]:
    with pytest.raises(ManyErrors) as caught:
        load_recipe(path, sets)
    return [line.replace(f"{path}, ", "") for line in caught.value.lines()]


def test_defaults_and_values_are_resolved(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD))
    assert recipe.run.seed == 1
    assert section(recipe, "pretrain.tokens") == 100_000
    assert section(recipe, "sampleweb") is None
    assert model_config(recipe).vocab_size == 0


def test_the_resolved_recipe_reads_back_as_itself(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD))
    again = load_recipe(write(tmp_path, to_toml(recipe)))
    assert again == recipe


def test_every_mistake_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    text = GOOD.replace("tokens = 100_000", 'tokens = "many"').replace("vocab_size", "vocab_sise")
    text = text.replace("learning_rate", "learnin_rate").replace("[run]\n", "[run]\ncolour = 1\n")
    found = mistakes(write(tmp_path, text))
    assert 'line 2: unknown key "run.colour"' in found
    assert 'line 10: unknown key "tokenizer.vocab_sise"' in found
    assert 'hint: did you mean "vocab_size"?' in found
    assert any(line.startswith('line 16: pretrain.tokens = "many"; expected') for line in found)
    assert any(line.startswith('line 19: unknown key "pretrain.learnin_rate"') for line in found)
    assert any('"pretrain.learning_rate" is missing' in line for line in found)


def test_an_unknown_section_is_named_with_the_nearest(tmp_path: Path) -> None:
    assert mistakes(write(tmp_path, GOOD + "\n[pretrian]\nx = 1\n")) == [
        'line 20: unknown key "pretrian"',
        'hint: did you mean "pretrain"?',
    ]


def test_a_mistake_in_a_list_of_tables_has_the_line_of_its_entry(tmp_path: Path) -> None:
    text = GOOD.replace("[tokenizer]", '[[data.sources]]\nname = "b"\npath = 3\n\n[tokenizer]')
    assert mistakes(write(tmp_path, text)) == ["line 10: data.sources.1.path = 3; expected a string"]


def test_set_takes_toml_values_and_names_itself_in_errors(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert load_recipe(path, ["pretrain.tokens=204_800", "run.name=other"]).pretrain.tokens == 204_800  # type: ignore[union-attr]
    (line, *_) = mistakes(path, "pretrain.tokens=true")
    assert line.startswith("--set pretrain.tokens: pretrain.tokens = true; expected")
    with pytest.raises(ZhenError, match=r"expected key\.path=value"):
        load_recipe(path, ["pretrain.tokens"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("sequence_length = 64", "sequence_length = 1_024"), "at most the model's max_position_embeddings"),
        (('preset = "micro"', 'preset = "micor"'), 'did you mean "micro"'),
        (('path = "./pages"', 'path = "sampleweb"'), "[sampleweb]"),
        (('preset = "micro"', "vocab_size = 10"), "[model] without hidden_size"),
        (('preset = "micro"', 'preset = "micro"\nvocab_size = 10'), "at least tokenizer.vocab_size = 1000"),
        (("[[data.sources]]", "[[data.sourcs]]"), 'unknown key "data.sourcs"'),
        (("learning_rate", "mixture = { wbe = 1.0 }\nlearning_rate"), "one of web"),
        (("learning_rate", "phases = [{ share = 1.0, mixture = { wbe = 1.0 } }]\nlearning_rate"), "one of web"),
        (("learning_rate", "phases = [{ share = 0.4 }, { share = 0.5 }]\nlearning_rate"), "shares that add up to 0.9"),
        (("learning_rate", "phases = [{ share = 1.0 }]\nmixture = { web = 1.0 }\nlearning_rate"), "one of the two"),
        (("learning_rate", "phases = [{ share = 1e-9 }, { share = 1.0 }]\nlearning_rate"), "at least one step"),
        (('path = "./pages"', 'path = "sampleweb/strings"'), 'the source "sampleweb/strings"'),
        (
            (
                'path = "./pages"',
                'path = "sampleweb"\n[[data.sources]]\nname = "s"\npath = "sampleweb/strings"\n[sampleweb]',
            ),
            "sampleweb.strings of 1 or more",
        ),
        (
            ("learning_rate", 'health = { spike = "rewind", rewind_batches = 100 }\nlearning_rate'),
            "pretrain.health.rewind_batches = 100 with rewind_steps 100, rewind_after 4; expected at least 104",
        ),
        (
            ("learning_rate", "parallel = { tensor = 2 }\nlearning_rate"),
            "pretrain.parallel.tensor = 2 with num_key_value_heads 1; expected a divisor of num_key_value_heads",
        ),
        (
            ("learning_rate", "invariant = true\nmicro_batch = 1\nparallel = { tensor = 2 }\nlearning_rate"),
            "pretrain.invariant = true with parallel.tensor 2; expected parallel.tensor = 1",
        ),
        (
            ("learning_rate", "invariant = true\nmicro_batch = 1\nparallel = { context = 2 }\nlearning_rate"),
            "pretrain.invariant = true with parallel.context 2; expected parallel.context = 1",
        ),
        (
            ("learning_rate", "parallel = { context = 3 }\nlearning_rate"),
            "pretrain.parallel.context = 3 with sequence_length 64; expected a number whose double divides",
        ),
    ],
)
def test_impossible_combinations_are_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert message in "\n".join(mistakes(write(tmp_path, GOOD.replace(*change))))


def test_what_is_no_toml_or_no_file_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ZhenError, match="is not TOML"):
        load_recipe(write(tmp_path, "[run\n"))
    with pytest.raises(ZhenError, match="no such recipe"):
        load_recipe(tmp_path / "none.toml")


def test_data_brings_sources_instead_of_the_sample_web() -> None:
    recipe = load_recipe(RECIPES / "tiny.toml", data_folders=["a/en", "b/zh", "c/en/"])
    assert recipe.sampleweb is None
    assert [(source.name, source.path) for source in recipe.data.sources] == [  # type: ignore[union-attr]
        ("en", "a/en"),
        ("zh", "b/zh"),
        ("en-2", "c/en/"),
    ]
    assert recipe.tune is None
    assert recipe.evaluate.of == ["pretrain:0", "pretrain"]
    assert recipe.evaluate.tasks == ["bits-per-byte", "samples"]
    own = ['tune.data=["mine.jsonl"]', 'evaluate.of=["tune"]', 'evaluate.tasks=["q.jsonl", "dialogue"]']
    recipe = load_recipe(RECIPES / "tiny.toml", own, ["a"])
    assert recipe.tune is not None
    assert recipe.evaluate.tasks == ["q.jsonl", "dialogue"]


def test_the_sample_webs_questions_need_the_sample_web(tmp_path: Path) -> None:
    found = mistakes(write(tmp_path, GOOD + '\n[evaluate]\ntasks = ["sampleweb"]\n'))
    assert found == ['line 21: the task "sampleweb"; expected a section [sampleweb]']


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_right_and_named_as_its_file(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.run.name == path.stem
    assert tomllib.loads(to_toml(recipe))["run"]["name"] == path.stem


def test_set_reaches_into_lists_and_quoted_names(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    recipe = load_recipe(path, ["data.sources.0.path=elsewhere", 'pretrain.mixture."web"=1'])
    assert recipe.data.sources[0].path == "elsewhere"  # type: ignore[union-attr]
    assert recipe.pretrain.mixture == {"web": 1.0}  # type: ignore[union-attr]
    (line,) = mistakes(path, "data.sources.0.path=3")
    assert line == "--set data.sources.0.path: data.sources.0.path = 3; expected a string"


@pytest.mark.parametrize("key", ["data.sources.1.path", "data.sources.x.path", "data.sources.7", "run.name.x"])
def test_set_through_what_is_no_table_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(ZhenError, match=f'"{key}" leads through a value that is no table'):
        load_recipe(write(tmp_path, GOOD), [f"{key}=1"])


def test_an_unknown_section_is_named_with_the_option_that_set_it(tmp_path: Path) -> None:
    line, hint = mistakes(write(tmp_path, GOOD), "pretrian.tokens=1")
    assert line == '--set pretrian.tokens: unknown key "pretrian"'
    assert hint == 'hint: did you mean "pretrain"?'


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(ZhenError, match="could not be read: Is a directory; expected a recipe"):
        load_recipe(tmp_path)


def test_sources_brought_along_have_usable_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "texts" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "texts" / "inner")
    folders = ["..", ".", "a/en", "b/en", "c/en", "x/.hidden", "s3://bucket/", "..."]
    sources = load_recipe(RECIPES / "tiny.toml", data_folders=folders).data.sources  # type: ignore[union-attr]
    expected = ["texts", "inner", "en", "en-2", "en-3", "hidden", "bucket", "data"]
    assert [source.name for source in sources] == expected


def test_data_beside_sections_that_are_no_tables_is_a_mistake_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'run = { name = "x" }\ndata = 3\npretrain = 4\n')
    with pytest.raises(ManyErrors) as caught:
        load_recipe(path, data_folders=["texts"])
    assert "data = 3; expected a table" in "\n".join(caught.value.lines())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("pretrain.learning_rate=inf", "a finite number"),
        ("pretrain.mixture={ web = nan }", "a finite number"),
        ("pretrain.tokens=100000000000000000000", "a whole number of 64 bits"),
        ("run.seed=-1", "a whole number from 0 on"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(tmp_path: Path, value: str, expected: str) -> None:
    (line, *_) = mistakes(write(tmp_path, GOOD), value)
    assert line.endswith(f"expected {expected}")


def test_an_unreadable_init_is_one_mistake_among_the_others(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    for init, found in (("/no/such", "no readable configuration"), ("${ZHEN_NOT_SET}/x", "ZHEN_NOT_SET is not set")):
        text = "\n".join(mistakes(path, f"model.init={init}", "pretrain.mixture.wbe=1.0"))
        assert found in text
        assert "--set model.init" in text
        assert "one of web" in text


def test_a_resolved_recipe_read_again_is_the_same_recipe(tmp_path: Path) -> None:
    for path in RECIPES.glob("*.toml"):
        recipe = load_recipe(path)
        again = tmp_path / "again.toml"
        again.write_text(to_toml(recipe))
        assert load_recipe(again) == recipe


EXTEND = """
[extend]
tokens = 100_000
tokens_per_step = 1_024
sequence_length = 512
learning_rate = 1e-3
rope_theta = 100_000.0
warmup_steps = 0
"""


def test_what_extend_can_not_be_is_told_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + EXTEND)
    assert [stage.name for stage in stages_of(load_recipe(path))][-5:-1] == ["shards", "pretrain", "extend", "evaluate"]
    assert mistakes(path, "extend.sequence_length=64")[0] == (
        "--set extend.sequence_length: extend.sequence_length = 64; "
        "expected more than the 64 that the model was trained for"
    )
    text = GOOD + EXTEND.replace("100_000.0", "5_000.0").replace("[extend]", "[extend]\nmixture = { pages = 1.0 }")
    assert mistakes(write(tmp_path, text)) == [
        "line 26: extend.rope_theta = 5000; expected more than the model's 10000",
        'line 21: the mixture\'s "pages"; expected one of web',
    ]
    scaled = EXTEND.replace("rope_theta = 100_000.0", 'rope_scaling = { rope_type = "dynamic", factor = 8.0 }')
    assert mistakes(write(tmp_path, GOOD + scaled))[-1] == (
        "hint: what it comes to at 8 times the length (NTK): rope_theta = 107672"
    )


def test_extend_goes_on_from_a_given_checkpoint_without_pretrain(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(to_config_json(PRESETS["yi-6b"], "bfloat16")))
    head, _, _ = GOOD.partition("[tokenizer]")
    init = f'[model]\ninit = "{tmp_path}"\n'
    longer = EXTEND.replace("512", "8_192").replace("1_024", "8_192").replace("100_000.0", "1e7")
    recipe = load_recipe(write(tmp_path, head + init + longer))
    names = [stage.name for stage in stages_of(recipe)]
    assert "pretrain" not in names
    assert {"data.scan", "tokenizer", "shards", "extend", "evaluate", "release"} <= set(names)
    assert mistakes(write(tmp_path, head + init + EXTEND.replace("100_000.0", "1e7"))) == [
        "line 14: extend.sequence_length = 512; expected more than the 4,096 that the model was trained for"
    ]
    assert "hidden_size beside init" in mistakes(write(tmp_path, head + init + "hidden_size = 64\n" + longer))[0]
