"""The run's report and summary, from planted records and files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from zhen.formats.record import Figure, Host, Output, Record
from zhen.release.report import samples, summary_rows, write_report

EVIL = "<script>alert(1)</script>"


BITS: dict[str, float | int | bool] = {
    "bits_per_byte.pretrain.en": 0.75,
    "bits_per_byte.kneser-ney.en": 1.0,
    "margin_over_kneser_ney.en": 25.0,
}


SCANNED: dict[str, float | int | bool] = {
    "records_lost": 3,
    "records_without_page": 60,
    "without_page.WARC request record": 40,
    "without_page.HTTP status 404": 15,
    "without_page.content of type image": 5,
}


def record(stage: str, figures: dict[str, float | int | bool] | None = None) -> Record:
    return Record(
        stage=stage,
        version=1,
        key="ab" * 32,
        sections={"model": {"num_hidden_layers": 2, "hidden_size": 32}},
        after={},
        inputs=[],
        outputs=[Output("a.bin", 5, "cd" * 32, "result")],
        command=["zhen", "run", "/home/somebody/tiny.toml"],
        versions={},
        host=Host("cpu", 2, 1, 1 << 30),
        started="2026-01-01T00:00:00+00:00",
        seconds=2.0,
        resumed=0,
        figures={name: Figure(value) for name, value in (figures or {}).items()},
    )


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, dict[str, Record], dict[str, Path]]:
    records = {
        "data.scan": record("data.scan", SCANNED),
        "data.decide": record("data.decide"),
        "shards": record("shards", {"tokens": 1000, "bytes_per_token": 3.5}),
        "pretrain": record("pretrain", {"parameters": 12_345, "tokens": 2000}),
        "evaluate": record("evaluate", BITS),
        "release": record(
            "release", {"audit_passed": True, "claims_held": 9, "claims_failed": 0, "claims_unchecked": 1}
        ),
    }
    stages = {name: tmp_path / name for name in records}
    for folder in stages.values():
        folder.mkdir()
    counts = [("en", None, 70), ("zh", None, 20), ("en", "length", 6), ("zh", EVIL, 4)]
    rows = [{"lang": a, "source": "web", "rule": b, "documents": c, "bytes": 10 * c} for a, b, c in counts]
    (stages["data.decide"] / "funnel.json").write_text(json.dumps({"rules": [], "rows": rows}))
    metrics = [{"step": 0, "kind": "held-out", "bits_per_byte": {"en": 5.0}}]
    metrics += [{"step": 1, "kind": "train", "tokens": 1000, "loss": 3.0}]
    (stages["pretrain"] / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    lines = [{"step": n, "lang": "en", "prompt": "Once" + EVIL, "continuation": f"text {n} {EVIL}"} for n in (0, 1)]
    (stages["pretrain"] / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    return tmp_path, records, stages


def test_summary_gives_the_planted_numbers(run: tuple[Path, dict[str, Record], dict[str, Path]]) -> None:
    _, records, stages = run
    rows = dict(summary_rows(records, stages))
    assert rows["pages"].startswith("100 read → 90 kept (90 %); left out: too short 6, <script>")
    aside = "20 responses without a page (redirects, errors, images and the like), 3 damaged records"
    assert rows["pages"].endswith(f"not counted: {aside}")
    assert rows["tokens"] == "1,000 in the corpus (3.50 bytes each); trained on 2,000 (2.0 passes over it)"
    assert rows["model"] == "12,345 parameters, 2 layers of width 32, LLaMA architecture"
    assert rows["held-out text"] == "English: 0.750 bits per byte, 25 % fewer than a 5-gram model (1.000)"
    assert rows["audit"] == "passed: 9 claims hold, 1 could not be checked"


def test_samples_are_the_last_steps(run: tuple[Path, dict[str, Record], dict[str, Path]]) -> None:
    assert samples(run[2]) == [("en", "Once" + EVIL, f"text 1 {EVIL}…")]


def test_report_is_small_escaped_and_names_the_commands(run: tuple[Path, dict[str, Record], dict[str, Path]]) -> None:
    folder, records, stages = run
    write_report(folder, records, stages)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert len(page) < 1_000_000
    assert page.count("<script") == 1
    assert "zhen run …/tiny.toml" in page
    assert "/home/" not in page
    for text in ("12,345", "90.0 %", "5-gram", "text 1 &lt;script&gt;", "cdcdcdcd"):
        assert text in page
    for name in ("report.md", "report.zh.md"):
        assert "<script" not in (folder / name).read_text(encoding="utf-8")


def test_markdown_of_each_language_names_the_other_and_has_the_same_numbers(
    run: tuple[Path, dict[str, Record], dict[str, Path]],
) -> None:
    folder, records, stages = run
    write_report(folder, records, stages)
    english, chinese = ((folder / name).read_text(encoding="utf-8") for name in ("report.md", "report.zh.md"))
    assert "[中文](report.zh.md)" in english
    assert "[English](report.md)" in chinese
    assert [line.count("|") for line in english.splitlines()] == [line.count("|") for line in chinese.splitlines()]
    assert "每字节 0.750 比特，五元模型 1.000，少 25 %" in chinese
    assert not re.search("[一-鿿]", english.replace("[中文]", ""))


def test_model_that_is_worse_is_said_to_be(run: tuple[Path, dict[str, Record], dict[str, Path]]) -> None:
    _, records, stages = run
    records["evaluate"] = record("evaluate", {**BITS, "margin_over_kneser_ney.en": -4.6})
    assert "bits per byte, 5 % more than a 5-gram model" in dict(summary_rows(records, stages))["held-out text"]


def test_rare_languages_share_a_column(run: tuple[Path, dict[str, Record], dict[str, Path]]) -> None:
    folder, records, stages = run
    rows = [{"lang": f"l{n}", "source": "web", "rule": "language", "documents": 100 - n, "bytes": 1} for n in range(26)]
    (stages["data.decide"] / "funnel.json").write_text(json.dumps({"rules": [], "rows": rows}))
    write_report(folder, records, stages)
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert "| rule | keeps | l0 | l1 | l2 | l3 | other languages | text |" in markdown
    assert f"| 100 | 99 | 98 | 97 | {sum(100 - n for n in range(4, 26)):,} |" in markdown


def test_run_with_few_stages_has_a_report_too(run: tuple[Path, dict[str, Record], dict[str, Path]]) -> None:
    folder, records, stages = run
    write_report(folder, {"pretrain": records["pretrain"]}, {"pretrain": stages["pretrain"]})
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "This run has no release yet." in page
    assert 'id="funnel"' not in page
