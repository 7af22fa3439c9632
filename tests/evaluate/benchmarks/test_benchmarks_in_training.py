"""Questions of benchmarks that the training text has are counted, and left out of the score beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")

from zhen.evaluate.harness import evaluation
from zhen.evaluate.harness.evaluation import evaluate_checkpoints
from zhen.evaluate.harness.result import Options, load_result
from zhen.evaluate.harness.task import parts_of, stem
from zhen.evaluate.harness.tasks import TASKS
from zhen.evaluate.in_training import shards_of, training_texts, training_tokens
from zhen.formats.record import Record, this_host, utc_now, write_record
from zhen.formats.shard import write_shard
from zhen.tokenizer.load import load_tokenizer


def shards_with(folder: Path, checkpoint: Path, texts: list[str]) -> Path:
    tokenizer = load_tokenizer(checkpoint)
    documents = [([*tokenizer.encode(text), tokenizer.end_of_text], len(text.encode())) for text in texts]
    write_shard(
        folder / "web", 0, documents, source="web", lang=None, tokenizer=tokenizer.sha256,
        vocab_size=tokenizer.vocab_size,
    )  # fmt: skip
    return folder


def test_planted_questions_are_found(checkpoint: Path, benchmarks: Path, tmp_path: Path) -> None:
    items = [doc for part in parts_of(TASKS["mmlu"], benchmarks) for doc in part.test]
    longest = sorted((doc["question"] for doc in items), key=len)[-2:]
    texts = ["Nothing of it here, only bread.", *(f"We asked: {text.upper()} And went home." for text in longest)]
    shards = shards_with(tmp_path / "shards", checkpoint, texts)
    options = Options(tasks=["mmlu@0"], data=str(benchmarks), shards=str(shards))
    folder = evaluate_checkpoints([checkpoint], options, tmp_path / "out")
    ((name, model),) = load_result(folder).result.models.items()
    row = model.results["mmlu"]
    assert (row["in_training"], row["n"], row["unseen"]["n"]) == (2, 12, 10)
    others = [
        item.scores["acc"]
        for item in load_result(folder).items[name]
        if items[item.id + 6 * (item.part == "virology")]["question"] not in longest
    ]
    assert row["unseen"]["score"] == pytest.approx(sum(others) / 10)


def stage(folder: Path, name: str, key: str, after: dict[str, str]) -> Path:
    """A finished stage of a run, with nothing in it."""
    place = folder / "stages" / f"{name}-{key[:8]}"
    place.mkdir(parents=True)
    record = Record(
        stage=name, version=1, key=key, sections={}, after=after, inputs=[], outputs=[], command=[], versions={},
        host=this_host(), started=utc_now(), seconds=0.0, resumed=0, figures={},
    )  # fmt: skip
    write_record(place, record)
    return place


def test_the_shards_of_a_checkpoint_are_known_by_its_runs_records(
    checkpoint: Path,
    other_model: Path,
    benchmarks: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, keys = tmp_path / "run", {name: name[0] * 64 for name in ("shards", "pretrain", "release")}
    items = [doc for part in parts_of(TASKS["mmlu"], benchmarks) for doc in part.test]
    asked = max((doc["question"] for doc in items), key=len)
    shards = stage(run, "shards", keys["shards"], {})
    shards_with(shards, checkpoint, [f"They asked: {asked}"])
    pretrain = stage(run, "pretrain", keys["pretrain"], {"shards": keys["shards"]})
    trained = shutil.copytree(checkpoint, pretrain / "checkpoint")
    released = stage(run, "release", keys["release"], {"pretrain": keys["pretrain"]})
    shutil.copytree(checkpoint, released, dirs_exist_ok=True)
    (run / "release").symlink_to(released)
    assert shards_of(trained) == shards_of(run / "release") == shards
    assert shards_of(checkpoint) is None
    options = Options(tasks=["mmlu@0"], data=str(benchmarks))
    loaded = load_result(evaluate_checkpoints([trained, other_model], options, tmp_path / "out"))
    rows = [model.results["mmlu"] for model in loaded.result.models.values()]
    # nothing is known of the text of the other
    assert [row.get("in_training") for row in rows] == [1, None]
    read: list[int] = []
    assert len(list(training_texts(shards, load_tokenizer(checkpoint), read.append))) == 1
    assert training_tokens(shards) == sum(read)
    monkeypatch.setattr(evaluation, "UNASKED_TOKENS", sum(read) - 1)
    for given, found in ((None, None), (str(shards), 1)):
        capsys.readouterr()
        options = Options(tasks=["mmlu@0"], data=str(benchmarks), shards=given)
        (model,) = load_result(
            evaluate_checkpoints([trained], options, tmp_path / f"{given is None}")
        ).result.models.values()
        assert model.results["mmlu"].get("in_training") == found
        assert (f"--shards {shards}" in capsys.readouterr().err) == (given is None)


@pytest.mark.parametrize(
    ("doc", "text"),
    [
        ({"question": "Which?", "choices": ["x"]}, "Which?"),
        ({"query": "Q: Which? Answer Choices: (A)x (B)y\nA: Among"}, "Q: Which?"),
        ({"text": "1. 何者？\nA. 甲\nB. 乙", "query": "…"}, "1. 何者？"),
        ({"question": "问：何者？\n(A)甲", "passage": "…"}, "问：何者？"),
    ],
)
def test_a_question_is_looked_for_without_its_choices(doc: dict[str, object], text: str) -> None:
    assert stem(doc) == text
