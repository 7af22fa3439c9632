"""Files of questions: what may be left out, and what is refused with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zhen.errors import ZhenError
from zhen.evaluate.questions import Question, read_questions, read_tasks, task_files
from zhen.evaluate.settings import EvaluateSettings
from zhen.evaluate.stage import evaluate_inputs

GOOD = {"prompt": "Question: Who sells pears?\nAnswer:", "answer": " Mira", "choices": [" Tolin", " Mira"], "gold": 1}


def write(path: Path, *items: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items))
    return path


def test_prompt_and_answer_are_enough(tmp_path: Path) -> None:
    path = write(
        tmp_path / "mine.jsonl", {"prompt": "2 + 2 =", "answer": " 4", "note": "anything"}, {**GOOD, "id": "x"}
    )
    (task,) = read_tasks(task_files([str(path)], None))
    assert (task.name, task.set) == ("mine", "mine")
    first, second = task.questions
    assert first == Question(prompt="2 + 2 =", answer=" 4", id="1", cluster="1", kind="mine", lang="und")
    assert (second.id, second.cluster, second.gold) == ("x", "x", 1)


@pytest.mark.parametrize("left_out", ["gold", "answer"])
def test_answer_and_gold_follow_from_each_other(tmp_path: Path, left_out: str) -> None:
    item = {name: value for name, value in GOOD.items() if name != left_out}
    (question,) = read_questions(write(tmp_path / "a.jsonl", item), "a")
    assert (question.answer, question.gold) == (" Mira", 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "Question: Who?\nAnswer: "}, "the prompt ends in white space: .*'; expected none there"),
        ({"prompt": " "}, "an empty prompt"),
        ({"gold": 2}, "gold 2; expected 0 to 1"),
        ({"gold": 0}, "gold 0 is the choice ' Tolin'; expected the answer, ' Mira'"),
        ({"gold": None, "answer": " Bero"}, "the answer ' Bero' is none of the choices"),
        ({"choices": [" Mira", " Mira"]}, ".*; expected two or more, all different"),
        ({"choices": [], "answer": " "}, "the answer ' '"),
        ({"choices": [], "answer": " a\nb"}, ".*; expected one line of text"),
        ({"prompt": 3}, "is no question: Expected `str`, got `int`"),
        ({"id": "1"}, r'id "1" again \(line 1\)'),
    ],
)
def test_what_is_no_question_is_refused_with_its_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "bad.jsonl", GOOD, GOOD | change)
    with pytest.raises(ZhenError, match=rf"bad\.jsonl, line 2: {message}"):
        read_questions(path, "bad")


@pytest.mark.parametrize("content", [b"{", b'{"prompt": "\xff"}'])
def test_damaged_lines_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b"\n" + content)
    with pytest.raises(ZhenError, match="line 2: is no question"):
        read_questions(tmp_path / "bad.jsonl", "bad")


def test_empty_files_missing_files_and_equal_names_are_refused(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.jsonl")
    with pytest.raises(ZhenError, match="no question in the task"):
        read_questions(empty, "empty")
    with pytest.raises(ZhenError, match="no such file of questions"):
        task_files([str(tmp_path / "gone.jsonl")], None)
    with pytest.raises(ZhenError, match="has the same name as"):
        task_files([str(empty), str(write(tmp_path / "other" / "empty.jsonl"))], None)
    with pytest.raises(ZhenError, match='has the same name as the task "samples"'):
        task_files([str(write(tmp_path / "samples.jsonl"))], None)
    with pytest.raises(ZhenError, match="without a sample web"):
        task_files(["sampleweb"], None)


def test_the_sample_webs_files_come_first_and_lose_their_language_in_the_sets_name(tmp_path: Path) -> None:
    for name in ("never-asked/one.zh.jsonl", "never-asked/one.en.jsonl", "asked/asked.en.jsonl"):
        write(tmp_path / "tasks" / name, GOOD | {"lang": name.split(".")[1]})
    mine = write(tmp_path / "mine.en.jsonl", GOOD)
    tasks = read_tasks(task_files([str(mine), "samples", "sampleweb"], tmp_path / "tasks"))
    assert [task.name for task in tasks] == ["asked.en", "one.en", "one.zh", "mine.en"]
    assert [task.set for task in tasks] == ["asked", "one", "one", "mine.en"]


def test_own_files_are_inputs_with_their_hash(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", GOOD)
    settings = EvaluateSettings(tasks=["sampleweb", "samples", str(path)])
    (before,) = evaluate_inputs({"evaluate": settings})
    assert (before.path, before.bytes) == ("mine.jsonl", path.stat().st_size)
    write(path, GOOD | {"lang": "en"})
    assert evaluate_inputs({"evaluate": settings})[0].sha256 != before.sha256
