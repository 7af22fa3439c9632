"""The three passes as a whole: verdicts of planted documents, the same bytes however they were come by, losses."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import data_run
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhen.data import stage
from zhen.data.settings import DuplicatesSettings, RulesSettings, Source
from zhen.errors import ZhenError
from zhen.formats.document import SCHEMA, document_id
from zhen.formats.stage import Context

KILLED = -9


def rows(folder: Path) -> list[dict]:
    return [row for path in sorted(folder.glob("unit-*.parquet")) for row in pq.read_table(path).to_pylist()]


def result_files(folder: Path) -> dict[str, bytes]:
    return {path: data for path, data in data_run.results(folder).items() if not path.endswith(".done")}


def test_planted_documents_have_the_fate_they_must(whole: Path) -> None:
    fates = {}
    for document, verdict in zip(rows(whole / "scan/documents"), rows(whole / "decide/verdicts"), strict=True):
        assert document["id"] == verdict["id"] == document_id(document["url"], document["text"])
        fates[document["source"], document["text"][:20]] = verdict["rule"]
    assert fates["lines", data_run.english("baker")[:20]] == "exact-duplicate"
    assert fates["lines", "Too short."] == "length"
    assert fates["lines", "Das ist ein deutscher Satz."[:20]] == "language"
    assert fates["lines", data_run.english("miller")[:20]] == "near-duplicate"
    assert fates["files", data_run.NOTICE[:20]] == "paragraph-duplicate"
    assert len([rule for rule in fates.values() if rule]) == 5


def test_copies_name_the_document_that_is_kept(whole: Path) -> None:
    places = {}
    for path in sorted((whole / "scan/documents").glob("unit-*.parquet")):
        for row, document in enumerate(pq.read_table(path).to_pylist()):
            places[int(path.stem.removeprefix("unit-")) << 32 | row] = document["url"]
    clusters = {}
    for url, verdict in zip(places.values(), rows(whole / "decide/verdicts"), strict=True):
        if verdict["cluster"] is not None:
            clusters[url] = (verdict["rule"], places[verdict["cluster"]])
    assert clusters == {
        "http://a.example/baker": (None, "http://a.example/baker"),
        "http://b.example/2": ("exact-duplicate", "http://a.example/baker"),
        "http://a.example/miller": (None, "http://a.example/miller"),
        "http://b.example/5": ("near-duplicate", "http://a.example/miller"),
    }


def test_a_paragraph_of_many_documents_stays_in_the_first(whole: Path) -> None:
    written = [row["text"] for row in rows(whole / "write/kept") + rows(whole / "write/held-out")]
    assert sum(data_run.NOTICE in text for text in written) == 1
    before = [row["text"] for row in rows(whole / "scan/documents") if "weaver" in row["text"]]
    cut = {text.replace(data_run.NOTICE, "").replace("\n\n\n\n", "\n\n") for text in before}
    assert len(cut & set(written)) == 5


def test_every_kept_document_is_written_once_on_one_side(whole: Path) -> None:
    documents = rows(whole / "scan/documents")
    kept = [row for row, verdict in zip(documents, rows(whole / "decide/verdicts"), strict=True) if verdict["keep"]]
    written = rows(whole / "write/kept") + rows(whole / "write/held-out")
    assert sorted(row["id"] for row in written) == sorted(row["id"] for row in kept)
    assert len({row["text"] for row in written}) == len(written)
    assert {row["lang"] for row in rows(whole / "write/held-out")} == {"en", "zh"} & {row["lang"] for row in kept}
    for path in (whole / "write").rglob("*.parquet"):
        assert pq.read_schema(path).equals(pa.schema(SCHEMA))


def test_pages_carry_their_source(whole: Path) -> None:
    documents = {row["url"]: row for row in rows(whole / "scan/documents")}
    found = documents["http://a.example/baker"]
    assert (found["source"], found["license"], found["lang"]) == ("web", "CC0-1.0", "en")
    assert json.loads(found["meta"]) == {"at": 0, "charset": "utf-8", "extractor": "trafilatura", "file": "a.warc.gz"}


def test_what_was_lost_is_listed(whole: Path) -> None:
    (lost,) = [json.loads(line) for line in (whole / "scan/lost.jsonl").read_text().splitlines()]
    assert (lost["source"], lost["file"], lost["bytes"]) == ("lines", "b.jsonl", len("{ not json"))


def test_the_funnel_adds_up(whole: Path) -> None:
    funnel = json.loads((whole / "decide/funnel.json").read_text())["rows"]
    documents = rows(whole / "scan/documents")
    assert sum(row["documents"] for row in funnel) == len(documents)
    assert sum(row["bytes"] for row in funnel) == sum(len(row["text"].encode()) for row in documents)
    kept = sum(row["documents"] for row in funnel if row["rule"] is None)
    assert kept == sum(verdict["keep"] for verdict in rows(whole / "decide/verdicts"))


def test_the_number_of_workers_changes_no_byte(sources: tuple, whole: Path, tmp_path: Path) -> None:
    data_run.run(sources, tmp_path, workers=1)
    assert data_run.results(tmp_path) == data_run.results(whole)


def test_every_file_left_is_declared_and_each_part_has_a_last_word(sources: tuple, tmp_path: Path) -> None:
    contexts = data_run.run(sources, tmp_path)
    assert contexts["scan"].summary.startswith("24 documents with ")
    assert contexts["decide"].summary.startswith("19 of 24 documents kept; left out: 1 by ")
    assert "held out; zh " in contexts["write"].summary
    for name, context in contexts.items():
        left = set(data_run.results(tmp_path / name))
        assert set(context.outputs) == left
        assert {kind for kind, _ in context.outputs.values()} == {"result"}


def test_a_chain_of_kills_ends_in_the_same_bytes(start: Callable, sources: tuple, whole: Path, tmp_path: Path) -> None:
    asked = {"sources": [msgspec.to_builtins(source) for source in sources], "folder": str(tmp_path)}
    moments = random.Random(3)
    statuses = [start(**asked, die_at=moments.randint(2, 5)).returncode for _ in range(5)]
    assert statuses.count(KILLED) >= 3
    data_run.run(sources, tmp_path)
    assert data_run.results(tmp_path) == data_run.results(whole)


def test_finished_units_are_not_done_again(
    sources: tuple, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_run.run(sources, tmp_path)
    (tmp_path / "scan.done").unlink()
    (tmp_path / "write.done").unlink()
    jobs = []
    monkeypatch.setattr("zhen.data.engine.map_units", lambda function, given, **_: (jobs.append(job) for job in given))
    data_run.run(sources, tmp_path)
    assert jobs == []
    assert data_run.results(tmp_path) == data_run.results(whole)


def test_new_thresholds_need_no_text(sources: tuple, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "signals").symlink_to(whole / "scan" / "signals")
    (tmp_path / "decide").mkdir()
    (tmp_path / "scan" / "benchmarks.json").symlink_to(whole / "scan" / "benchmarks.json")
    sections = {
        "data.rules": RulesSettings(min_characters_en=10_000),
        "data.duplicates": DuplicatesSettings(),
        "data.contamination": data_run.NOTHING,
    }
    after = {"data.scan": tmp_path / "scan"}
    context = Context(tmp_path / "decide", sections, after, data_run.Line(), lambda: False, 1)
    figures = stage.decide(context)
    assert figures["documents_kept"].value == sum(row["lang"] == "zh" for row in rows(whole / "scan/documents"))


def test_the_built_in_web_is_read_where_the_run_made_it(sources: tuple, tmp_path: Path) -> None:
    web = (Source(name="own", path="sampleweb", license="CC0-1.0"),)
    data_run.run(web, tmp_path, sampleweb=Path(sources[0].path))
    assert {row["source"] for row in rows(tmp_path / "write/kept")} == {"own"}


def test_a_file_at_an_address_is_read_and_hashed(serve: Callable[[Path], str], sources: tuple, tmp_path: Path) -> None:
    lines = Path(sources[1].path)
    address = f"{serve(lines.parent)}/{lines.name}"
    contexts = data_run.run((Source(name="far", path=address),), tmp_path / "run")
    item = contexts["scan"].inputs[f"far/{lines.name}"]
    assert (item.bytes, item.sha256) == (lines.stat().st_size, hashlib.sha256(lines.read_bytes()).hexdigest())
    assert len(rows(tmp_path / "run/scan/documents")) == 6


def test_a_source_that_gives_nothing_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "x"}\n{"body": "y"}\n')
    with pytest.raises(ZhenError, match="no 'text'") as caught:
        data_run.run((Source(name="bad", path=str(tmp_path / "a.jsonl")),), tmp_path / "run")
    assert "columns" in caught.value.hint


def test_rules_that_keep_nothing_stop_the_run(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("short")
    with pytest.raises(ZhenError, match="keep no document"):
        data_run.run((Source(name="s", path=str(tmp_path / "a.txt")),), tmp_path / "run")
