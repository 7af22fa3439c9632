"""Questions in the training text: planted copies are found by item and place, and records that say otherwise fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from zhen.audit.checks import audit_checkpoint
from zhen.audit.finding import Finding
from zhen.formats.files import sha256_file, write_bytes
from zhen.formats.record import Figure, Host, Output, Record, write_record
from zhen.formats.shard import write_shard
from zhen.tokenizer.export import export_files
from zhen.tokenizer.learn import learn_model
from zhen.tokenizer.load import load_tokenizer
from zhen.tokenizer.settings import TokenizerSettings

CLEAN = ["Lani Biyo lives in Mira. At home there is a goat.", "拉尼·比约住在米拉镇，家里有一只山羊。"] * 20
ENGLISH = "Which animal does Lani Biyo keep at home?"
CHINESE = "拉尼·比约在家里养了什么动物？"
ITEMS = {
    "never.en": [
        {"id": "pet", "kind": "B", "prompt": f"Question: {ENGLISH}\nAnswer:", "answer": " goat"},
        {
            "id": "town",
            "kind": "B",
            "prompt": "Question: In which town does Lani Biyo live?\nAnswer:",
            "answer": " Mira",
        },
    ],
    "mine": [
        {"id": "1", "kind": "mine", "lang": "zh", "prompt": f"问：{CHINESE}\n答：", "answer": "山羊"},
        {"id": "2", "kind": "A", "lang": "en", "prompt": "Who keeps a goat at home in Mira?", "answer": " Lani"},
    ],
}
ROWS = {".never.en": 2, ".mine.zh": 1, ".mine.en": 1, "": 3}
"""How the names of figures end -> items; the last without those asked on purpose."""


@dataclass
class Planted:
    """A run made by hand: what its training text holds beside CLEAN, and what its records say of that."""

    texts: Sequence[str] = ()
    copies: Mapping[str, tuple[int, int, str | None]] = field(default_factory=dict)
    """Item -> copies, with the answer, first place: as the items record them."""
    figures: Mapping[str, int] = field(default_factory=dict)
    """Figures that are not 0."""


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """`make_run(Planted(…))`: the release of such a run."""

    def make(planted: Planted) -> Path:
        stages = tmp_path / "stages"
        release, shards, evaluate, scan = (
            stages / f"{name}-{'0' * 8}" for name in ("release", "shards", "evaluate", "data.scan")
        )
        release.mkdir(parents=True)
        for name, content in export_files(
            learn_model([*CLEAN, ENGLISH, CHINESE], TokenizerSettings(vocab_size=340))
        ).items():
            write_bytes(release / name, content)
        tokenizer = load_tokenizer(release)
        texts = [*CLEAN, *planted.texts]
        documents = [([*tokenizer.encode(text), tokenizer.end_of_text], len(text.encode())) for text in texts]
        write_shard(
            shards / "web", 0, documents, source="web", lang=None, tokenizer=tokenizer.sha256,
            vocab_size=tokenizer.vocab_size,
        )  # fmt: skip
        for task, items in ITEMS.items():
            lines = [{"lang": "en"} | item for item in items]
            found = [(item["id"], *planted.copies.get(item["id"], (0, 0, None))) for item in items]
            write_lines(evaluate / "items" / "pretrain" / f"{task}.jsonl", lines)
            keys = ("id", "questions", "pairs", "first")
            write_lines(
                evaluate / "items" / "training" / f"{task}.jsonl", [dict(zip(keys, row, strict=True)) for row in found]
            )
        scan.mkdir()
        (scan / "benchmarks.json").write_text(
            json.dumps([{"file": "tasks/never.en.jsonl", "items": [], "too_short": []}])
        )
        figures = {}
        for name, n in (
            (f"{what}_in_training{name}", n) for what in ("questions", "pairs") for name, n in ROWS.items()
        ):
            figures[name] = Figure(planted.figures.get(name, 0), "questions", n)
        for folder in (shards, evaluate, scan):
            record_of(folder, figures if folder is evaluate else {}, release / "records")
        return release

    return make


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def record_of(folder: Path, figures: dict[str, Figure], records: Path) -> None:
    """Write the record of what lies in a stage's folder, there and among the release's."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    stage = folder.name.rpartition("-")[0]
    made = Record(
        stage=stage, version=1, key="0" * 64, sections={}, after={"shards": "0" * 64}, inputs=[],
        outputs=[Output(path.relative_to(folder).as_posix(), *sha256_file(path), "result") for path in files],
        command=[], versions={}, host=Host("cpu", 1, 1, 1), started="2026-01-01T00:00:00+00:00", seconds=1.0,
        resumed=0, figures=figures,
    )  # fmt: skip
    records.mkdir(exist_ok=True)
    write_record(records, made, f"{stage}.json")


def training(release: Path) -> dict[str, Finding]:
    """Evidence -> finding of the two checks."""
    found = audit_checkpoint(release).findings
    return {finding.evidence: finding for finding in found if finding.id.startswith("training.")}


def failed(release: Path) -> list[tuple[str, str, str]]:
    return [(f.id, f.severity, f.evidence) for f in training(release).values() if f.verdict == "fails"]


def test_a_clean_run_holds_both_claims(make_run: Callable[..., Path]) -> None:
    found = training(make_run(Planted()))
    assert [finding.verdict for finding in found.values()] == ["holds", "holds"]
    assert all("4 questions of 2 files" in evidence for evidence in found)


def test_a_question_in_a_document_is_named_with_its_item_and_place(make_run: Callable[..., Path]) -> None:
    """It came there after the evaluation, so that the record does not know it."""
    found = failed(make_run(Planted([f"Somebody asked:\n{ENGLISH.upper()} Nobody knew."])))
    named = "item pet: recorded: 0 copies, 0 with the answer; counted: 1 copy, 0 with the answer"
    assert found[0] == ("training.count", "error", f"never.en.jsonl: {named}, first in web/shard-00000, document 41")
    assert [check for check, _, _ in found] == ["training.count"] * 3 + ["training.leaks"]
    assert "questions_in_training.never.en: the record says 0 of 2, counted are 1 of 2" in [row[2] for row in found]
    assert not any("pairs_in_training" in row[2] for row in found)


def both(*names: str) -> dict[str, int]:
    """One question and one pair in each of the figures that end so."""
    return {f"{what}_in_training{name}": 1 for what in ("questions", "pairs") for name in names}


RECORDED = Planted(
    [f"{ENGLISH} A goat.", f"{ENGLISH}\n\nAnswer: goat"],
    {"pet": (2, 2, "web/shard-00000, document 41")},
    both("", ".never.en"),
)


def test_a_pair_that_is_recorded_is_a_leak_all_the_same(make_run: Callable[..., Path]) -> None:
    release = make_run(RECORDED)
    prompt = f"'Question: {ENGLISH} Answer:'"
    evidence = (
        f"never.en.jsonl: item pet ({prompt}): 2 copies, 2 with the answer, first in web/shard-00000, document 41"
    )
    assert failed(release) == [("training.leaks", "error", evidence)]
    assert not audit_checkpoint(release).passed


def test_a_leak_from_a_file_that_data_was_not_told_of_is_a_warning(make_run: Callable[..., Path]) -> None:
    copies = {"1": (1, 1, "web/shard-00000, document 41")}
    found = failed(make_run(Planted([f"有人问：{CHINESE}答案：山羊。"], copies, both("", ".mine.zh"))))
    assert [(check, severity) for check, severity, _ in found] == [("training.leaks", "warning")]
    assert "item 1 (" in found[0][2]


def test_what_is_asked_on_purpose_is_counted_and_no_leak(make_run: Callable[..., Path]) -> None:
    copies = {"2": (1, 1, "web/shard-00000, document 41")}
    texts = ["Who keeps a goat at home in Mira? Lani"]
    assert not failed(make_run(Planted(texts, copies, both(".mine.en"))))


def test_a_question_over_two_documents_does_not_count(make_run: Callable[..., Path]) -> None:
    half = len(ENGLISH) // 2
    assert not failed(
        make_run(Planted([ENGLISH[:half], ENGLISH[half:], f"{ENGLISH[:-6]}", "home? goat", CHINESE[:6], CHINESE[6:]]))
    )


def test_an_answer_in_the_next_document_is_no_pair(make_run: Callable[..., Path]) -> None:
    found = failed(make_run(Planted([ENGLISH, "goat"])))
    assert "counted: 1 copy, 0 with the answer" in found[0][2]


@pytest.mark.parametrize(
    ("copies", "figures", "expected"),
    [
        ({}, RECORDED.figures, "item pet: recorded: 0 copies"),
        ({"pet": (1, 1, "web/shard-00000, document 41")}, RECORDED.figures, "item pet: recorded: 1 copy, 1"),
        (RECORDED.copies, {**RECORDED.figures, "pairs_in_training": 0}, "pairs_in_training: the record says 0 of 3"),
    ],
)  # fmt: skip
def test_a_record_that_says_less_is_found(
    make_run: Callable[..., Path], copies: Any, figures: Any, expected: str
) -> None:
    found = failed(make_run(Planted(RECORDED.texts, copies, figures)))
    assert [check for check, _, _ in found] == ["training.count", "training.leaks"]
    assert expected in found[0][2]


def test_a_figure_that_is_left_out_is_found(make_run: Callable[..., Path]) -> None:
    release = make_run(RECORDED)
    path = release / "records" / "evaluate.json"
    value = json.loads(path.read_text())
    del value["figures"]["pairs_in_training.never.en"]
    path.write_text(json.dumps(value))
    assert "pairs_in_training.never.en: the record says nothing, counted are 1 of 2" in [
        row[2] for row in failed(release)
    ]


def test_shards_or_items_that_are_not_the_recorded_ones_are_not_counted(make_run: Callable[..., Path]) -> None:
    release = make_run(Planted())
    for changed in ("shards-00000000/web/shard-00000.bin", "evaluate-00000000/items/pretrain/mine.jsonl"):
        path = release.parent / changed
        kept = path.read_bytes()
        path.write_bytes(kept.replace(b"goat", b"hens") if b"goat" in kept else kept[:-2] + b"\0\0")
        (found,) = training(release).values()
        assert (found.verdict, found.severity) == ("could not be checked", "error")
        assert path.name in found.evidence
        path.write_bytes(kept)


@pytest.mark.parametrize("gone", ["shards-00000000", "evaluate-00000000", "release-00000000/records/shards.json"])
def test_away_from_its_run_it_is_a_note_and_no_pass(make_run: Callable[..., Path], gone: str) -> None:
    release = make_run(Planted())
    (release.parent / gone).rename(release.parent.parent / "gone")
    (found,) = training(release).values()
    assert (found.verdict, found.severity) == ("could not be checked", "note")
    assert found.evidence.startswith("not checkable here: ")


def test_nothing_is_claimed_where_no_question_was_looked_for(make_run: Callable[..., Path]) -> None:
    release = make_run(Planted())
    path = release / "records" / "evaluate.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"figures": {}}))
    assert training(release) == {}


@pytest.mark.parametrize("key", ["../../etc/pa", "0" * 63, ""])
def test_a_key_that_is_none_leads_nowhere(make_run: Callable[..., Path], key: str) -> None:
    release = make_run(Planted())
    path = release / "records" / "shards.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": key}))
    (found,) = training(release).values()
    assert (found.verdict, found.severity) == ("could not be checked", "error")
    assert "expected 64 hexadecimal digits" in found.evidence
