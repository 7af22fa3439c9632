"""Benchmark files as they are published are read as the harness's documents."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")


from zhen.errors import ZhenError
from zhen.evaluate.harness import readers
from zhen.evaluate.harness.bench import Bench
from zhen.evaluate.harness.files import Part, rows_of, single
from zhen.evaluate.harness.own import Suite, expand, suites, task_of
from zhen.evaluate.harness.task import parts_of, spread
from zhen.evaluate.harness.tasks import TASKS


def test_every_set_that_is_there_can_be_read(shared_data: Path) -> None:
    found = {name: parts_of(task, shared_data / "eval") for name, task in TASKS.items() if name != "ceval"}
    assert {name for name, parts in found.items() if not parts} == set()
    assert sum(len(part.test) for part in found["mmlu"]) == 7_658
    assert all(len(part.shots) == 5 for part in found["mmlu"] + found["cmmlu"])


def test_the_original_mmlu_has_no_head_line(tmp_path: Path) -> None:
    for split in ("test", "dev"):
        (tmp_path / "mmlu" / split).mkdir(parents=True)
        (tmp_path / "mmlu" / split / f"law_{split}.csv").write_text('"What, now?",a,b,c,d,C\nWhy?,e,f,g,h,A\n')
    (part,) = parts_of(TASKS["mmlu"], tmp_path)
    assert part.test[0] == {"question": "What, now?", "choices": ["a", "b", "c", "d"], "answer": 2}


def test_arc_is_read_in_all_its_forms() -> None:
    unrolled = {"query": "Question: Why?\nAnswer:", "choices": ["x", "y"], "gold": 1}
    hub = {"question": "Why?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}
    authors = {
        "question": {"stem": "Why?", "choices": [{"text": "x", "label": "A"}, {"text": "y", "label": "B"}]},
        "answerKey": "B",
    }
    assert readers.labelled(unrolled) == readers.labelled(hub) == readers.labelled(authors)


def test_boolq_unrolled_is_boolq() -> None:
    plain = {"passage": "A -- b.\nc", "question": "is it so", "answer": True}
    unrolled = {"query": "A -- b.\nc\nQuestion: is it so?\nAnswer:", "choices": ["yes", "no"], "gold": 0}
    assert readers.boolq(plain) == readers.boolq(unrolled)


def test_hellaswag_is_cleaned_as_the_harness_does() -> None:
    from datasets import Dataset
    from lm_eval.tasks.hellaswag.utils import process_docs

    row = {
        "activity_label": "Roof [header]", "ctx_a": "He goes. [title] up", "ctx_b": "then  he",
        "endings": ["[step] sits.", "falls [title] down"], "label": "1",
    }  # fmt: skip
    theirs = process_docs(Dataset.from_list([row]))[0]
    ours = readers.hellaswag(row)
    assert (ours["query"], ours["choices"]) == (theirs["query"], theirs["choices"])


def test_each_question_of_a_text_is_an_item_under_its_number() -> None:
    row = {"question": "Text of 2012. 71 ___ and 72 ___ .\nA. x\nB. y\nC. z\nD. w\nE. v\n", "answer": ["E", "A"]}
    items = readers.gaokao(row)
    assert [item["query"][-8:] for item in items] == ["第71题的答案：", "第72题的答案："]
    assert [item["choices"][item["gold"]] for item in items] == ["E", "A"]


def test_where_several_letters_are_right_all_sets_are_choices() -> None:
    (item,) = readers.gaokao({"question": "1. 何？\nA. x\nB. y\nC. z\nD. w", "answer": ["ACD"]})
    assert len(item["choices"]) == 15
    assert item["choices"][item["gold"]] == "ACD"


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n{"a": \n'))
    with pytest.raises(ZhenError, match="line 2"):
        rows_of(path)


def test_an_item_without_its_fields_is_named(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(json.dumps({"goal": "x"}) + "\n")
    with pytest.raises(ZhenError, match=r"item 1.*'sol1'"):
        list(single(readers.fields("goal", "sol1"))(tmp_path))


@pytest.mark.parametrize(("limit", "counts"), [(None, [5, 1, 9]), (7, [3, 1, 3]), (2, [1, 1, 0]), (99, [5, 1, 9])])
def test_a_limit_is_spread_over_the_subjects(limit: int | None, counts: list[int]) -> None:
    parts = [Part(str(size), [{}] * size, [], []) for size in (5, 1, 9)]
    assert spread(parts, limit) == counts


def test_suites_have_the_shots_of_the_published_tables() -> None:
    known: dict[str, Suite] = suites()
    assert [entry.shots for entry in known["open-llm-v1"].tasks] == [25, 10, 5, 0, 5, 5]
    assert len({entry.column for entry in known["yi-eight"].tasks}) == 8
    assert {entry.task for suite in known.values() for entry in suite.tasks} <= set(TASKS)


def test_tasks_are_named_with_their_shots() -> None:
    assert task_of("mmlu@0").shots == 0
    assert expand(["open-llm-v1"])[0] == "arc_challenge@25"
    with pytest.raises(ZhenError, match='no task "mlu"'):
        expand(["mlu"])
    with pytest.raises(ZhenError, match="each task once"):
        expand(["mmlu", "open-llm-v1"])


def test_settings_of_ones_own_need_a_known_base(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("base: nothing\n")
    with pytest.raises(ZhenError, match="base: nothing"):
        task_of(str(tmp_path / "x.yaml"))


def test_ceval_is_read_as_its_archive_lies(ceval: tuple[Path, list[str]]) -> None:
    folder, names = ceval
    parts = parts_of(TASKS["ceval"], folder)
    assert len(parts) == 52
    assert [part.name for part in parts] == names
    assert {(len(part.test), len(part.shots)) for part in parts} == {(2, 5)}
    bench = Bench(TASKS["ceval"], parts, limit=52)
    assert (bench.total, len(bench.tasks), bench.shots) == (52, 52, 5)
    task = bench.tasks["ceval_law"]
    prompt = task.fewshot_context(parts[names.index("law")].test[0], num_fewshot=5)
    assert prompt.startswith("以下是中国关于法学的单项选择题，请选出其中的正确答案。")
    assert prompt.count("答案：") == 6
    assert prompt.endswith("答案：")
    assert "见教材" not in prompt


def test_without_ceval_it_is_said_where_its_files_belong(tmp_path: Path) -> None:
    with pytest.raises(ZhenError) as caught:
        parts_of(TASKS["ceval"], tmp_path)
    assert str(caught.value.file) == str(tmp_path / "ceval")
    assert "val/<subject>_val.csv" in str(caught.value.expected)
    assert "ceval-exam.zip" in str(caught.value.expected)
