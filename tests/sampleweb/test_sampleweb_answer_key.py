"""benchmarks/answer_key.py passes a run that did what the key says, and fails one that didn't."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Row = dict[str, Any]


@pytest.fixture
def answer_key(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("answer_key")


def masked(row: Row) -> str:
    text = str(row["text"])
    for contact in row.get("contacts", []):
        text = text.replace(contact["value"], "***") if contact["real"] else text
    return text


def as_the_key_says(row: Row) -> bool:
    return row["fate"] in ("keep", "redact", "either")


def fake_run(run: Path, web: Any, keeps: Callable[[Row], bool], text: Callable[[Row], str] = masked) -> Path:
    """A run whose data stages extracted every page rightly, reported each rewording, and kept what `keeps` says."""
    run.mkdir()
    (run / "sampleweb").symlink_to(web.folder)
    rows = web.pages + web.faulty
    read = [row for row in rows if row["fate"] != "lost"]
    kept = [row for row in read if keeps(row)]
    lost = [{"file": f"{row['site']}.warc.gz", "reason": "damaged"} for row in rows if row["fate"] == "lost"]
    tables = {
        "documents": {"url": [row["url"] for row in read], "text": [row["text"] for row in read]},
        "verdicts": {"keep": [keeps(row) for row in read], "rule": [row["why"] + "-rule" for row in read]},
        "signals": {"reworded": [float(row["why"] == "reworded-leak") for row in read]},
        "kept": {"url": [row["url"] for row in kept], "text": [text(row) for row in kept]},
    }
    for name, columns in tables.items():
        (run / "data" / name).mkdir(parents=True)
        pq.write_table(pa.table(columns), run / "data" / name / "unit-00000.parquet")
    (run / "data" / "lost.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lost), "utf-8")
    (run / "data" / "contamination.json").write_text('{"report": 0.6}')
    return run


def failed(answer_key: ModuleType, run: Path) -> list[str]:
    return [line.what for line in answer_key.compare(answer_key.read_outcome(run)) if not line.passed]


def test_a_run_that_did_all_as_the_key_says_passes(tmp_path: Path, web: Any, answer_key: ModuleType) -> None:
    assert failed(answer_key, fake_run(tmp_path / "run", web, as_the_key_says)) == []


@pytest.mark.parametrize(
    ("share", "line"), [(0.0, "leaks in other words reported"), (1.0, "good pages not reported as such")]
)
def test_reporting_nothing_fails_and_so_does_reporting_all(
    tmp_path: Path, web: Any, answer_key: ModuleType, share: float, line: str
) -> None:
    run = fake_run(tmp_path / "run", web, as_the_key_says)
    signals = run / "data" / "signals" / "unit-00000.parquet"
    rows = pq.read_metadata(signals).num_rows
    pq.write_table(pa.table({"reworded": [share] * rows}), signals)
    assert failed(answer_key, run) == [line]


def test_a_run_that_kept_all_fails_by_every_bar_on_what_must_go(
    tmp_path: Path, web: Any, answer_key: ModuleType
) -> None:
    run = fake_run(tmp_path / "run", web, lambda row: True, lambda row: row["text"])
    assert failed(answer_key, run) == [
        "exact copies gone",
        "verbatim leaks gone",
        "near copies gone, Jaccard 0.8 and more",
        "contacts masked",
        "spam and gambling dropped",
        "gibberish and mojibake dropped",
    ]


def test_a_run_that_lost_good_pages_or_touched_them_fails(tmp_path: Path, web: Any, answer_key: ModuleType) -> None:
    def few(row: Row) -> bool:
        return as_the_key_says(row) and row["kind"] != "diary"

    run = fake_run(tmp_path / "run", web, few, lambda row: masked(row).replace("a", "*"))
    assert failed(answer_key, run) == ["pages without contacts untouched", "good pages kept (or a copy of them)"]
