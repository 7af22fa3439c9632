"""Benchmark items are found word for word, however they are wrapped; rewordings are reported; others are not."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import data_run
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhen.data import benchmarks
from zhen.data.benchmarks import File, Item
from zhen.data.contamination import Index, too_short
from zhen.data.settings import ContaminationSettings, RulesSettings, Source
from zhen.errors import ZhenError
from zhen.formats.ngrams import runs, tokens

LONG = (
    "Anna has twelve red apples in her basket and gives three of them to each of her two brothers before lunch. "
    "How many apples does she still have when they sit down to eat?"
)
ITEMS = [
    Item("f", "long", LONG, "six"),
    Item("f", "short", "What pet does Lulen Gela have?", "tortoise"),
    Item("f", "zh", "拉尼·比约养了什么宠物？", "乌龟"),
    Item("f", "tiny", "Why?", "no"),
]
AROUND = "The market opens at nine. {} After that everybody goes home, as on every other day of the week."


def shares(text: str) -> dict[str, float]:
    column = Index(ITEMS).measure([AROUND, text])[3].to_pylist()
    assert column[0] == []
    return {ITEMS[each["item"]].name: each["share"] for each in column[1] if each["words"]}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (LONG + " six", "long"),
        (LONG.upper().replace(" ", "\n  ") + "\n-- SIX", "long"),
        ("Question: What pet does Lulen Gela have?\nAnswer: tortoise", "short"),
        ("Q. WHAT PET does  “Lulen Gela” have -- A: a Tortoise", "short"),
        ("问：拉尼·比约养了什么宠物？\n答：乌龟", "zh"),
        ("拉尼比约养了什么宠物呢，乌龟", "zh"),
    ],
)
def test_items_are_found_word_for_word_however_they_are_wrapped(text: str, name: str) -> None:
    assert shares(AROUND.format(text)) == {name: 1.0}


def test_a_long_item_counts_by_the_words_that_the_document_has() -> None:
    words = LONG.split()
    found = shares(AROUND.format(" ".join(words[:20])))
    assert found["long"] == pytest.approx(20 / (len(words) + 1), abs=1e-4)
    assert shares(AROUND.format(" ".join(words[:12]))) == {}


@pytest.mark.parametrize(
    "text", ["What pet does Lulen Gela have?", "What pet does Deno Lano have? tortoise", "Why? no"]
)
def test_a_short_item_counts_only_as_a_whole(text: str) -> None:
    assert shares(AROUND.format(text)) == {}


def test_items_too_short_to_tell_are_told() -> None:
    assert too_short(ITEMS) == [3]


def test_a_rewording_is_reported_and_not_taken_for_the_item() -> None:
    filler = [
        Item("f", str(number), f"Where does person number {number} live in spring?", "here") for number in range(50)
    ]
    text = AROUND.format("Someone asked which pet Lulen Gela might have, and was told: a tortoise.")
    contaminated, _, reworded, _ = Index([*ITEMS, *filler]).measure([text, AROUND])
    assert contaminated.to_pylist() == [0.0, 0.0]
    assert reworded.to_pylist()[0] > 0.7
    assert reworded.to_pylist()[1] == 0.0


@given(st.lists(st.text(alphabet="aB c,一二\n1é", max_size=30), max_size=6), st.integers(1, 5))
def test_runs_are_equal_where_the_words_are(texts: list[str], size: int) -> None:
    found = tokens(texts)
    words = []
    for text in texts:
        spaced = "".join(f" {each} " if each in "一二" else each for each in text.lower().replace(",", " "))
        words.append(spaced.split())
    assert np.diff(found.bounds).tolist() == [len(each) for each in words]
    hashes, whole = runs(found, size)
    seen: dict[int, tuple[str, ...]] = {}
    for each, begin in zip(words, found.bounds[:-1], strict=True):
        for at in range(len(each)):
            assert whole[begin + at] == (at + size <= len(each))
            if whole[begin + at]:
                run = tuple(each[at : at + size])
                assert seen.setdefault(int(hashes[begin + at]), run) == run
    assert len(set(seen.values())) == len(seen)


def test_layouts_of_benchmark_files_give_the_same_item(tmp_path: Path) -> None:
    row = {"question": "Question: Who sings at night?", "A": "the owl", "B": "the nightingale", "answer": "B"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "b.json").write_text(json.dumps({"name": "x", "examples": [row]}))
    (tmp_path / "c.json.gz").write_bytes(gzip.compress(json.dumps([row]).encode()))
    with (tmp_path / "d.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row)
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "e.parquet")
    files = benchmarks.files([str(tmp_path)], None)
    found = [(item.question, item.answer) for file in files for item in benchmarks.items(file, ())]
    assert found == [("Who sings at night?", "the nightingale")] * 5


def test_columns_say_what_is_asked(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": "one", "y": ["two", "three"], "question": "no"}\n')
    (item,) = benchmarks.items(File("a", str(tmp_path / "a.jsonl")), ("x", "y"))
    assert (item.question, item.answer) == ("one", "two three")


def test_what_is_missing_or_damaged_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{")
    with pytest.raises(ZhenError, match="cannot be read as a benchmark"):
        benchmarks.items(File("a", str(tmp_path / "a.jsonl")), ())
    with pytest.raises(ZhenError, match="there is nothing here"):
        benchmarks.files([str(tmp_path / "none")], None)
    with pytest.raises(ZhenError, match="built-in web"):
        benchmarks.files(["sampleweb/tasks/asked"], None)


def test_leaks_are_left_out_and_written_down(tmp_path: Path) -> None:
    (tmp_path / "bench.jsonl").write_text(json.dumps({"prompt": LONG, "answer": "six"}) + "\n")
    texts = [data_run.english("baker"), data_run.english("smith") + "\n" + LONG + " six", data_run.english("miller")]
    lines = [json.dumps({"text": text, "url": str(number)}) for number, text in enumerate(texts)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    source = (Source(name="s", path=str(tmp_path / "a.jsonl")),)
    settings = ContaminationSettings(against=(str(tmp_path / "bench.jsonl"),))
    data_run.run(source, tmp_path / "run", contamination=settings)
    (path,) = (tmp_path / "run/decide/verdicts").glob("*.parquet")
    rules = pq.read_table(path)["rule"].to_pylist()
    assert rules[1] == "contamination"
    assert rules.count("contamination") == 1
    (row,) = json.loads((tmp_path / "run/decide/contamination.json").read_text())["items"]
    assert (row["verbatim"]["share"], row["verbatim"]["kept"], row["verbatim"]["first"][0]["row"]) == (1.0, 0, 1)


def test_only_listed_licences_are_kept_where_any_are_listed(sources: tuple, tmp_path: Path) -> None:
    data_run.run(sources, tmp_path, rules=RulesSettings(preset="none", licenses=("cc0-1.0",)))
    kept = [row for path in (tmp_path / "write/kept").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert {row["license"] for row in kept} == {"CC0-1.0"}
    funnel = json.loads((tmp_path / "decide/funnel.json").read_text())["rows"]
    assert {row["source"] for row in funnel if row["rule"] == "licence"} == {"lines", "files"}


def test_benchmarks_of_all_kinds_are_read(shared_data: Path) -> None:
    files = benchmarks.files([str(shared_data / "eval")], None)
    counts = {file.name: len(benchmarks.items(file, ())) for file in files}
    assert counts["eval/humaneval/HumanEval.jsonl.gz"] == 164
    assert counts["eval/lambada/test.jsonl"] == 2577
    assert all(counts.values())
