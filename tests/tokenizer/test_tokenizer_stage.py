"""The stage: learns from kept documents, or takes a checkpoint's files; the same after a stop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from zhen.errors import Interrupted, ZhenError
from zhen.formats.files import sha256_file
from zhen.formats.stage import Context
from zhen.tokenizer.load import load_tokenizer
from zhen.tokenizer.settings import TokenizerSettings
from zhen.tokenizer.stage import learn, learn_inputs

FILES = ["special_tokens_map.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json"]


@pytest.fixture
def kept(tmp_path: Path, texts: list[str], write_documents: Callable[..., None]) -> Path:
    rows = [(text, "web" if number % 3 else "books", "zh" if number % 2 else "en") for number, text in enumerate(texts)]
    write_documents(tmp_path / "kept" / "unit-00000.parquet", rows[:50])
    write_documents(tmp_path / "kept" / "unit-00001.parquet", rows[50:])
    return tmp_path / "kept"


def sections(seed: int = 1) -> dict[str, object]:
    settings = TokenizerSettings(vocab_size=440, character_coverage=1.0)
    return {"tokenizer": settings, "model.init": None, "run.seed": seed}


def digests(context: Context) -> dict[str, str]:
    return {path: sha256_file(context.folder / path).sha256 for path in context.outputs}


def test_it_makes_and_declares_the_four_files(tmp_path: Path, kept: Path, make_context: Callable[..., Context]) -> None:
    context = make_context(tmp_path / "stage", sections(), {"data.write/kept": kept})
    figures = learn(context)
    assert sorted(context.outputs) == FILES == sorted(path.name for path in context.folder.iterdir())
    assert {path: digest.sha256 for path, (_, digest) in context.outputs.items() if digest} == digests(context)
    assert {kind for kind, _ in context.outputs.values()} == {"result"}
    assert figures["vocab_size"].value == 440 == load_tokenizer(context.folder).vocab_size


def test_its_figures_are_bytes_over_tokens(tmp_path: Path, kept: Path, make_context: Callable[..., Context]) -> None:
    context = make_context(tmp_path / "stage", sections(), {"data.write/kept": kept})
    figures = learn(context)
    per_language = [figures[f"bytes_per_token.{lang}"] for lang in ("en", "zh")]
    assert sum(figure.value * figure.n for figure in per_language) == pytest.approx(figures["sample"].value, rel=1e-4)


def test_stopped_at_any_safe_point_it_ends_with_the_same_bytes(
    tmp_path: Path, kept: Path, make_context: Callable[..., Context]
) -> None:
    unstopped = make_context(tmp_path / "unstopped", sections(), {"data.write/kept": kept})
    learn(unstopped)
    for stop_at in range(4):
        answers = iter([False] * stop_at)
        asked = partial(next, answers, True)
        stopped = make_context(tmp_path / "again", sections(), {"data.write/kept": kept}, stop_requested=asked)
        with pytest.raises(Interrupted):
            learn(stopped)
    learn(make_context(tmp_path / "again", sections(), {"data.write/kept": kept}))
    assert {name: sha256_file(tmp_path / "again" / name).sha256 for name in FILES} == digests(unstopped)


def test_a_checkpoints_tokenizer_is_taken_along(
    tmp_path: Path, learnt: Path, make_context: Callable[..., Context]
) -> None:
    given = {"tokenizer": None, "model.init": str(learnt), "run.seed": 1}
    planned = learn_inputs(given)
    assert sorted(item.path for item in planned) == FILES
    context = make_context(tmp_path / "stage", given, {})
    learn(context)
    assert (
        digests(context)
        == {item.path: item.sha256 for item in planned}
        == digests(SimpleNamespace(folder=learnt, outputs=FILES))
    )
    assert sorted(context.inputs) == FILES


def test_without_init_there_is_no_input_and_with_a_wrong_one_an_error(tmp_path: Path) -> None:
    assert learn_inputs(sections()) == []
    with pytest.raises(ZhenError, match="no tokenizer in this folder"):
        learn_inputs({"model.init": str(tmp_path)})


def test_nothing_kept_is_an_error(tmp_path: Path, make_context: Callable[..., Context]) -> None:
    context = make_context(tmp_path / "stage", sections(), {"data.write/kept": tmp_path / "kept"})
    with pytest.raises(ZhenError, match="no documents to learn from"):
        learn(context)
