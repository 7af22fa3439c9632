"""Each cause for which two results of one model disagree is named, and no other; in results of several models too."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")


from zhen.cli.app import run
from zhen.evaluate.harness.differences import differences, effects
from zhen.evaluate.harness.evaluation import evaluate_checkpoints
from zhen.evaluate.harness.result import Loaded, Options, load_result
from zhen.tokenizer.chat import CHATML

OtherPieces = Callable[[Path, Path], Path]

TASKS = ["mmlu@1", "gsm8k@1", "passkey"]
SMALL: dict[str, Any] = {"tasks": TASKS, "limit": 4, "lengths": [320]}


@pytest.fixture(scope="module")
def evaluated(with_texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Loaded]:
    def run(*models: Path, **options: Any) -> Loaded:
        given = Options(**{"data": str(with_texts)} | SMALL | options)
        return load_result(evaluate_checkpoints(list(models), given, tmp_path_factory.mktemp("result")))

    return run


@pytest.fixture(scope="module")
def chat(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(checkpoint, tmp_path_factory.mktemp("chat") / "random")
    (folder / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def first(evaluated: Callable[..., Loaded], chat: Path) -> Loaded:
    return evaluated(chat)


def causes(a: Loaded, b: Loaded) -> set[str]:
    return {each.cause for each in differences(a, b)}


def test_the_same_again_has_no_difference(first: Loaded, evaluated: Callable[..., Loaded], chat: Path) -> None:
    again = evaluated(chat)
    assert differences(first, again) == []
    assert all(effect.changed == 0 for effect in effects(first, again))


def test_a_tokenizer_alone_is_named(
    first: Loaded, evaluated: Callable[..., Loaded], chat: Path, other_pieces: OtherPieces, tmp_path: Path
) -> None:
    assert causes(first, evaluated(other_pieces(chat, tmp_path))) == {"tokenizer"}


def test_a_template_is_named_and_so_is_another(
    first: Loaded, evaluated: Callable[..., Loaded], chat: Path, tmp_path: Path
) -> None:
    with_one = evaluated(chat, template=True)
    assert causes(first, with_one) == {"template"}
    copy = shutil.copytree(chat, tmp_path / "random")
    (copy / "chat_template.jinja").write_text(CHATML.replace("\\n", " "), encoding="utf-8")
    other = evaluated(copy, template=True)
    assert causes(with_one, other) == {"template"}
    assert any(effect.changed for effect in effects(with_one, other))


def test_another_extraction_of_answers_is_named(
    first: Loaded, evaluated: Callable[..., Loaded], chat: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("base: gsm8k\ntask: gsm8k\nnum_fewshot: 1\nfilter: flexible-extract\n", encoding="utf-8")
    changed = evaluated(chat, tasks=["mmlu@1", str(own), "passkey"])
    assert [(each.cause, each.task) for each in differences(first, changed)] == [("normalisation", "gsm8k")]


def test_other_lengths_and_other_keys_are_named(first: Loaded, evaluated: Callable[..., Loaded], chat: Path) -> None:
    found = differences(first, evaluated(chat, lengths=[400]))
    assert {each.task for each in found} == {"passkey"}
    assert "settings: lengths" in {each.text for each in found}
    one, other = (evaluated(chat, shot_seed=seed, tasks=["passkey"]) for seed in (7, 8))
    assert "settings: seed" in {each.text for each in differences(one, other)}


def test_other_texts_are_named(
    first: Loaded, evaluated: Callable[..., Loaded], chat: Path, with_texts: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(with_texts, tmp_path / "data")
    path = copy / "long-text" / "en" / "a.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("soup", "bread"), encoding="utf-8")
    found = differences(first, evaluated(chat, data=str(copy)))
    assert {each.task for each in found} == {"passkey"}
    assert "data" in {each.cause for each in found}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda result: {"versions": result.versions | {"lm_eval": "0.4.0"}}, "versions"),
        (lambda result: {"host": msgspec.structs.replace(result.host, threads=64)}, "arithmetic"),
        (lambda result: {"host": msgspec.structs.replace(result.host, cpu="another")}, "arithmetic"),
    ],
)
def test_another_machine_is_named(first: Loaded, change: Callable[[Any], dict[str, Any]], cause: str) -> None:
    other = msgspec.structs.replace(first, result=msgspec.structs.replace(first.result, **change(first.result)))
    assert [each.cause for each in differences(first, other)] == [cause]


def test_every_model_of_a_result_is_looked_at(
    evaluated: Callable[..., Loaded], checkpoint: Path, other_model: Path, other_pieces: OtherPieces, tmp_path: Path
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        shutil.copytree(checkpoint, folder / "one")
    shutil.copytree(other_model, a / "two")
    other_pieces(checkpoint, tmp_path / "made")
    shutil.move(tmp_path / "made" / checkpoint.name, b / "two")
    results = [evaluated(folder / "one", folder / "two", tasks=["mmlu@1"]) for folder in (a, b)]
    found = differences(*results)
    assert {(each.model, each.cause) for each in found} == {("two", "weights"), ("two", "tokenizer")}
    alone = evaluated(a / "two", tasks=["mmlu@1"], bos="add")
    found = differences(results[0], alone)
    assert {(each.model, each.cause) for each in found} == {("", "BOS"), ("one", "models")}


def test_the_verb_names_causes_by_model(
    first: Loaded, evaluated: Callable[..., Loaded], chat: Path, other_pieces: OtherPieces,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("ZHEN_LAUNCHED", "1")
    both = evaluated(chat, other_pieces(chat, tmp_path), tasks=["mmlu@1"])
    assert run(["evaluate", "--diff", str(both.path), str(both.path)]) == 0
    assert run(["evaluate", "--diff", str(both.path), str(first.path)]) == 1
    assert "only in the second" in " ".join(capsys.readouterr().out.split())
