"""The stage `evaluate`: what it writes, that a kill changes nothing, and what it refuses."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from zhen.checkpoint.load import load_model
from zhen.errors import Interrupted, ZhenError
from zhen.evaluate.held_out import training_tokens
from zhen.evaluate.settings import EvaluateSettings
from zhen.evaluate.stage import evaluate
from zhen.formats.files import remove_leftovers
from zhen.formats.shard import open_shards
from zhen.formats.stage import Context
from zhen.model.generate import generate
from zhen.tokenizer.load import load_tokenizer

Make = Callable[..., Context]
BOTH = {"of": ["pretrain:0", "pretrain"]}


def results_of(context: Context) -> dict[str, bytes]:
    """The content of every output of kind result."""
    outputs = {path for path, (kind, _) in context.outputs.items() if kind == "result"}
    return {path: (context.folder / path).read_bytes() for path in sorted(outputs)}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_file_is_declared_and_every_document_scored(context: Make) -> None:
    made = context(**BOTH)
    evaluate(made)
    files = {str(path.relative_to(made.folder)) for path in made.folder.rglob("*") if path.is_file()}
    assert files == set(made.outputs)
    assert made.outputs["timings.json"][0] == "log"
    for model in ("pretrain", "pretrain-0", "kneser-ney"):
        items = rows(made.folder / "items" / model / "bits-per-byte.jsonl")
        found = [(item["source"], item["lang"], item["index"]) for item in items]
        wanted = [("books", "en", 5), ("web", "en", 40), ("web", "zh", 40)]
        assert found == [(source, lang, index) for source, lang, count in wanted for index in range(count)]


def test_the_line_counts_up_to_the_total(context: Make) -> None:
    made = context(**BOTH)
    evaluate(made)
    counts = [done for done, _ in made.line.updates]  # type: ignore[attr-defined]
    assert counts == sorted(counts)
    assert made.line.updates[-1] == (5 * 85, 5 * 85)  # type: ignore[attr-defined]


def test_figures_follow_from_the_items(context: Make) -> None:
    made = context(**BOTH)
    figures = evaluate(made)
    bits = {}
    for model in ("pretrain", "kneser-ney"):
        chosen = [item for item in rows(made.folder / f"items/{model}/bits-per-byte.jsonl") if item["lang"] == "en"]
        bits[model] = sum(item["nll"] for item in chosen) / math.log(2) / sum(item["bytes"] for item in chosen)
        figure = figures[f"bits_per_byte.{model}.en"]
        assert figure.value == pytest.approx(bits[model], abs=1e-6)
        assert figure.n == 45
    wanted = 100 * (1 - bits["pretrain"] / bits["kneser-ney"])
    assert figures["margin_over_kneser_ney.en"].value == pytest.approx(wanted, abs=1e-4)
    assert figures["bits_per_byte.xz -9.zh"].stderr is None
    assert "bits_per_byte.pretrain:0.zh" in figures


def test_a_document_scores_as_the_model_says_step_by_step(context: Make, run: Path) -> None:
    made = context()
    evaluate(made)
    model, tokenizer = load_model(run / "pretrain" / "checkpoint"), load_tokenizer(run / "tokenizer")
    items = rows(made.folder / "items/pretrain/bits-per-byte.jsonl")
    samples = rows(made.folder / "items/pretrain/samples.jsonl")
    item = min(items, key=lambda item: item["tokens"])
    shard = run / "shards" / "held-out" / f"{item['source']}.{item['lang']}"
    document = [ids for ids, _ in held_out(shard, tokenizer.sha256)][item["index"]]
    ids = torch.tensor([[tokenizer.end_of_text, *document]])
    with torch.no_grad():
        logs = torch.log_softmax(model(ids)[0].double(), dim=-1)
    wanted = -sum(float(logs[i, token]) for i, token in enumerate(document))
    assert len(document) <= model.config.max_position_embeddings
    assert item["nll"] == pytest.approx(wanted, abs=1e-3)
    assert samples


def held_out(folder: Path, tokenizer: str) -> list[tuple[list[int], int]]:
    return [(ids[:-1].tolist(), size) for shard in open_shards(folder, tokenizer) for ids, size in shard.documents()]


def test_samples_are_the_greedy_continuations_of_held_out_documents(context: Make, run: Path) -> None:
    made = context(tasks=["samples"], sample_prompt_tokens=6, sample_tokens=8)
    assert evaluate(made) == {}
    model, tokenizer = load_model(run / "pretrain" / "checkpoint"), load_tokenizer(run / "tokenizer")
    samples = rows(made.folder / "items/pretrain/samples.jsonl")
    groups = [("books", "en"), ("web", "en"), ("web", "zh")]
    assert [(sample["source"], sample["lang"]) for sample in samples] == [group for group in groups for _ in range(2)]
    for sample in samples:
        folder = run / "shards" / "held-out" / f"{sample['source']}.{sample['lang']}"
        document = held_out(folder, tokenizer.sha256)[sample["index"]][0]
        text = tokenizer.decode(document)
        assert text.startswith(sample["prompt"] + sample["original"])
        assert sample["prompt"] == sample["prompt"].rstrip()
        prompt = tokenizer.encode(sample["prompt"])
        ids = generate(model, [tokenizer.end_of_text, *prompt], 8, {tokenizer.end_of_text})
        assert tokenizer.decode(prompt + ids).rstrip("\ufffd") == (sample["prompt"] + sample["text"]).rstrip("\ufffd")


def test_a_kill_at_any_event_changes_no_result(context: Make) -> None:
    short = {"sample_tokens": 4}
    unkilled = context("unkilled", **short)
    evaluate(unkilled)
    line: Any = type(unkilled.line)
    events = len(unkilled.line.updates)  # type: ignore[attr-defined]
    for kill_at in range(1, events + 1):
        with pytest.raises(line.Killed):
            evaluate(context(f"killed-{kill_at}", line(kill_at), **short))
        again = context(f"killed-{kill_at}", **short)
        remove_leftovers(again.folder)
        evaluate(again)
        assert results_of(again) == results_of(unkilled)


def test_a_chain_of_kills_on_one_folder_changes_no_result(context: Make) -> None:
    short = BOTH | {"sample_tokens": 4}
    unkilled = context("unkilled", **short)
    evaluate(unkilled)
    line: Any = type(unkilled.line)
    for kill_at in (2, 1, 6, 3, 8, 5, 9):
        with pytest.raises(line.Killed):
            evaluate(context("chain", line(kill_at), **short))
    final = context("chain", **short)
    evaluate(final)
    assert results_of(final) == results_of(unkilled)


def test_stops_at_a_safe_point_and_goes_on(context: Make) -> None:
    stopped = context()
    stopped.stop_requested = lambda: len(stopped.line.updates) > 3  # type: ignore[attr-defined]
    with pytest.raises(Interrupted):
        evaluate(stopped)
    again = context()
    evaluate(again)
    fresh = context("fresh")
    evaluate(fresh)
    assert results_of(again) == results_of(fresh)


def test_the_reference_takes_whole_documents_spread_over_each_source(run: Path) -> None:
    tokenizer = load_tokenizer(run / "tokenizer")
    shards = {name: open_shards(run / "shards" / name, tokenizer.sha256) for name in ("books", "web")}
    limit = sum(shard.header.tokens for source in shards.values() for shard in source) * 3 // 4
    taken = training_tokens(run / "shards", tokenizer.sha256, limit)
    expected: list[int] = []
    for shard, mask in taken.shards:
        documents = [ids.tolist() for ids, _ in shard.documents()]
        for half in (slice(0, len(mask) // 2), slice(len(mask) // 2, None)):
            chosen = sum(len(ids) for ids, take in zip(documents[half], mask[half], strict=True) if take)
            assert chosen / sum(map(len, documents[half])) == pytest.approx(0.75, abs=0.25)
        expected += [token for ids, take in zip(documents, mask, strict=True) if take for token in ids]
    assert taken.read().tolist() == expected
    assert limit * 0.8 < taken.taken == len(expected) <= limit


def test_the_reference_takes_everything_below_the_limit(run: Path, context: Make) -> None:
    made = context(tasks=["bits-per-byte"])
    evaluate(made)
    taken = json.loads((made.folder / "results.json").read_text())["kneser-ney"]
    headers = [json.loads(path.read_text()) for path in (run / "shards").glob("*/shard-*.json")]
    assert taken["tokens"] == taken["of_tokens"] == sum(header["tokens"] for header in headers)


def test_missing_things_are_said(context: Make, run: Path, tmp_path: Path) -> None:
    made = context()
    made.after = {name: folder for name, folder in made.after.items() if name != "pretrain"}
    with pytest.raises(ZhenError, match="no model to evaluate"):
        evaluate(made)
    made.after = {**made.after, "pretrain": tmp_path}
    with pytest.raises(ZhenError, match='"pretrain"'):
        evaluate(made)
    (tmp_path / "empty").mkdir()
    made = context()
    made.after = {**made.after, "shards": tmp_path / "empty"}
    with pytest.raises(ZhenError, match="no held-out documents"):
        evaluate(made)


def test_a_stride_longer_than_the_context_is_refused(context: Make) -> None:
    with pytest.raises(ZhenError, match="stride 33; expected 1 to the context length, 32"):
        evaluate(context(stride=33))


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"of": ["pretain"]}, "of"), ({"tasks": ["mlu"]}, "tasks"), ({"tasks": []}, "tasks"),
     ({"of": ["pretrain", "pretrain"]}, "of")],
)  # fmt: skip
def test_impossible_settings_are_named(settings: dict[str, Any], field: str) -> None:
    assert [problem[0] for problem in EvaluateSettings(**settings).problems()] == [field]
    assert not list(EvaluateSettings().problems())


def test_settings_load_nothing_heavy() -> None:
    code = "import sys, zhen.evaluate.settings; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
