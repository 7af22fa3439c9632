"""The stage `pretrain` on a small bilingual text: what it leaves, that it learns, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from zhen.checkpoint.load import load_model
from zhen.errors import Interrupted, ZhenError
from zhen.formats.metrics import read_metrics
from zhen.model.config import PRESETS
from zhen.train.phases import Phase
from zhen.train.settings import Parallel
from zhen.train.stage import pretrain_inputs
from zhen.train.steps import Steps


@pytest.fixture(scope="module")
def finished(small_run: ModuleType, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(context, figures) of a run that was not disturbed."""
    context = small_run.context_for(inputs, tmp_path_factory.mktemp("finished"))
    return context, small_run.run(context)


def test_two_runs_leave_the_same_bits(small_run: ModuleType, inputs: Path, tmp_path: Path, finished: Any) -> None:
    context = small_run.context_for(inputs, tmp_path)
    small_run.run(context)
    assert small_run.results(context) == small_run.results(finished[0])


def test_two_threads_leave_the_same_bits_twice(small_run: ModuleType, inputs: Path, tmp_path: Path) -> None:
    torch.set_num_threads(2)
    try:
        made = []
        for place in ("a", "b"):
            made.append(small_run.context_for(inputs, tmp_path / place, tokens=6 * 256))
            small_run.run(made[-1])
    finally:
        torch.set_num_threads(1)
    assert small_run.results(made[0]) == small_run.results(made[1])


def test_every_file_is_declared(small_run: ModuleType, finished: Any) -> None:
    context, _ = finished
    kinds = {path: kind for path, (kind, _) in context.outputs.items()}
    small_run.results(context)
    assert kinds["order.json"] == kinds["samples.jsonl"] == kinds["checkpoint/model.safetensors"] == "result"
    assert kinds["metrics.jsonl"] == "log"
    assert {path.split("/")[1] for path in kinds if path.startswith("steps/")} == {
        "step-000000",
        "step-000006",
        "step-000009",
        "step-000012",
    }


def test_it_learns(small_run: ModuleType, inputs: Path, tmp_path: Path) -> None:
    context = small_run.context_for(inputs, tmp_path, tokens=60 * 256, learning_rate=1e-2, checkpoint_every=60)
    figures = small_run.run(context)
    for lang in ("en", "zh"):
        assert figures[f"bits_per_byte.{lang}"].value < figures[f"bits_per_byte_at_start.{lang}"].value / 2


def test_the_last_checkpoint_is_the_last_training_checkpoint(finished: Any) -> None:
    folder = finished[0].folder
    from zhen.train.steps import opened

    weights = load_model(folder / "checkpoint").state_dict()
    trained = opened(folder / "steps" / "step-000012").tensors
    assert all(torch.equal(value, trained[f"model.{name}"].bfloat16()) for name, value in weights.items())


def test_checkpoints_claim_the_trained_length_and_the_tokenizers_vocabulary(finished: Any) -> None:
    for name in ("checkpoint-0", "checkpoint"):
        config = load_model(finished[0].folder / name).config
        assert (config.max_position_embeddings, config.vocab_size) == (32, 380)
        assert (config.bos_token_id, config.eos_token_id) == (1, 2)


def test_metrics_hold_a_row_an_update_and_the_held_out_losses(finished: Any) -> None:
    rows = list(read_metrics(finished[0].folder / "metrics.jsonl"))
    train = [row for row in rows if row["kind"] == "train"]
    assert [row["step"] for row in train] == list(range(1, 13))
    assert [row["tokens"] for row in train] == list(range(256, 13 * 256, 256))
    assert [row["step"] for row in rows if row["kind"] == "held-out"] == [0, 4, 8, 12]
    assert {"loss", "learning_rate", "gradient_norm", "tokens_per_second", "mfu"} <= train[0].keys()


def test_tensorboard_reads_the_event_files(finished: Any) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished[0].folder / "tensorboard"))
    events.Reload()
    rows = [r for r in read_metrics(finished[0].folder / "metrics.jsonl") if r["kind"] == "train"]
    assert [e.value for e in events.Scalars("train/loss")] == pytest.approx([row["loss"] for row in rows])


def test_samples_are_taken_at_five_moments_in_each_language(finished: Any) -> None:
    rows = [json.loads(line) for line in (finished[0].folder / "samples.jsonl").read_text("utf-8").splitlines()]
    assert sorted({(row["step"], row["lang"]) for row in rows}) == [
        (s, x) for s in (0, 3, 6, 9, 12) for x in ("en", "zh")
    ]
    assert all(row["prompt"] and not row["prompt"][-1].isspace() for row in rows)


def test_the_line_shows_loss_bits_rate_and_utilisation(finished: Any) -> None:
    done, facts = finished[0].line.events[-1]
    assert done == 12
    assert all(part in facts for part in ("loss", "en ", "zh ", "bits/byte", "tokens/s", "MFU"))


def test_figures_name_what_may_be_quoted(finished: Any) -> None:
    figures = finished[1]
    assert figures["tokens"].value == 12 * 256
    assert finished[0].summary.startswith("0.04 M parameters on 3,072 tokens; held-out bits a byte: en ")
    assert figures["parameters"].value == sum(
        p.numel() for p in load_model(finished[0].folder / "checkpoint").parameters()
    )
    assert {"train_loss", "tokens_per_second", "mfu", "peak_flops", "seconds_per_step", "bits_per_byte.en"} <= set(
        figures
    )


def test_a_stop_saves_and_the_next_call_goes_on(
    small_run: ModuleType, inputs: Path, tmp_path: Path, finished: Any
) -> None:
    line = small_run.Line()
    stopped = small_run.context_for(inputs, tmp_path, line=line, stop=lambda: len(line.events) > 10)
    with pytest.raises(Interrupted):
        small_run.run(stopped)
    context = small_run.context_for(inputs, tmp_path)
    small_run.run(context)
    assert context.line.events[0][0] == line.events[-1][0] == 10
    assert [event.kind for event in context.events if event.kind not in ("repeated", "host")] == ["resumed"]
    assert small_run.results(context) == small_run.results(finished[0])


def test_a_stop_where_the_recipe_saves_writes_one_checkpoint(
    small_run: ModuleType, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    save = Steps.save
    monkeypatch.setattr(Steps, "save", lambda steps, step, *rest: (written.append(step), save(steps, step, *rest)))
    line = small_run.Line()
    with pytest.raises(Interrupted):
        small_run.run(small_run.context_for(inputs, tmp_path, line=line, stop=lambda: len(line.events) > 3))
    assert written == [0, 3]


def test_a_damaged_checkpoint_is_said_and_trained_again(
    small_run: ModuleType, inputs: Path, tmp_path: Path, finished: Any
) -> None:
    small_run.run(small_run.context_for(inputs, tmp_path))
    path = tmp_path / "steps" / "step-000012" / "rank-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    context = small_run.context_for(inputs, tmp_path)
    small_run.run(context)
    assert "step-000012 is damaged" in context.line.notes[0]
    assert [e.data for e in context.events if e.kind == "resumed"] == [{"step": 9}]
    assert small_run.results(context) == small_run.results(finished[0])


def test_it_goes_on_from_a_checkpoint_for_people(
    small_run: ModuleType, inputs: Path, tmp_path: Path, finished: Any
) -> None:
    init = finished[0].folder / "checkpoint"
    model = load_model(init).config
    context = small_run.context_for(inputs, tmp_path, init=str(init), model=model, checkpoint_dtype="float32")
    small_run.run(context)
    started, given = (load_model(f, torch.float32).state_dict() for f in (tmp_path / "checkpoint-0", init))
    assert all(torch.equal(started[name], given[name]) for name in given)


@pytest.mark.parametrize(("positions", "trained", "claimed"), [(4_096, 16, 32), (24, 16, 24), (4_096, 64, 64)])
def test_of_the_length_of_init_no_more_is_claimed_than_it_was_trained_for(
    small_run: ModuleType, inputs: Path, tmp_path: Path, finished: Any, positions: int, trained: int, claimed: int
) -> None:
    init = finished[0].folder / "checkpoint"  # trained at 32 tokens
    model = msgspec.structs.replace(load_model(init).config, max_position_embeddings=positions)
    how = {"sequence_length": trained, "tokens": 256, "warmup_steps": 0}
    small_run.run(small_run.context_for(inputs, tmp_path, init=str(init), model=model, **how))
    config = json.loads((tmp_path / "checkpoint" / "config.json").read_bytes())
    assert config["max_position_embeddings"] == claimed


def test_the_files_of_init_are_inputs(finished: Any, tmp_path: Path) -> None:
    found = pretrain_inputs({"model.init": str(finished[0].folder / "checkpoint")})
    assert [item.path for item in found] == ["config.json", "model.safetensors"]
    assert all(item.sha256 for item in found)
    assert pretrain_inputs({"model.init": None}) == []
    checkpoint = finished[0].folder / "checkpoint"
    state = load_file(checkpoint / "model.safetensors")
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    torch.save(state, tmp_path / "pytorch_model.bin")
    before = pretrain_inputs({"model.init": str(tmp_path)})
    torch.save({name: tensor + 1 for name, tensor in state.items()}, tmp_path / "pytorch_model.bin")
    after = pretrain_inputs({"model.init": str(tmp_path)})
    assert [each.path for each in before] == [each.path for each in after] == ["config.json", "pytorch_model.bin"]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False]
    with pytest.raises(ZhenError, match='no checkpoint in "nowhere"'):
        pretrain_inputs({"model.init": "nowhere"})


def test_post_norm_leaves_no_checkpoint_for_people(small_run: ModuleType, inputs: Path, tmp_path: Path) -> None:
    model = msgspec.structs.replace(PRESETS["micro"], norm_place="post")
    context = small_run.context_for(inputs, tmp_path, model=model, tokens=256, warmup_steps=0, keep_steps=())
    small_run.run(context)
    assert not [path for path in small_run.results(context) if path.startswith("checkpoint")]


def test_muon_float32_one_piece_runs_too(small_run: ModuleType, inputs: Path, tmp_path: Path) -> None:
    context = small_run.context_for(inputs, tmp_path, optimizer="muon", dtype="float32", micro_batch=None)
    figures = small_run.run(context)
    for lang in ("en", "zh"):
        assert figures[f"bits_per_byte.{lang}"].value < figures[f"bits_per_byte_at_start.{lang}"].value


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sequence_length": 256}, "sequence_length 256; expected at most the model's max_position_embeddings, 128"),
        (
            {"model": msgspec.structs.replace(PRESETS["micro"], vocab_size=100)},
            "vocab_size 100; expected at least.*380",
        ),
        ({"mixture": {"en": 0.5, "zhh": 0.5}}, 'unknown source "zhh"'),
        ({"max_epochs": 1.0}, "expected at most max_epochs = 1"),
        (
            {"parallel": Parallel(tensor=2)},
            "pretrain.parallel: a mesh of data 1 · context 1 · tensor 2 processes; expected 1 in all",
        ),
    ],
)
def test_what_can_not_be_is_refused(
    small_run: ModuleType, inputs: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ZhenError, match=said):
        small_run.run(small_run.context_for(inputs, tmp_path, **changes))


def test_a_capped_source_is_said_with_planned_and_actual(small_run: ModuleType, inputs: Path, tmp_path: Path) -> None:
    context = small_run.context_for(inputs, tmp_path, mixture={"en": 0.1, "zh": 0.9}, max_epochs=2.0)
    small_run.run(context)
    zh = json.loads((tmp_path / "order.json").read_text("utf-8"))["sources"]["zh"]
    assert zh["actual_tokens"] == 2 * zh["sequences"] * 32 < zh["planned_tokens"]
    assert 'source "zh" gives' in context.line.notes[0]


def test_phases_have_their_mixtures_and_a_stop_between_them_changes_nothing(
    small_run: ModuleType, inputs: Path, tmp_path: Path
) -> None:
    phases = (Phase(share=0.5, mixture={"en": 1.0}), Phase(share=0.5, mixture={"en": 0.25, "zh": 0.75}))
    whole = small_run.context_for(inputs, tmp_path / "whole", phases=phases)
    small_run.run(whole)
    order = json.loads((whole.folder / "order.json").read_bytes())
    half = 6 * 256
    assert order["phases"] == [{"en": half, "zh": 0}, {"en": half // 4, "zh": half // 4 * 3}]
    assert order["sequences"] == 2 * half // 32
    asked = iter(range(1000))
    stopped = small_run.context_for(inputs, tmp_path / "stopped", phases=phases, stop=lambda: next(asked) >= 7)
    with pytest.raises(Interrupted):
        small_run.run(stopped)
    again = small_run.context_for(inputs, tmp_path / "stopped", phases=phases)
    small_run.run(again)
    assert small_run.results(again) == small_run.results(whole)
