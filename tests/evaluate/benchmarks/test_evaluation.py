"""`zhen evaluate`: results and items, made again after a stop or on purpose, told apart by cause; the network off."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")

from zhen.cli.app import run
from zhen.errors import ManyErrors, ZhenError
from zhen.evaluate.harness.differences import differences, effects
from zhen.evaluate.harness.evaluation import evaluate_checkpoints
from zhen.evaluate.harness.result import Loaded, Options, load_result
from zhen.evaluate.harness.result_page import write_page
from zhen.formats.record import VERB_RECORD, read_record

TASKS = ["mmlu", "arc_challenge@2", "gsm8k@2", "gaokao"]


@pytest.fixture(scope="module")
def evaluated(checkpoint: Path, benchmarks: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Loaded]:
    def run(model: Path = checkpoint, data: Path = benchmarks, out: Path | None = None, **options: Any) -> Loaded:
        folder = out or tmp_path_factory.mktemp("result")
        given = {"tasks": TASKS, "limit": 6} | options
        return load_result(evaluate_checkpoints([model], Options(data=str(data), **given), folder))

    return run


@pytest.fixture(scope="module")
def first(evaluated: Callable[..., Loaded]) -> Loaded:
    return evaluated()


def causes(a: Loaded, b: Loaded) -> set[str]:
    return {each.cause for each in differences(a, b)}


def test_the_result_has_every_item_and_a_record(first: Loaded) -> None:
    folder = first.path.parent
    ((name, model),) = first.result.models.items()
    assert {task: row["n"] for task, row in model.results.items()} == {
        "mmlu": 6,
        "arc_challenge": 6,
        "gsm8k": 2,
        "gaokao": 6,
    }
    lines = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    assert len(lines) == 20
    assert {line["model"] for line in lines} == {name}
    record = read_record(folder, VERB_RECORD)
    assert record is not None
    assert record.output("items.jsonl").bytes == (folder / "items.jsonl").stat().st_size


def test_a_score_is_the_mean_of_its_items(first: Loaded) -> None:
    (model,) = first.result.models.values()
    for task, row in model.results.items():
        metric = first.result.tasks[task].score
        scores = [item.scores[metric] for items in first.items.values() for item in items if item.task == task]
        assert row["score"] == pytest.approx(sum(scores) / len(scores), abs=1e-6)


def test_the_likeliest_choice_is_the_one_that_is_scored(first: Loaded) -> None:
    items = [item for some in first.items.values() for item in some if item.task == "mmlu"]
    for item in items:
        best = max(range(4), key=lambda at: item.logprobs[at])
        assert item.scores["acc"] == float(best == int(item.target))
        assert item.choices == [" A", " B", " C", " D"]
        assert len(item.shots) == 5


def test_it_is_the_same_again(first: Loaded, evaluated: Callable[..., Loaded]) -> None:
    again = evaluated()
    assert (first.path.parent / "items.jsonl").read_bytes() == (again.path.parent / "items.jsonl").read_bytes()
    assert differences(first, again) == []
    assert all(effect.changed == 0 for effect in effects(first, again))


def test_finished_tasks_outlive_a_stop(
    first: Loaded, evaluated: Callable[..., Loaded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zhen.evaluate.harness.bench import Bench

    put_to, asked = Bench.put_to, []

    def stopped(bench: Bench, *given: Any) -> Any:
        asked.append(bench.task.name)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return put_to(bench, *given)

    monkeypatch.setattr(Bench, "put_to", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluated(out=tmp_path / "out")
    again = evaluated(out=tmp_path / "out")
    assert asked == ["mmlu", "arc_challenge", "gsm8k", "gsm8k", "gaokao"]
    assert again.items == first.items


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"bos": "add"}, {"BOS"}),
        ({"shots": 1}, {"shots"}),
        ({"batch": 2}, {"arithmetic"}),
        ({"dtype": "bfloat16"}, {"arithmetic"}),
        ({"limit": 3}, {"items"}),
    ],
)
def test_a_changed_setting_is_named(
    first: Loaded, evaluated: Callable[..., Loaded], options: dict[str, Any], cause: set[str]
) -> None:
    assert causes(first, evaluated(**options)) == cause


def test_other_shots_are_named(evaluated: Callable[..., Loaded]) -> None:
    one, other = (evaluated(tasks=["arc_challenge@1"], shot_seed=seed) for seed in (1, 2))
    assert causes(one, other) == {"choice of shots"}


def test_a_changed_order_of_shots_is_named(evaluated: Callable[..., Loaded]) -> None:
    # six examples in the file, all of them taken: the seed changes their order alone
    one, other = (evaluated(tasks=["gsm8k@6"], shot_seed=seed) for seed in (1, 2))
    assert causes(one, other) == {"order of shots"}


def test_a_changed_prompt_is_named(first: Loaded, evaluated: Callable[..., Loaded], tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text('base: gaokao\ntask: gaokao\ndoc_to_text: "问：{{query}}"\n', encoding="utf-8")
    changed = evaluated(tasks=["mmlu", "arc_challenge@2", "gsm8k@2", str(own)])
    assert [(each.cause, each.task) for each in differences(first, changed)] == [("prompt", "gaokao")]
    assert changed.items["random"][-1].prompts[0].startswith("问：")


def test_a_changed_metric_is_named(first: Loaded, evaluated: Callable[..., Loaded], tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("base: arc_challenge\ntask: arc_challenge\nscore: acc\nnum_fewshot: 2\n", encoding="utf-8")
    changed = evaluated(tasks=["mmlu", str(own), "gsm8k@2", "gaokao"])
    assert [(each.cause, each.task) for each in differences(first, changed)] == [("normalisation", "arc_challenge")]


def test_changed_data_are_named(
    first: Loaded, evaluated: Callable[..., Loaded], benchmarks: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(benchmarks, tmp_path / "data")
    path = data / "gaokao-bench" / "Biology.json"
    path.write_text(path.read_text(encoding="utf-8").replace("A. 米", "A. 麦"), encoding="utf-8")
    found = differences(first, evaluated(data=data))
    assert {(each.cause, each.task) for each in found} == {("data", "gaokao")}
    assert any(each.text == "contents of 6 of 6 items" for each in found)


def test_another_tokenizer_and_other_weights_are_named(
    first: Loaded, evaluated: Callable[..., Loaded], other_model: Path
) -> None:
    assert causes(first, evaluated(model=other_model)) == {"weights", "tokenizer"}


def test_two_models_are_compared_on_the_same_items(
    checkpoint: Path, other_model: Path, benchmarks: Path, tmp_path: Path
) -> None:
    options = Options(tasks=["mmlu", "gsm8k@2"], data=str(benchmarks))
    loaded = load_result(evaluate_checkpoints([checkpoint, other_model], options, tmp_path / "out"))
    result = loaded.result
    first, second = loaded.items.values()
    assert [item.prompts for item in first] == [item.prompts for item in second]
    rows = {row["task"]: row for row in result.paired}
    assert set(rows) == {"mmlu", "gsm8k"}
    scores = [model.results["mmlu"]["score"] for model in result.models.values()]
    assert rows["mmlu"]["difference"] == pytest.approx(scores[1] - scores[0], abs=1e-6)


def test_the_page_shows_every_task(first: Loaded) -> None:
    page = write_page(first.path.parent).read_text(encoding="utf-8")
    for text in ("arc_challenge", "astronomy", "→", "对数概率", "Standard error"):
        assert text.lower() in page.lower()
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_missing_files_are_one_error(checkpoint: Path, benchmarks: Path, tmp_path: Path) -> None:
    options = Options(tasks=["mmlu", "ceval", "piqa"], data=str(benchmarks), limit=2)
    with pytest.raises(ManyErrors) as caught:
        evaluate_checkpoints([checkpoint], options, tmp_path / "out")
    assert [error.found for error in caught.value.errors] == [
        "the files of `ceval` are not there",
        "the files of `piqa` are not there",
    ]
    folder = evaluate_checkpoints([checkpoint], options, tmp_path / "out", skip_missing=True)
    assert load_result(folder).result.skipped == ["ceval", "piqa"]


def test_a_damaged_result_is_refused(first: Loaded, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes(msgspec.json.encode({"options": {}}))
    with pytest.raises(ZhenError, match="is not a result"):
        load_result(tmp_path)


def test_the_verb_works_with_the_network_refused(checkpoint: Path, benchmarks: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import socket, sys\n"
        "def refuse(self, address, *rest):\n"
        "    sys.stderr.write(f'SOCKET {address}')\n"
        "    raise OSError('sockets are blocked')\n"
        "socket.socket.connect = socket.socket.connect_ex = refuse\n"
    )
    words = ["evaluate", checkpoint, "--tasks", "mmlu@0,gsm8k@1", "--limit", "2", "--out", tmp_path / "out", "--json"]
    environment = os.environ | {"ZHEN_EVAL_DATA": str(benchmarks), "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "zhen", *map(str, words)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "SOCKET" not in done.stderr
    told = json.loads(done.stdout)
    assert {"score", "stderr", "n"} <= set(told["results"]["mmlu"])
    assert len(Path(told["records"]).read_text().splitlines()) == 4


def test_the_verb_makes_a_result_again_and_tells_two_apart(
    first: Loaded,
    evaluated: Callable[..., Loaded],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ZHEN_LAUNCHED", "1")
    assert run(["evaluate", "--reproduce", str(first.path), "--out", str(tmp_path / "again"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same"] is True
    other = evaluated(bos="add")
    assert run(["evaluate", "--diff", str(first.path), str(other.path), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [each["cause"] for each in told["differences"]] == ["BOS"]
    assert run(["evaluate", "--diff", str(first.path), str(tmp_path / "again")]) == 0


def test_a_result_that_was_tampered_with_is_not_reproduced(
    first: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZHEN_LAUNCHED", "1")
    copy = shutil.copytree(first.path.parent, tmp_path / "copy")
    items = copy / "items.jsonl"
    items.write_text(items.read_text(encoding="utf-8").replace('"acc":0.0', '"acc":1.0', 1), encoding="utf-8")
    assert run(["evaluate", "--reproduce", str(copy), "--out", str(tmp_path / "again")]) == 1
