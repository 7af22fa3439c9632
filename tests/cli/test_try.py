"""`zhen try`: files of every kind alone under a recipe's rules, and the same verdicts as a run gives."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from zhen.cli.app import run
from zhen.data.settings import Columns, ContaminationSettings, DataSettings, RulesSettings, Source
from zhen.data.trial import try_file

RECIPE = str(Path(__file__).resolve().parents[2] / "recipes" / "micro.toml")
TEXT = (
    "The baker of the old town is known for its bread, and people come from the hills to buy it.\n"
    "In winter the river freezes, and the baker walks over the ice to the market on the other side."
)
PAGE = f"<html><body><nav>Home</nav><article><p>{TEXT}</p></article></body></html>"


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHEN_LAUNCHED", "1")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("page.html", PAGE.encode()),
        ("no-name", PAGE.encode()),
        ("text.txt", TEXT.encode("utf-16")),
        ("lines.jsonl.gz", gzip.compress(json.dumps({"text": TEXT}).encode())),
        ("warc", b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s"
         % (len(TEXT), TEXT.encode())),
    ],
)  # fmt: skip
def test_every_format_gives_its_text(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    trial = try_file(DataSettings(), tmp_path / name)
    assert [document.text.split() for document in trial.documents] == [TEXT.split()]
    assert (trial.documents[0].verdict, trial.documents[0].lang) == ("kept", "en")


def test_the_first_rule_that_fails_is_named_with_its_threshold(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    settings = DataSettings(rules=RulesSettings(min_characters_en=500, max_digits=0.0, min_words=1000))
    (tried,) = try_file(settings, tmp_path / "a.txt").documents
    assert (tried.verdict, tried.rule, tried.value, tried.threshold) == ("dropped", "length", len(TEXT), 500)
    assert [look.rule for look in tried.rules if not look.kept] == ["length", "words"]


def test_a_benchmark_of_ones_own_is_looked_for_and_the_sample_webs_is_said(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text(json.dumps({"question": TEXT.split("\n")[0], "answer": TEXT.split("\n")[1]}))
    (tmp_path / "a.txt").write_text(TEXT)
    against = ContaminationSettings(against=(str(tmp_path / "b.jsonl"), "sampleweb/tasks/never-asked"))
    trial = try_file(DataSettings(contamination=against), tmp_path / "a.txt")
    assert trial.documents[0].rule == "contamination"
    assert [reason.split(":")[0] for reason in trial.not_judged] == [
        "duplicates", "contamination by sampleweb/tasks/never-asked",
    ]  # fmt: skip


def test_columns_are_those_of_the_source_that_fits(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"body": TEXT, "url": "http://a.example/"}))
    sources = (Source(name="web", path="x"), Source(name="b", path="y", columns=Columns(text="body")))
    trial = try_file(DataSettings(sources=sources), tmp_path / "a.jsonl")
    assert [document.url for document in trial.documents] == ["http://a.example/"]
    assert trial.lost == []


def test_a_try_gives_what_the_run_gave(micro_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    data = micro_run.folder / "data"
    documents = pq.read_table(data / "documents" / "unit-00000.parquet").to_pylist()
    rules = pq.read_table(data / "verdicts" / "unit-00000.parquet")["rule"].to_pylist()
    file = next(json.loads(row["meta"])["file"] for row, rule in zip(documents, rules, strict=True) if rule == "length")
    assert run(["try", RECIPE, str(micro_run.folder / "sampleweb" / "crawl" / file), "--json"]) == 0
    tried = json.loads(capsys.readouterr().out)["documents"]
    expected = [
        (row["text"], rule)
        for row, rule in zip(documents, rules, strict=True)
        if json.loads(row["meta"])["file"] == file
    ]
    alone = [(text, None if rule and rule.endswith("duplicate") else rule) for text, rule in expected]
    assert [(document["text"], document["rule"]) for document in tried] == alone


def test_standard_input_is_read_and_what_is_put_out_of_sight_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = f"{TEXT}\nWrite to anna@example.org.".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert run(["try", RECIPE, "-"]) == 0
    shown = capsys.readouterr().out
    assert "+ Write to [email]." in shown
    assert "not judged: duplicates" in shown


def test_a_missing_file_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["try", RECIPE, "no/such/page.html"]) == 2
    assert "no/such/page.html: cannot be read" in capsys.readouterr().err
