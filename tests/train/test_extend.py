"""The stage `extend`: longer sequences, other rotary settings, long documents more often, layers that come twice."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from zhen.checkpoint.load import load_model, save_model
from zhen.errors import Interrupted, ManyErrors
from zhen.formats.shard import open_shards, write_shard
from zhen.model.config import PRESETS, ModelConfig, RopeScaling
from zhen.model.transformer import Transformer, initialise
from zhen.train.depth import layer_cosines, least_changing
from zhen.train.extended import extend_problems, extended_config, repeated
from zhen.train.lengths import LONG, SHORT, OfLength, Upsampling
from zhen.train.order import plan_phases, plan_quotas
from zhen.train.phases import Phase
from zhen.train.settings import ExtendSettings

KILLED = -9
IDENTITY = 1
"""The layer of the planted model that changes nothing."""


@pytest.fixture(scope="module")
def extend_run() -> ModuleType:
    """The module `extend_run.py` beside this file."""
    return importlib.import_module("extend_run")


@pytest.fixture(scope="module")
def base(small_run: ModuleType, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs with a trained model of the old length in `pretrain/`."""
    folder = tmp_path_factory.mktemp("extend-inputs")
    for name in ("shards", "tokenizer"):
        (folder / name).symlink_to(inputs / name)
    small_run.run(small_run.context_for(inputs, folder / "pretrain", tokens=4 * 256))
    return folder


@pytest.fixture(scope="module")
def finished(extend_run: ModuleType, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(context, figures) of a run that takes long documents more often."""
    context = extend_run.context_for(base, tmp_path_factory.mktemp("extended"), **_LONG)
    return context, extend_run.run(context)


_LONG = {"long_tokens": 24, "long_share": 0.5}


def _config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    return found


def test_the_checkpoint_says_the_new_length_and_base_and_transformers_agrees(base: Path, finished: Any) -> None:
    folder = finished[0].folder / "checkpoint"
    config = _config(folder)
    assert (config["max_position_embeddings"], config["rope_theta"]) == (64, 80_000.0)
    assert _config(base / "pretrain" / "checkpoint")["max_position_embeddings"] == 32
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = torch.arange(3, 63)[None]
    with torch.no_grad():
        expected = theirs(tokens).logits
        torch.testing.assert_close(load_model(folder, torch.float32)(tokens), expected, atol=2e-5, rtol=2e-5)


def test_less_than_was_trained_can_be_claimed_for_the_same_weights(
    extend_run: ModuleType, base: Path, finished: Any, tmp_path: Path
) -> None:
    context = extend_run.context_for(base, tmp_path, context_length=48, **_LONG)
    extend_run.run(context)
    ours, whole = (each.folder / "checkpoint" for each in (context, finished[0]))
    assert _config(ours) == _config(whole) | {"max_position_embeddings": 48}
    weights = [path.name for path in whole.glob("*.safetensors")]
    assert weights
    assert all((ours / name).read_bytes() == (whole / name).read_bytes() for name in weights)


def test_it_begins_with_the_weights_before_and_ends_with_others(base: Path, finished: Any) -> None:
    before = load_model(base / "pretrain" / "checkpoint").state_dict()
    first = load_model(finished[0].folder / "checkpoint-0").state_dict()
    last = load_model(finished[0].folder / "checkpoint").state_dict()
    assert all(torch.equal(before[name], first[name]) for name in before)
    assert not all(torch.equal(before[name], last[name]) for name in before)


def test_long_documents_give_the_share_that_was_asked(finished: Any) -> None:
    context, figures = finished
    order = json.loads((context.folder / "order.json").read_bytes())
    assert order["sequence_length"] == 64
    tokens = {name: row["actual_tokens"] for name, row in order["sources"].items()}
    assert set(tokens) == {"en:long", "en:short", "zh:long", "zh:short"}
    # no Chinese document has 24 tokens, and most English ones have
    assert tokens["zh:long"] == 0 < tokens["en:long"]
    for source in ("en", "zh"):
        given = tokens[source + LONG] + tokens[source + SHORT]
        have = order["sources"][source + LONG]["sequences"]
        assert figures[f"long_share.{source}"].value == pytest.approx(tokens[source + LONG] / given, abs=1e-6)
        if have:
            assert abs(tokens[source + LONG] / given - 0.5) <= 64 / given
    natural = plan_quotas(
        {s: sum(order["sources"][s + part]["sequences"] for part in (LONG, SHORT)) * 64 + 1 for s in ("en", "zh")},
        None,
        sequence_length=64,
        total=24,
        max_epochs=50.0,
        section="extend",
    )
    assert {q.source: q.actual * 64 for q in natural} == {s: tokens[s + LONG] + tokens[s + SHORT] for s in ("en", "zh")}


def test_stopped_it_goes_on_to_the_same_bits(
    extend_run: ModuleType, small_run: ModuleType, base: Path, tmp_path: Path, finished: Any
) -> None:
    asked = iter(range(1000))
    stopped = extend_run.context_for(base, tmp_path, stop=lambda: next(asked) >= 3, **_LONG)
    with pytest.raises(Interrupted):
        extend_run.run(stopped)
    again = extend_run.context_for(base, tmp_path, **_LONG)
    extend_run.run(again)
    assert small_run.results(again) == small_run.results(finished[0])


@pytest.fixture(scope="module")
def apart(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any], list[Any]]:
    """Runs in a process of their own: a folder with `straight`, `killed`, `one`, `two`; how those of the first two and
    those of the last two ended."""
    folder = tmp_path_factory.mktemp("apart")
    straight, killed = str(folder / "straight"), str(folder / "killed")
    attempts = [[straight, "none", 0], [killed, "event", 5], [killed, "file", 30], [killed, "none", 0]]
    changes = {"repeat_layers": 1, "dtype": "float32", "tokens": 3 * 256}
    several = [[str(folder / name), size, changes] for size, name in ((1, "one"), (2, "two"))]
    program = str(Path(__file__).with_name("extend_run.py"))
    command = [sys.executable, program, str(base), json.dumps(attempts), json.dumps(several)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return folder, lines[0], lines[1]


def _weights(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}


def test_killed_at_an_update_and_at_a_rename_it_leaves_the_same_bits(apart: Any) -> None:
    folder, statuses, _ = apart
    assert statuses == [0, KILLED, KILLED, 0]
    assert _weights(folder / "killed") == _weights(folder / "straight")
    assert "checkpoint/model.safetensors" in _weights(folder / "killed")


def test_two_processes_choose_the_same_layers_and_come_to_the_same_weights(apart: Any) -> None:
    folder, _, statuses = apart
    assert statuses == [[0], [0, 0]]
    assert (folder / "one" / "layers.json").read_bytes() == (folder / "two" / "layers.json").read_bytes()
    one, two = (load_model(folder / name / "checkpoint", torch.float32).state_dict() for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=2e-3, rtol=2e-2)


@pytest.fixture(scope="module")
def planted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of four layers whose layer IDENTITY adds nothing to what passes through it."""
    config = _config(base / "pretrain" / "checkpoint")
    model = Transformer(
        ModelConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=config["vocab_size"],
            max_position_embeddings=32,
        )
    )
    initialise(model, 3)
    layer = model.model.layers[IDENTITY]
    with torch.no_grad():
        for matrix in (layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight):
            matrix.zero_()
    folder = tmp_path_factory.mktemp("planted")
    save_model(model, folder, "float32", base / "tokenizer", 32)
    return folder


def test_the_layer_that_changes_nothing_comes_twice(
    extend_run: ModuleType, base: Path, planted: Path, tmp_path: Path
) -> None:
    changes = {"rope_theta": None, "sequence_length": 32, "repeat_layers": 1, "checkpoint_dtype": "float32"}
    context = extend_run.context_for(base, tmp_path, init=str(planted), **changes)
    figures = extend_run.run(context)
    noted = json.loads((tmp_path / "layers.json").read_bytes())
    assert noted["repeated"] == [IDENTITY]
    assert noted["layers"] == [0, 1, 1, 2, 3]
    assert noted["cosines"][IDENTITY] == pytest.approx(1.0, abs=1e-6)
    assert all(value < 0.9999 for at, value in enumerate(noted["cosines"]) if at != IDENTITY)
    # what adds nothing adds nothing twice
    assert all(row["before"] == row["after"] for row in noted["bits_per_byte"].values())
    assert figures["layers"].value == 5
    before, first = (load_model(at).state_dict() for at in (planted, tmp_path / "checkpoint-0"))
    assert {n for n in first if ".layers." not in n} == {n for n in before if ".layers." not in n}
    for name in first:
        at = name.split(".layers.")
        source = (
            name
            if len(at) == 1
            else f"model.layers.{noted['layers'][int(at[1].split('.')[0])]}." + at[1].split(".", 1)[1]
        )
        assert torch.equal(first[name], before[source])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint", dtype=torch.float32)
    assert theirs.config.num_hidden_layers == 5
    tokens = torch.arange(3, 33)[None]
    with torch.no_grad():
        ours = load_model(tmp_path / "checkpoint", torch.float32)(tokens)
        torch.testing.assert_close(ours, theirs(tokens).logits, atol=2e-5, rtol=2e-5)


def test_a_run_that_goes_on_has_the_layers_that_it_began_with(
    extend_run: ModuleType, base: Path, planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"rope_theta": None, "sequence_length": 32, "repeat_layers": 1}
    begun = extend_run.context_for(
        base, tmp_path, init=str(planted), stop=lambda: (tmp_path / "steps" / "step-000002").exists(), **changes
    )
    with pytest.raises(Interrupted):
        extend_run.run(begun)
    noted = (tmp_path / "layers.json").read_bytes()

    def otherwise(model: Transformer, rows: Any) -> list[float]:
        raise AssertionError("measured again")

    monkeypatch.setattr("zhen.train.extend.layer_cosines", otherwise)
    again = extend_run.context_for(base, tmp_path, init=str(planted), **changes)
    figures = extend_run.run(again)
    assert (tmp_path / "layers.json").read_bytes() == noted
    assert figures["layers"].value == 5
    assert figures[f"layer_cosine.{IDENTITY}"].value == json.loads(noted)["cosines"][IDENTITY]
    assert "layers.json" in again.outputs


def test_cosines_are_those_of_transformers_hidden_states(planted: Path) -> None:
    tokens = torch.arange(3, 33)[None]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(planted, dtype=torch.float32)
    kept: list[torch.Tensor] = []
    for layer in theirs.model.layers:
        layer.register_forward_hook(lambda _m, given, out: kept.extend((given[0], out)))
    with torch.no_grad():
        theirs(tokens)
    expected = [torch.cosine_similarity(a, b, dim=-1).mean().item() for a, b in zip(kept[::2], kept[1::2], strict=True)]
    assert layer_cosines(load_model(planted), [tokens]) == pytest.approx(expected, abs=1e-5)


def test_blocks_are_repeated_as_yi_9b_was() -> None:
    order = repeated(32, range(12, 28))
    assert order == [*range(28), *range(12, 32)]
    assert len(order) == PRESETS["yi-9b"].num_hidden_layers
    assert repeated(4, [0, 2]) == [0, 0, 1, 2, 2, 3]
    assert repeated(3, [1, 2]) == [0, 1, 2, 1, 2]
    assert least_changing([0.5, 0.9, 0.8, 0.9, 0.1], 2) == (1, 2)


@hypothesis.settings(max_examples=25)
@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=3),
    st.integers(1, 8),
    st.data(),
)
def test_documents_of_a_length_are_read_end_to_end(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[int]], limit: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("lengths")
    number, documents = 0, []
    for index, lengths in enumerate(shards):
        made = [list(range(number + sum(lengths[:at]), number + sum(lengths[: at + 1]))) for at in range(len(lengths))]
        number += sum(lengths)
        documents += made
        write_shard(folder, index, [(ids, 1) for ids in made], source="s", lang=None, tokenizer="t", vocab_size=1000)
    opened = open_shards(folder, "t")
    for stream, chosen in (
        (OfLength(opened, limit, None), [ids for ids in documents if len(ids) >= limit]),
        (OfLength(opened, 0, limit), [ids for ids in documents if len(ids) < limit]),
    ):
        expected = [token for ids in chosen for token in ids]
        assert stream.tokens == len(expected)
        if expected:
            start = data.draw(st.integers(0, len(expected) - 1))
            out = np.empty(data.draw(st.integers(1, len(expected) - start)), dtype=np.int64)
            stream.read(start, out)
            assert out.tolist() == expected[start : start + out.size]


class Counted(OfLength):
    """A stream of which only the number of tokens is known."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens


def _counted(sizes: dict[str, tuple[int, int]], length: int) -> dict[str, Counted]:
    """The long and the short stream of each source, of so many sequences."""
    return {
        name + part: Counted(n * length + 1)
        for name, both in sizes.items()
        for part, n in zip((LONG, SHORT), both, strict=True)
    }


@given(
    st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(0, 90), st.integers(0, 90)), min_size=1),
    st.floats(0.01, 1.0),
    st.integers(1, 60),
)
def test_upsampling_keeps_the_sources_shares(sizes: dict[str, tuple[int, int]], share: float, total: int) -> None:
    length, epochs = 4, 2.0
    upsampling, parts = Upsampling(9, share), _counted(sizes, length)
    tokens = upsampling.tokens(parts, length)
    if sum(int(epochs * ((n - 1) // length)) for n in tokens.values()) < total:
        return
    whole = plan_quotas(tokens, None, sequence_length=length, total=total, max_epochs=epochs, section="extend")
    (split,) = upsampling.split([whole], parts, length, epochs)
    for quota, long, short in zip(whole, split[::2], split[1::2], strict=True):
        assert long.actual + short.actual == quota.actual
        assert long.actual >= 0 <= short.actual
        assert long.actual <= epochs * long.sequences
        assert short.actual <= epochs * short.sequences
        # as near to the share as both streams allow
        wanted = round(quota.actual * share)
        assert long.actual == min(max(wanted, quota.actual - 2 * short.sequences), 2 * long.sequences)


def test_a_source_whose_documents_make_no_sequence_is_told_by_what_it_has() -> None:
    parts = {"a" + LONG: Counted(0), "a" + SHORT: Counted(3), "b" + LONG: Counted(4), "b" + SHORT: Counted(4)}
    tokens = Upsampling(9, 0.5).tokens(parts, 4)
    assert tokens == {"a": 3, "b": 4}  # b has 8, but in neither stream a sequence and the token behind it


@given(
    st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(0, 90), st.integers(0, 90)), min_size=1),
    st.floats(0.01, 1.0),
    st.floats(0.1, 0.9),
    st.integers(2, 60),
)
def test_phases_share_the_passes_over_long_and_short_documents(
    sizes: dict[str, tuple[int, int]], share: float, first: float, total: int
) -> None:
    length, epochs = 4, 2.0
    upsampling, parts = Upsampling(9, share), _counted(sizes, length)
    tokens = upsampling.tokens(parts, length)
    if sum(int(epochs * ((n - 1) // length)) for n in tokens.values()) < total:
        return
    phases = plan_phases(
        tokens,
        [Phase(share=first), Phase(share=1 - first)],
        sequence_length=length,
        steps=total,
        sequences_per_step=1,
        max_epochs=epochs,
        section="extend",
    )
    split = upsampling.split(phases, parts, length, epochs)
    for whole, own in zip(phases, split, strict=True):
        for quota, long, short in zip(whole, own[::2], own[1::2], strict=True):
            assert long.actual + short.actual == quota.actual
            assert long.actual >= 0 <= short.actual
    for both in zip(*split, strict=True):
        assert sum(quota.actual for quota in both) <= epochs * both[0].sequences


MICRO = PRESETS["micro"]
YARN = RopeScaling(rope_type="yarn", factor=8.0)


def _settings(**changes: Any) -> ExtendSettings:
    given = {"tokens": 4096, "tokens_per_step": 1024, "sequence_length": 1024, "learning_rate": 1e-3, "warmup_steps": 0}
    return ExtendSettings(**(given | changes))


def test_yarn_is_told_the_length_before() -> None:
    config = extended_config(MICRO, _settings(rope_scaling=YARN))
    assert config.rope_scaling is not None
    assert config.rope_scaling.original_max_position_embeddings == 128
    assert (config.max_position_embeddings, config.rope_theta) == (1024, MICRO.rope_theta)
    assert not list(config.problems())


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"sequence_length": 128}, "sequence_length"),
        ({"sequence_length": 64, "repeat_layers": 1}, "sequence_length"),
        ({"sequence_length": 128, "repeat_layers": 1, "rope_theta": 1e6}, "rope_theta"),
        ({"context_length": 100}, "context_length"),
        ({"rope_theta": 5_000.0}, "rope_theta"),
        ({"rope_scaling": RopeScaling(rope_type="dynamic", factor=8.0)}, "rope_scaling.rope_type"),
        ({"rope_scaling": RopeScaling(rope_type="linear", factor=4.0)}, "rope_scaling.factor"),
        ({"rope_scaling": RopeScaling(rope_type="llama3", factor=8.0)}, "rope_scaling.low_freq_factor"),
        ({"repeat_layers": 3}, "repeat_layers"),
        ({"repeat_layers": (1, 2)}, "repeat_layers"),
    ],
)
def test_what_can_not_be_with_a_model_is_refused(changes: dict[str, Any], field: str) -> None:
    assert [found[0] for found in extend_problems(MICRO, _settings(**changes))] == [field]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rope_theta": 1e6, "rope_scaling": YARN}, "rope_theta"),
        ({"context_length": 1025}, "context_length"),
        ({"long_share": 0.5}, "long_share"),
        ({"long_tokens": 50}, "long_tokens"),
        ({"repeat_layers": (1, 0)}, "repeat_layers"),
        ({"tokens_per_step": 1000}, "tokens_per_step"),
    ],
)
def test_what_can_not_be_together_is_refused(changes: dict[str, Any], field: str) -> None:
    assert [found[0] for found in _settings(**changes).problems()] == [field]


def test_a_shorter_length_than_the_model_has_is_refused_when_it_runs(
    extend_run: ModuleType, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(ManyErrors, match=r"more than the 32 that the model was trained for"):
        extend_run.run(extend_run.context_for(base, tmp_path, sequence_length=32, rope_theta=None))
