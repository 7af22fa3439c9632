"""Shards: text comes back, the summary adds up, finished shards are kept after a kill, hostile names are refused."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zhen.errors import Interrupted, ZhenError
from zhen.formats.files import remove_leftovers, sha256_file
from zhen.formats.shard import open_shards
from zhen.formats.stage import Context
from zhen.shards.settings import ShardsSettings
from zhen.shards.stage import tokenize
from zhen.tokenizer.export import export_files
from zhen.tokenizer.learn import learn_model
from zhen.tokenizer.load import load_tokenizer
from zhen.tokenizer.settings import TokenizerSettings

Rows = list[tuple[str, str, str]]
KEPT: Rows = [
    (f"Document {number}: the lake festival.\n" if number % 3 else f"第{number}篇：湖灯节。", source, lang)
    for number in range(900)
    for source, lang in [("web" if number % 5 else "books", "en" if number % 3 else "zh")]
]
HELD_OUT: Rows = [(f"held out {number} 留出", "web", "en" if number % 2 else "zh") for number in range(40)]


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    model = learn_model([text for text, _, _ in KEPT], TokenizerSettings(vocab_size=320, character_coverage=1.0))
    for name, content in export_files(model).items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_documents: Callable[[Path, Rows], None]) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_documents(folder / "kept" / "unit-00000.parquet", KEPT[:600])
    write_documents(folder / "kept" / "unit-00001.parquet", KEPT[600:])
    write_documents(folder / "held-out" / "unit-00000.parquet", HELD_OUT)
    return folder


Make = Callable[..., Context]


@pytest.fixture
def stage(tmp_path: Path, data: Path, tokenizer_folder: Path, make_context: Callable[..., Context]) -> Make:
    """A context of the stage in a folder of that name, with shards of 1,500 tokens."""

    def make(name: str = "shards", **more: Any) -> Context:
        settings = ShardsSettings(tokens_per_shard=more.pop("tokens_per_shard", 1500))
        after = {"data.write": more.pop("data", data), "tokenizer": more.pop("tokenizer", tokenizer_folder)}
        return make_context(tmp_path / name, {"shards": settings}, after, **more)

    return make


def content(context: Context) -> dict[str, str]:
    paths = [path for path in context.folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(context.folder)): sha256_file(path).sha256 for path in paths}


def texts_of(folder: Path, tokenizer_folder: Path) -> list[str]:
    tokenizer = load_tokenizer(tokenizer_folder)
    documents = [ids.tolist() for shard in open_shards(folder, tokenizer.sha256) for ids, _ in shard.documents()]
    assert {ids[-1] for ids in documents} == {tokenizer.end_of_text}
    return [tokenizer.decode(ids[:-1]) for ids in documents]


def test_shards_hold_the_documents_in_order(stage: Make, tokenizer_folder: Path) -> None:
    context = stage()
    tokenize(context)
    for source in ("web", "books"):
        expected = [text for text, name, _ in KEPT if name == source]
        assert texts_of(context.folder / source, tokenizer_folder) == expected
    for lang in ("en", "zh"):
        expected = [text for text, _, name in HELD_OUT if name == lang]
        assert texts_of(context.folder / "held-out" / f"web.{lang}", tokenizer_folder) == expected


def test_shards_are_cut_at_the_document_that_reaches_the_target(stage: Make) -> None:
    context = stage()
    tokenize(context)
    shards = open_shards(context.folder / "web", None)
    assert len(shards) > 4
    for shard in shards[:-1]:
        last = int(shard.ends[-1][0] - shard.ends[-2][0])
        assert 1500 <= shard.header.tokens < 1500 + last
    assert {(shard.header.source, shard.header.lang) for shard in shards} == {("web", None)}
    assert open_shards(context.folder / "held-out" / "web.zh", None)[0].header.lang == "zh"


def test_every_file_is_declared_and_the_summary_adds_up(stage: Make) -> None:
    context = stage()
    figures = tokenize(context)
    assert sorted(context.outputs) == sorted(content(context))
    assert {path: digest.sha256 for path, (_, digest) in context.outputs.items() if digest} == content(context)
    sources = json.loads((context.folder / "shards.json").read_text(encoding="utf-8"))["sources"]
    assert sorted(sources) == ["books", "held-out/web", "web"]
    for source in ("web", "books"):
        texts = [text for text, name, _ in KEPT if name == source]
        assert sources[source]["documents"] == len(texts)
        assert sources[source]["bytes"] == sum(len(text.encode("utf-8")) for text in texts)
        assert sources[source]["tokens"] == sum(s.header.tokens for s in open_shards(context.folder / source, None))
        for key in ("documents", "tokens", "bytes"):
            assert sources[source][key] == sum(part[key] for part in sources[source]["languages"].values())
    assert figures["tokens"].value == sources["web"]["tokens"] + sources["books"]["tokens"]
    assert figures["bytes_per_token.web"].value == pytest.approx(
        sources["web"]["bytes"] / sources["web"]["tokens"], abs=1e-4
    )


def test_workers_change_no_byte(stage: Make) -> None:
    one, three = stage("one", workers=1), stage("three", workers=3)
    tokenize(one)
    tokenize(three)
    assert content(one) == content(three)


KILLED = """
import os, signal, sys
from pathlib import Path
from zhen.formats.stage import Context
from zhen.shards.settings import ShardsSettings
from zhen.shards.stage import tokenize
folder, data, tokenizer, at = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])

class Line:
    count = 0
    def update(self, *_):
        Line.count += 1
        if Line.count == at:
            os.kill(os.getpid(), signal.SIGKILL)

folder.mkdir(exist_ok=True)
after = {"data.write": data, "tokenizer": tokenizer}
tokenize(Context(folder, {"shards": ShardsSettings(tokens_per_shard=1500)}, after, Line(), lambda: False, 1))
"""


def test_killed_again_and_again_it_ends_with_the_same_bytes(stage: Make, data: Path, tokenizer_folder: Path) -> None:
    unkilled, killed = stage("unkilled"), stage("killed")
    tokenize(unkilled)
    updates = len(unkilled.line.updates)
    for at in sorted(random.Random(7).sample(range(2, updates), 4)):
        command = [sys.executable, "-c", KILLED, str(killed.folder), str(data), str(tokenizer_folder), str(at)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        remove_leftovers(killed.folder)
    tokenize(killed)
    assert content(killed) == content(unkilled)
    assert sorted(killed.outputs) == sorted(unkilled.outputs)


def test_finished_shards_are_not_made_again(stage: Make) -> None:
    answers = iter([False] * 3)
    first = stage(stop_requested=lambda: next(answers, True))
    with pytest.raises(Interrupted):
        tokenize(first)
    finished = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.bin")}
    assert finished
    second = stage()
    tokenize(second)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert second.events[0].data["shards"] >= 1
    fresh = stage("fresh")
    tokenize(fresh)
    assert content(second) == content(fresh)


@pytest.mark.parametrize("damage", ["no header", "short tokens", "garbled header", "no index"])
def test_a_damaged_shard_is_made_again(stage: Make, damage: str) -> None:
    context = stage()
    tokenize(context)
    whole = content(context)
    stem = context.folder / "web" / "shard-00001"
    if damage == "short tokens":
        stem.with_suffix(".bin").write_bytes(stem.with_suffix(".bin").read_bytes()[:-2])
    elif damage == "garbled header":
        stem.with_suffix(".json").write_text("{", encoding="utf-8")
    else:
        stem.with_suffix(".json" if damage == "no header" else ".idx").unlink()
    again = stage()
    tokenize(again)
    assert content(again) == whole


def test_shards_of_other_documents_are_refused(
    stage: Make, tmp_path: Path, write_documents: Callable[..., None]
) -> None:
    tokenize(stage())
    write_documents(
        tmp_path / "other" / "kept" / "unit-00000.parquet", [(f"other {text}", *rest) for text, *rest in KEPT]
    )
    with pytest.raises(ZhenError, match="earlier attempt hold a document of"):
        tokenize(stage(data=tmp_path / "other"))
    write_documents(tmp_path / "fewer" / "kept" / "unit-00000.parquet", KEPT[:30])
    with pytest.raises(ZhenError, match="more documents than there are"):
        tokenize(stage(data=tmp_path / "fewer"))


def test_a_shard_of_another_tokenizer_is_refused(stage: Make) -> None:
    context = stage()
    tokenize(context)
    with pytest.raises(ZhenError, match="was made with tokenizer"):
        open_shards(context.folder / "web", "0" * 64)


def test_a_large_vocabulary_takes_four_bytes_a_token(stage: Make, tmp_path: Path, tokenizer_folder: Path) -> None:
    small = stage()
    tokenize(small)
    assert open_shards(small.folder / "web", None)[0].tokens.dtype == np.dtype("<u2")
    large = json.loads((tokenizer_folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = large["model"]["vocab"]
    vocabulary |= {f"filler {index}": index for index in range(len(vocabulary), 70_000)}
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "tokenizer.json").write_text(json.dumps(large), encoding="utf-8")
    context = stage("four", tokenizer=tmp_path / "large")
    tokenize(context)
    assert open_shards(context.folder / "web", None)[0].tokens.dtype == np.dtype("<u4")
    assert texts_of(context.folder / "web", tmp_path / "large") == texts_of(small.folder / "web", tokenizer_folder)


@pytest.mark.parametrize("source", ["../out", "a/b", "", ".hidden", "-x", "a\0b", "held-out", "长" * 99])
def test_a_source_that_cannot_be_a_folder_is_refused(
    stage: Make, tmp_path: Path, write_documents: Callable[..., None], source: str
) -> None:
    write_documents(tmp_path / "bad" / "kept" / "unit-00000.parquet", [("text", source, "en")])
    context = stage(data=tmp_path / "bad")
    with pytest.raises(ZhenError, match="source"):
        tokenize(context)
    assert list(context.folder.iterdir()) == []


def test_nothing_kept_is_an_error_and_nothing_held_out_is_none(
    stage: Make, tmp_path: Path, write_documents: Callable[..., None]
) -> None:
    with pytest.raises(ZhenError, match="no documents were kept"):
        tokenize(stage(data=tmp_path))
    write_documents(tmp_path / "kept" / "unit-00000.parquet", KEPT[:5])
    context = stage(data=tmp_path)
    tokenize(context)
    assert not (context.folder / "held-out").exists()


def test_documents_that_will_not_come_back_whole_are_counted(
    stage: Make, tmp_path: Path, write_documents: Callable[..., None]
) -> None:
    write_documents(tmp_path / "kept" / "unit-00000.parquet", [("a ▁ b", "web", "en"), ("plain", "web", "en")])
    figure = tokenize(stage(data=tmp_path))["documents_not_restored"]
    assert (figure.value, figure.n) == (1, 2)


def test_an_impossible_setting_is_found() -> None:
    assert [problem[0] for problem in ShardsSettings(tokens_per_shard=0).problems()] == ["tokens_per_shard"]
    assert list(ShardsSettings().problems()) == []
