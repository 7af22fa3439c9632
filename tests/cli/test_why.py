"""`zhen why`: fates of the documents of the small run, against its own pages and what it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from zhen.cli.app import run
from zhen.data.fate import changes, fates
from zhen.errors import ZhenError


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHEN_LAUNCHED", "1")


def rows(folder: Path, what: str) -> list[dict[str, Any]]:
    files = sorted((folder / "data" / what).glob("*.parquet"))
    return [row for path in files for row in pq.read_table(path).to_pylist()]


def test_every_verdict_is_told_as_it_was_made(micro_run: Any) -> None:
    folder = micro_run.folder
    held = {row["id"] for row in rows(folder, "held-out")}
    by_rule = {row["rule"]: row for row in rows(folder, "verdicts")}
    assert len(by_rule) > 3
    for rule, row in by_rule.items():
        told = [fate for fate in fates(folder, row["id"].hex()) if fate.rule == rule]
        expected = ("held out" if row["id"] in held else "kept") if rule is None else "dropped"
        assert [fate.verdict for fate in told][:1] == [expected]
        broken = [look.rule for look in told[0].rules if not look.kept]
        assert broken[:1] == ([rule] if rule in {look.rule for look in told[0].rules} else [])


def test_a_copy_is_told_with_the_one_that_is_kept(micro_run: Any) -> None:
    document = next(row for row in rows(micro_run.folder, "verdicts") if row["rule"] == "exact-duplicate")
    (fate,) = fates(micro_run.folder, document["id"].hex())
    assert fate.cluster is not None
    (kept,) = (each for each in fates(micro_run.folder, fate.cluster.kept.id) if each.rule is None)
    assert " ".join(kept.text.split()) == " ".join(fate.text.split())


def test_a_leaked_item_is_named_with_its_share(micro_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    document = next(row for row in rows(micro_run.folder, "verdicts") if row["rule"] == "contamination")
    (fate,) = (each for each in fates(micro_run.folder, document["id"].hex()) if each.rule == "contamination")
    leaks = {leak.item: leak for leak in fate.leaks if leak.words}
    key = (micro_run.folder / "sampleweb" / "key" / "pages.jsonl").read_text("utf-8").splitlines()
    planted = next(page for page in map(json.loads, key) if page["url"] == fate.url)["leaks"]
    assert [leaks[item].share for item in planted] == [1.0] * len(planted)
    assert run(["why", str(micro_run.folder), document["id"].hex()]) == 0
    first = fate.leaks[0]
    assert f"{first.file}, item {first.item}: 1" in " ".join(capsys.readouterr().out.split())


def test_what_was_put_out_of_sight_is_shown(micro_run: Any) -> None:
    written = next(row for row in rows(micro_run.folder, "kept") if "[email]" in row["text"])
    (fate,) = (each for each in fates(micro_run.folder, written["id"].hex()) if each.rule is None)
    before = [line for change in fate.changes for line in change.before if "@" in line]
    after = [line for change in fate.changes for line in change.after if "[email]" in line]
    assert before
    assert after
    assert not any(line in written["text"] for line in before)


def test_changes_are_told_by_lines() -> None:
    assert [(each.before, each.after) for each in changes("a\nb\n\nc", "a\nc")] == [(["b", ""], [])]
    assert [(each.before, each.after) for each in changes("a\nb@c.de", "a\n[email]")] == [(["b@c.de"], ["[email]"])]


def test_an_address_and_an_unambiguous_beginning_find_the_same(micro_run: Any) -> None:
    document = rows(micro_run.folder, "documents")[0]
    assert fates(micro_run.folder, document["url"]) == fates(micro_run.folder, document["id"].hex()[:10])


def test_what_is_not_found_names_the_nearest(micro_run: Any) -> None:
    url = rows(micro_run.folder, "documents")[5]["url"]
    with pytest.raises(ZhenError) as caught:
        fates(micro_run.folder, url[:-1] + "x")
    assert url in (caught.value.hint or "")
    with pytest.raises(ZhenError, match="no document's id begins with"):
        fates(micro_run.folder, "0" * 32)


def test_lost_records_are_told_by_their_file(micro_run: Any) -> None:
    lost = json.loads((micro_run.folder / "data" / "lost.jsonl").read_text().splitlines()[0])
    (fate,) = fates(micro_run.folder, f"{lost['file']}@{lost['offset']}")
    assert (fate.verdict, fate.rule) == ("lost", lost["reason"])


def test_a_run_without_data_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "stages").mkdir()
    assert run(["why", str(tmp_path), "abcdef"]) == 2
    assert "data is not done yet" in capsys.readouterr().err
    assert run(["why", str(tmp_path / "none"), "abcdef"]) == 2
    assert "no such run" in capsys.readouterr().err


def test_json_is_one_object_and_text_names_rule_and_threshold(
    micro_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    document = next(row for row in rows(micro_run.folder, "verdicts") if row["rule"] == "spam-words")
    assert run(["why", str(micro_run.folder), document["id"].hex(), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["documents"]
    assert told["id"] == document["id"].hex()
    assert run(["why", str(micro_run.folder), document["id"].hex()]) == 0
    shown = capsys.readouterr().out
    assert "dropped by spam-words" in shown
    assert "DROPPED" in shown
