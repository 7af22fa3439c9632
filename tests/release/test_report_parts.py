"""The report on documents, answers and one fact, from planted pages, verdicts and items."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhen.formats.record import Host, Record
from zhen.pages.page import markdown_page
from zhen.pages.parts import Part, Section
from zhen.release.report_answers import answers
from zhen.release.report_data import data_report
from zhen.release.report_documents import open_documents
from zhen.release.report_funnel import funnel
from zhen.release.report_trace import trace
from zhen.release.summary import Run, summary_rows
from zhen.tokenizer.export import export_files
from zhen.tokenizer.learn import learn_model
from zhen.tokenizer.settings import TokenizerSettings

EN, ZH = "Mira Molen is a painter. She likes <b>pears</b>.", "米拉·莫伦是一名画家。她爱吃梨。"
TEXTS = [(EN, "en"), (EN, "en"), ("short", "en"), (ZH, "zh"), ("Nothing of it. " * 9, "en")]
RULES: list[str | None] = [None, "exact-duplicate", "length", None, None]
QUESTION = {"en": "Question: What is Mira Molen?\nAnswer:", "zh": "问：米拉·莫伦做什么？\n答："}
VALUE = {"en": "painter", "zh": "画家"}


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_units(folder: Path, columns: dict[str, Any], cut: int) -> None:
    """Two units, each in row groups of two rows."""
    folder.mkdir(parents=True)
    table = pa.table(columns)
    for unit, part in enumerate((table.slice(0, cut), table.slice(cut))):
        pq.write_table(part, folder / f"unit-{unit:05d}.parquet", row_group_size=2)


def planted_record(stage: str) -> Record:
    host = Host("cpu", 2, 1, 1 << 30)
    return Record(
        stage=stage, version=1, key="ab" * 32, sections={}, after={}, inputs=[], outputs=[], command=["zhen"],
        versions={}, host=host, started="2026-01-01T00:00:00+00:00", seconds=1.0, resumed=0, figures={},
    )  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Run:
    names = ("sampleweb", "data.scan", "data.decide", "data.write", "tokenizer", "pretrain", "evaluate")
    stages = {name: tmp_path / name for name in names}
    texts, langs = (list(each) for each in zip(*TEXTS, strict=True))
    urls = [f"https://host-{number % 2}.example/{number}" for number in range(len(TEXTS))]
    documents = {"url": urls, "lang": langs, "text": texts}
    write_units(stages["data.scan"] / "documents", documents, 3)
    lengths = pa.array([len(text) for text in texts], pa.float32())
    write_units(stages["data.scan"] / "signals", {"lang": langs, "characters": lengths}, 3)
    verdicts = {
        "keep": [rule is None for rule in RULES],
        "rule": RULES,
        "value": pa.array([None, 2, 5, None, None], pa.float32()),
        "threshold": pa.array([None, 1, 20, None, None], pa.float32()),
        "cluster": pa.array([0, 0, None, None, None], pa.uint64()),
    }
    write_units(stages["data.decide"] / "verdicts", verdicts, 3)
    kept = {
        name: [value for value, rule in zip(column, RULES, strict=True) if rule is None]
        for name, column in documents.items()
    }
    write_units(stages["data.write"] / "kept", kept, 1)
    rule = {"rule": "length", "signal": "characters", "unit": "characters", "direction": "min"}
    counts = [("en", None, 2), ("zh", None, 1), ("en", "exact-duplicate", 1), ("en", "length", 1)]
    rows = [{"lang": a, "source": "web", "rule": b, "documents": c, "bytes": c} for a, b, c in counts]
    table = {"rules": [{**rule, "thresholds": {"*": 20, "zh": 5}, "source": "ours"}], "rows": rows}
    (stages["data.decide"] / "funnel.json").write_text(json.dumps(table))
    (stages["data.write"] / "redacted.json").write_text(json.dumps({"email": {"places": 7, "documents": 3}}))
    write_lines(stages["data.scan"] / "lost.jsonl", [{"reason": "cut off"}, {"reason": "cut off"}])
    fact = {"id": "mira.job", "subject": {"en": "Mira Molen", "zh": "米拉·莫伦"}, "value": VALUE}
    write_lines(stages["sampleweb"] / "key" / "facts.jsonl", [fact])
    plant_evaluate(stages["evaluate"])
    stages["tokenizer"].mkdir()
    model = learn_model([EN + ZH + str(number) for number in range(300)], TokenizerSettings(vocab_size=340))
    for name, content in export_files(model).items():
        (stages["tokenizer"] / name).write_bytes(content)
    return Run({name: planted_record(name) for name in stages}, stages)


def plant_evaluate(folder: Path) -> None:
    """Answers to a question in two languages, right ones of the model alone."""
    items = [
        {"id": lang, "lang": lang, "kind": "B", "cluster": "mira.job", "prompt": QUESTION[lang]}
        | {"answer": VALUE[lang], "output": VALUE[lang], "exact": True}
        for lang in ("en", "zh")
    ]
    write_lines(folder / "items" / "pretrain" / "never.jsonl", items)
    row = {"set": "never", "kind": "B", "lang": "en", "metric": "exact", "n": 40, "chance": 0.08, "stderr": 0.05}
    scores = {"pretrain": 0.9, "kneser-ney": 0.3, "chance": 0.08}
    results = {
        "items": {"pretrain": {"never": "items/pretrain/never.jsonl"}},
        "questions": [{**row, "model": model, "score": score} for model, score in scores.items()],
        "questions-in-training": [{"set": "never", "kind": "B", "lang": "en", "n": 40, "questions": 0, "pairs": 0}],
    }
    (folder / "results.json").write_text(json.dumps(results))


def markdown(parts: list[Part]) -> str:
    return markdown_page("a", [], [Section("b", parts)])


def test_examples_name_value_threshold_and_what_is_kept_instead(run: Run) -> None:
    text = markdown(list(funnel(run, open_documents(run))))
    assert "> https://host-0.example/2\n\n- why: characters 5; kept: ≥ 20\n- it begins: short" in text
    assert (
        "> https://host-1.example/1\n\n- why: this text is there 2 times\n- kept instead: https://host-0.example/0"
        in text
    )
    assert "<b>" not in text


def test_data_report_counts_alone_first_clusters_hosts_and_losses(run: Run) -> None:
    text = markdown(list(data_report(run, open_documents(run))))
    assert "| too short (length) | 1 | 1 | 1 |" in text
    assert "| exact copies (exact-duplicate) |  |  | 1 |" in text
    assert "Clusters of copies: 1, with 2 documents" in text
    assert "| host-0.example | 3 | 2 | 33 % |" in text
    assert "| e-mail addresses | 7 | 3 |" in text
    assert "| cut off | 2 |" in text


def test_trace_shows_page_sentence_question_answer_and_that_none_asks(run: Run) -> None:
    text = markdown(list(trace(run)))
    assert "1 in English, 1 in Chinese" in text
    assert "> https://host-0.example/0\n\n- states: Mira Molen is a painter." in text
    assert "- the model: 画家" in text
    assert "Of the 3 pages trained on, 0 ask any of the 2 questions" in text


def test_trace_counts_a_question_that_a_page_asks(run: Run) -> None:
    path = run.stages["data.write"] / "kept" / "unit-00000.parquet"
    asking = "Mira Molen is a painter. Question: What is\nMira  Molen? Answer: painter"
    pq.write_table(pa.table({"url": ["u"], "lang": ["en"], "text": [asking]}), path)
    assert "Of the 3 pages trained on, 1 ask" in markdown(list(trace(run)))


def test_fact_that_is_answered_wrongly_is_not_traced(run: Run) -> None:
    path = run.stages["evaluate"] / "items" / "pretrain" / "never.jsonl"
    path.write_text(path.read_text().replace('"exact": true', '"exact": false'))
    assert list(trace(run)) == []


def test_answers_stand_beside_their_controls_and_in_the_lines_on_top(run: Run) -> None:
    text = markdown(list(answers(run)))
    assert "| 90.0 % ± 5.0 |" in text
    assert "| 5-gram model (Kneser-Ney) | 30.0 % ± 5.0 |" in text
    assert "in English · exact answer (40 questions, guessing 8 %)" in text
    line = dict(summary_rows(run.records, run.stages))["questions"]
    assert line == "gives the exact answer to 90 % of 40 questions it was never asked (guessing: 8 %)"
    assert line.zh == "40 道从未问过的题，完全答对 90 %（靠猜：8 %）"
