"""The report's section on chat, and the closing table's dialogues, from planted replies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zhen.formats.record import Figure, Record, this_host
from zhen.pages.page import html_page, markdown_page
from zhen.pages.parts import Section, translated
from zhen.release.report_chat import chat
from zhen.release.summary import Run, samples

LANGS = ("en", "zh")
QUESTION = {"en": "What is <b>Mira</b> {n}?", "zh": "米拉{n}做什么？"}
REPLY = {"en": "Mira is a painter.", "zh": "米拉是一名画家。"}


def record(stage: str, sections: dict[str, Any], figures: dict[str, Figure]) -> Record:
    return Record(
        stage=stage, version=1, key="0" * 64, sections=sections, after={}, inputs=[], outputs=[], command=[],
        versions={}, host=this_host(), started="", seconds=1.0, resumed=0, figures=figures, events=[],
    )  # fmt: skip


def reply(model: str, lang: str, kind: str, number: int) -> dict[str, Any]:
    right = model == "tune" and kind == "B" and number > 0
    said = REPLY[lang] if model == "tune" else "on and on " * 60
    return {
        "task": f"{kind}.{lang}", "id": str(number), "lang": lang, "kind": kind, "cluster": str(number),
        "question": QUESTION[lang].format(n=number), "answer": "painter" if right else "smith", "reply": said,
        "right": right, "names": right, "stops": model == "tune", "language": True, "repeats": False,
    }  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Run:
    rows, items = [], {}
    for model in ("pretrain", "tune"):
        replies = [reply(model, lang, kind, n) for lang in LANGS for kind in ("B", "unstated") for n in range(5)]
        file = tmp_path / "items" / model / "dialogue.jsonl"
        file.parent.mkdir(parents=True)
        file.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in replies))
        items[model] = {"dialogue": f"items/{model}/dialogue.jsonl"}
        for lang in LANGS:
            head = {"model": model, "set": "never-asked", "kind": "B", "lang": lang, "metric": "right", "stderr": 0.05}
            rows.append({**head, "score": 0.8 if model == "tune" else 0.0, "n": 5})
    exact = [
        {"model": model, "set": "never-asked", "kind": "B", "lang": "en", "metric": "exact", "stderr": 0.02} | score
        for model, score in (("pretrain", {"score": 0.96}), ("tune", {"score": 0.94}))
    ]
    results = {"dialogue": rows, "items": items, "questions": exact}
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "metrics.jsonl").write_text("".join(f'{{"kind": "train", "step": {n}, "loss": 1.5}}\n' for n in (1, 2)))
    figures = {"dialogue.stops": Figure(0.995, stderr=0.002), "dialogue.stops.pretrain": Figure(0.0)}
    figures |= {"bits_per_byte.pretrain.en": Figure(0.2), "bits_per_byte.tune.en": Figure(0.22)}
    tuned = record("tune", {"tune": {"text_share": 0.5}}, {})
    records = {"pretrain": record("pretrain", {}, {}), "tune": tuned, "evaluate": record("evaluate", {}, figures)}
    return Run(records, {"evaluate": tmp_path, "tune": tmp_path})


def test_before_and_after_stand_side_by_side(run: Run) -> None:
    text = markdown_page("t", [], [Section("Chat", list(chat(run)))])
    for row in (
        "| share of replies | before tuning | this model, tuned |",
        "| right: stated on pages, asked on none, in English | 0.0 % ± 5.0 | 80.0 % ± 5.0 |",
        "| ends its reply by itself | 0.0 % | 99.5 % ± 0.2 |",
        "| says the same over and over | – | – |",
        "| bits per byte of held-out text, English | 0.200 | 0.220 |",
        "| exact: stated on pages, asked on none, in English, as pages ask | 96.0 % ± 2.0 | 94.0 % ± 2.0 |",
    ):
        assert row in text
    assert "50 % of the sequences are text" in text


def test_dialogues_of_both_languages_are_shown_right_wrong_and_told_nowhere(run: Run) -> None:
    text = markdown_page("t", [], [Section("Chat", translated(list(chat(run))))])
    opened, folded = text.split("<details>")
    for lang in LANGS:
        assert opened.count(REPLY[lang]) == 1
        assert folded.count(REPLY[lang]) == 2 + 1 + 1  # two more right ones, the wrong one, one told nowhere
    assert folded.count("（网页没有说过）") == 2
    assert "on and on" in opened
    assert "on and on " * 20 not in text
    page = html_page("t", [], [Section("Chat", list(chat(run)))])
    assert "&lt;b&gt;Mira&lt;/b&gt;" in page
    assert "<b>Mira" not in page


def test_the_closing_table_shows_replies_drawn_whether_right_or_wrong(run: Run) -> None:
    found = samples(run.stages)
    assert [lang for lang, _, _ in found] == list(LANGS)
    for lang, prompt, text in found:
        assert prompt in {QUESTION[lang].format(n=n) for n in range(5)}
        assert text == f" {REPLY[lang]}"


def test_nothing_is_shown_where_nothing_was_asked_in_chat(run: Run) -> None:
    (run.stages["evaluate"] / "results.json").write_text("{}")
    assert list(chat(run)) == []
