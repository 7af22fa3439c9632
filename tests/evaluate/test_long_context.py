"""Long context: models with known answers, lengths kept, texts of one's own, losses beside transformers' own."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from zhen.errors import ZhenError
from zhen.evaluate.longcontext.grid import A_CELL, DEPTHS, Grid
from zhen.evaluate.longcontext.needles import WORDINGS, Hiding, Place
from zhen.evaluate.longcontext.pictures import long_context
from zhen.evaluate.longcontext.positions import ENOUGH, Positions, bins
from zhen.evaluate.longcontext.texts import Texts, held_out_texts, texts_in
from zhen.evaluate.stage import evaluate
from zhen.formats.stage import Context
from zhen.infer.engine import load_engine
from zhen.infer.requests import Completion, Request, Score
from zhen.pages.page import html_page
from zhen.pages.parts import Section
from zhen.tokenizer.load import Tokenizer, load_tokenizer

SUFFIX = 8
"""Tokens that must have stood before for the copier to go on as then."""


class Copier:
    """A model that goes on as the text did behind the same tokens, as many as possible and SUFFIX at least, of the last
    `sight` tokens that it sees. Where nothing like them stood before, all tokens are equally likely."""

    def __init__(self, tokenizer: Tokenizer, sight: int = 1 << 30) -> None:
        self.tokenizer, self.sight = tokenizer, sight
        self.batch, self.context_length, self.longest = 16, 64, 64

    def next(self, ids: Sequence[int]) -> int | None:
        seen = "".join(map(chr, ids[-self.sight :]))
        found, length = None, SUFFIX
        while length < len(seen) and (at := seen.rfind(seen[-length:], 0, -1)) >= 0:
            found, length = ord(seen[at + length]), length + 1
        return found

    def score(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Score]:
        found = []
        for context, continuation in pairs:
            ids, logs = list(context), []
            for token in continuation:
                logs.append({None: -5.0, token: -0.01}.get(self.next(ids), -9.0))
                ids.append(token)
            none = np.zeros(len(logs))
            found.append(Score(np.array(logs), np.ones(len(logs), np.int64), none, none))
        return found

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        found = []
        for request in requests:
            ids = list(request.prompt)
            while len(ids) < len(request.prompt) + request.max_tokens and (token := self.next(ids)) is not None:
                ids.append(token)
            text = self.tokenizer.decode(ids[len(request.prompt) :]).partition("\n")[0]
            found.append(Completion([], text, "length", [], []))
        return found


@pytest.fixture(scope="module")
def tokenizer(run: Path) -> Tokenizer:
    return load_tokenizer(run / "tokenizer")


@pytest.fixture(scope="module")
def texts(run: Path, tokenizer: Tokenizer) -> list[Texts]:
    return held_out_texts(run / "shards", tokenizer)


@pytest.mark.parametrize("task", ["passkey", "needles"])
def test_a_model_that_copies_is_always_right(task: str, texts: list[Texts], tokenizer: Tokenizer) -> None:
    grid = Grid(task, texts, [300, 400], limit=20)
    items = grid.put_to(Copier(tokenizer))
    assert len(items) == 20
    assert all(item.scores == {"choice": 1.0, "exact": 1.0} for item in items)
    assert {(row["lang"], row["tokens"], row["choice"]) for row in grid.more(items)["grid"]} == {
        (lang, length, 1.0) for lang in ("en", "zh") for length in (300, 400)
    }


def test_a_model_that_sees_so_far_is_at_chance_beyond(texts: list[Texts], tokenizer: Tokenizer) -> None:
    sight = 250
    items = Grid("passkey", texts, [500], limit=20).put_to(Copier(tokenizer, sight))
    beyond = 0
    for item in items:
        (prompt,) = item.prompts
        told = prompt.rfind("\n", 0, prompt.index(item.target)) + 1
        distance = len(tokenizer.encode(prompt[told:]))
        if distance + len(item.target) <= sight:
            assert item.scores == {"choice": 1.0, "exact": 1.0}
        if distance - len(tokenizer.encode(item.target)) > sight:
            beyond += 1
            assert item.scores == {"choice": pytest.approx(item.chance), "exact": 0.0}
    assert 5 <= beyond <= 15


def test_a_model_without_any_memory_is_at_chance_everywhere(texts: list[Texts], tokenizer: Tokenizer) -> None:
    grid = Grid("needles", texts, [400], limit=20)
    rows = grid.more(grid.put_to(Copier(tokenizer, sight=SUFFIX)))["grid"]
    assert all(row["choice"] == pytest.approx(0.1) and row["exact"] == 0 for row in rows)


@pytest.mark.parametrize("lang", sorted(WORDINGS))
@pytest.mark.parametrize("depth", DEPTHS)
def test_prompts_fill_their_length_and_hide_the_key_at_its_depth(
    lang: str, depth: int, texts: list[Texts], tokenizer: Tokenizer
) -> None:
    hiding = Hiding({each.lang: each for each in texts}, tokenizer, 4, seed=1, reserved=5, begun=True)
    prompt = hiding.prompt(Place(lang, 600, depth, 0))
    ids = tokenizer.encode(prompt.text + prompt.blank + prompt.key)
    assert 600 - 600 // 64 - 1 <= len(ids) + 5 <= 600
    assert prompt.text.count(prompt.key) == 1
    # the other keys are among the choices, so that any key in the text will not do
    others = [key for key in prompt.choices if key != prompt.key and key in prompt.text]
    assert len(others) == 3
    assert len(set(prompt.choices)) == 10
    # of what is told and asked, some tokens are no text to hide in
    assert prompt.text.index(prompt.key) / len(prompt.text) == pytest.approx(depth / 100, abs=0.3)


@pytest.mark.parametrize("lang", sorted(WORDINGS))
def test_what_is_hidden_are_the_only_keys_in_the_text(lang: str, tokenizer: Tokenizer) -> None:
    wording = WORDINGS[lang]
    other = {"en": "The mark of the old cart is 54321, said she. ", "zh": "旧推车的记号是54321。"}[lang]
    prose = {"en": "It rained on all 365 days of the year. ", "zh": "那一年365天都下雨。"}[lang]
    planted = [wording.told.format(name=name, key=12345) + "\n" + other + prose for name in wording.names]
    texts = {lang: Texts(lang, ["\n".join(planted), other], {})}
    for number in range(4):
        prompt = Hiding(texts, tokenizer, 2, seed=1, reserved=5, begun=True).prompt(Place(lang, 900, 50, number))
        found = re.findall(r"\d{5,}", prompt.text)
        assert len(found) == 2
        assert prompt.key in found
        assert {"12345", "54321"}.isdisjoint(found)
        assert prompt.text.count("365") > 5
    with pytest.raises(ZhenError, match="no sentence without a number"):
        Hiding({lang: Texts(lang, [other], {})}, tokenizer, 2, seed=1, reserved=5, begun=True).prompt(prompt.place)


def test_a_seed_decides_keys_and_texts(texts: list[Texts], tokenizer: Tokenizer) -> None:
    def targets(seed: int) -> list[str]:
        items = Grid("passkey", texts, [200], limit=10, seed=seed).put_to(Copier(tokenizer))
        return [item.target for item in items]

    assert targets(1) == targets(1)
    assert len(set(targets(1)) | set(targets(2))) == 20


def test_a_length_without_room_is_refused(texts: list[Texts], tokenizer: Tokenizer) -> None:
    with pytest.raises(ZhenError, match="no room for 4 keys"):
        Grid("needles", texts, [40]).put_to(Copier(tokenizer))


def test_other_languages_have_no_grid(tokenizer: Tokenizer) -> None:
    with pytest.raises(ZhenError, match="texts in de"):
        Grid("passkey", [Texts("de", ["Ein Text."], {})], [400]).put_to(Copier(tokenizer))


def test_texts_of_ones_own_are_read_by_language(tmp_path: Path) -> None:
    import zstandard

    folder = tmp_path / "long-text"
    (folder / "en" / "books").mkdir(parents=True)
    (folder / "zh").mkdir()
    (folder / "en" / "books" / "a.txt").write_text("\ufeffOne book.", encoding="utf-8")
    lines = "".join(json.dumps({"text": text}) + "\n" for text in ("Two.", "", "Three."))
    (folder / "en" / "b.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
    (folder / "zh" / "c.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": "四。"}).encode()))
    (folder / "zh" / "notes.md").write_text("left alone")
    found = texts_in(folder)
    assert [(each.lang, each.documents) for each in found] == [
        ("en", ["Two.", "Three.", "One book."]),
        ("zh", ["四。"]),
    ]
    assert list(found[1].files) == ["long-text/zh/c.jsonl.gz"]


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"title": "y"}\n', "line 2"),
        ("a.jsonl", b"\xff\n", "line 1"),
        ("a.jsonl.zst", b"no stream", None),
        ("a.jsonl.gz", gzip.compress(b"x" * 99)[:-9], None),
    ],
)
def test_damaged_texts_are_named(tmp_path: Path, name: str, content: bytes, place: str | None) -> None:
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / name).write_bytes(content)
    with pytest.raises(ZhenError) as caught:
        texts_in(tmp_path)
    assert (Path(str(caught.value.file)).name, caught.value.place) == (name, place)


def test_bins_hold_each_position_once() -> None:
    for length in (1, 2, 32, 100, 2048):
        assert [at for first, last in bins(length) for at in range(first, last + 1)] == list(range(1, length + 1))
    assert bins(16) == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (7, 8), (9, 12), (13, 16)]


@pytest.mark.parametrize("length", [32, 96])
def test_losses_by_position_are_those_of_transformers(run: Path, texts: list[Texts], length: int) -> None:
    # the model was made for 32 tokens: beyond, both read on
    folder = run / "pretrain" / "checkpoint"
    engine = load_engine(folder, dtype="float32")
    joined = [Texts(each.lang, ["".join(each.documents[at:]) for at in range(5)], {}) for each in texts]
    items = Positions(joined, [length], limit=10).put_to(engine)
    assert [item.part for item in items] == ["en"] * 5 + ["zh"] * 5
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = engine.tokenizer
    for texts_of, lang in zip(joined, ("en", "zh"), strict=True):
        for item, text in zip([item for item in items if item.part == lang], texts_of.documents, strict=True):
            ids = torch.tensor([[tokenizer.end_of_text, *tokenizer.encode(text)[:length]]])
            with torch.no_grad():
                logits = model(ids[:, :-1]).logits[0]
            losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
            theirs = [-float(losses[first - 1 : last].mean()) for first, last in bins(length)]
            assert item.logprobs == pytest.approx(theirs, abs=1e-4)
            assert item.scores["nats"] == pytest.approx(float(losses.mean()), abs=1e-4)
    assert engine.context_length == engine.longest == 32


def test_without_long_documents_there_is_no_loss_by_position(run: Path, texts: list[Texts]) -> None:
    engine = load_engine(run / "pretrain" / "checkpoint")
    few = [Texts("en", ["A short text."] * 99 + ["word " * 400] * (ENOUGH - 1), {})]
    with pytest.raises(ZhenError, match="fewer than 5 documents of 200 tokens"):
        Positions(few, [200]).put_to(engine)


@pytest.mark.parametrize(
    ("task", "lengths", "wrong"),
    [
        ("passkey", [32, 160], "32 tokens have no room"),
        ("loss-by-position", [240], "fewer than 5 documents of 240 tokens"),
        ("passkey", [160, 32], "lengths 160, 32"),
        ("passkey", [8], "lengths 8"),
        ("passkey", [64, 10**19], "lengths 64, 1"),
    ],
)
def test_a_run_refuses_lengths_that_cannot_be(
    context: Callable[..., Context], task: str, lengths: list[int], wrong: str
) -> None:
    with pytest.raises(ZhenError, match=wrong):
        evaluate(context(tasks=[task], lengths=lengths, limit=20))


def test_results_are_the_same_after_a_kill(context: Callable[..., Context]) -> None:
    def make(folder: str, **more: Any) -> Context:
        return context(folder, tasks=["passkey"], of=["pretrain:0", "pretrain"], lengths=[160], limit=20, **more)

    whole = make("whole")
    figures = evaluate(whole)
    results = json.loads((whole.folder / "results.json").read_bytes())
    grid = results["long-context"]["pretrain"]["passkey"]["grid"]
    assert {(row["lang"], row["depth"]) for row in grid} == {(at, to) for at in ("en", "zh") for to in (*DEPTHS, None)}
    assert figures["long_context.passkey.zh.160.choice"].n == 10
    items = [json.loads(line) for line in (whole.folder / "items/pretrain/passkey.jsonl").read_text().splitlines()]
    zh = [item["scores"]["choice"] for item in items if item["part"].startswith("zh")]
    assert figures["long_context.passkey.zh.160.choice"].value == pytest.approx(sum(zh) / 10, abs=1e-6)
    line = type(whole.line)(kill_at=len(whole.line.updates))
    with pytest.raises(line.Killed):
        evaluate(make("killed", line=line))
    again = make("killed")
    evaluate(again)
    for path in sorted(whole.folder.rglob("*.json*")):
        if path.name != "timings.json":
            assert path.read_bytes() == (again.folder / path.relative_to(whole.folder)).read_bytes()


def test_a_run_has_losses_by_position(context: Callable[..., Context]) -> None:
    stage = context(tasks=["loss-by-position"], lengths=[40], limit=20)
    figures = evaluate(stage)
    row = json.loads((stage.folder / "results.json").read_bytes())["long-context"]["pretrain"]["loss-by-position"]
    for lang in {each["lang"] for each in row["positions"]}:
        rows = [each for each in row["positions"] if each["lang"] == lang]
        assert (rows[0]["first"], rows[-1]["last"]) == (1, 40)
        whole = sum(each["score"] * (each["last"] - each["first"] + 1) for each in rows) / 40
        assert figures[f"long_context.loss-by-position.{lang}"].value == pytest.approx(whole, abs=1e-5)


def test_pictures_show_every_cell(texts: list[Texts], tokenizer: Tokenizer) -> None:
    grid = Grid("passkey", texts, [300, 400])
    assert grid.total == 2 * 2 * len(DEPTHS) * A_CELL
    items = Grid("passkey", texts, [300, 400], limit=20).put_to(Copier(tokenizer, sight=200))
    row = Grid("passkey", texts, [300, 400], limit=20).more(items)
    losses = {"positions": [{"lang": "en", "first": 1, "last": 1, "score": 3.5, "stderr": 0.1, "n": 5}] * 2}
    page = html_page("t", [], [Section("s", list(long_context({"m": {"passkey": row, "loss-by-position": losses}})))])
    # two languages, two metrics, ten cells each, and the labels of five rows and two columns
    assert page.count("<rect x=") >= 40
    assert ">300<" in page
    assert ">50<" in page
    assert "nats per token" in page
