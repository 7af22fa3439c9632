"""The stage: full, with LoRA, by preferences; killed and gone on; what it refuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import tune_run

from zhen.checkpoint.load import load_model
from zhen.errors import ManyErrors, ZhenError
from zhen.infer.conversation import open_conversation
from zhen.infer.engine import load_engine

KINDS = ("full", "lora", "mixed", "preferences")


@pytest.fixture(scope="module")
def data(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dialogues")
    tune_run.write_dialogues(folder)
    tune_run.write_text(base, folder)
    return folder


@pytest.fixture(scope="module")
def killed(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a kind, in which the tuning was killed at several steps."""
    folder = tmp_path_factory.mktemp("killed")
    attempts = [(str(folder / kind), kind, number) for kind in KINDS for number in (2, 6, 4, 5)]
    command = [sys.executable, tune_run.__file__, str(base), str(data), json.dumps(attempts)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, check=True)
    assert json.loads(done.stdout) == [-9] * len(attempts)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_killed_anywhere_it_ends_in_the_same_bits(
    base: Path, data: Path, killed: Path, tmp_path: Path, kind: str
) -> None:
    contexts = [tune_run.context_for(base, at, tune_run.settings(data, kind)) for at in (tmp_path, killed / kind)]
    figures = [tune_run.run(context) for context in contexts]
    assert tune_run.results(contexts[1]) == tune_run.results(contexts[0])
    assert figures[0]["train_loss"].value < figures[0]["train_loss_at_start"].value
    loaded = load_model(tmp_path / "checkpoint", torch.float32)
    assert loaded.state_dict().keys() == load_model(base).state_dict().keys()


def test_the_result_is_talked_with_in_the_template(base: Path, data: Path, tmp_path: Path) -> None:
    chosen = tune_run.settings(data, "full", steps=60, noise=0.0, checkpoint_every=60)
    tune_run.run(tune_run.context_for(base, tmp_path, chosen))
    folder = tmp_path / "checkpoint"
    conversation = open_conversation(load_engine(folder), folder)
    assert "chat template" in conversation.manner
    said = "".join(conversation.answer("Where is Iwo?", 60, 0.0, 0))
    assert re.fullmatch(r"\w+ is at .*\.", said)


def test_faulty_records_are_refused_or_left_out(base: Path, data: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text('{"prompt": "a"}\n{"prompt": "a", "completion": "b"}\n{"messages": 3}\n')
    chosen = tune_run.settings(data, "full", data=[str(mixed)], steps=1)
    with pytest.raises(ManyErrors, match=r"line 1[^$]*line 3"):
        tune_run.run(tune_run.context_for(base, tmp_path / "a", chosen))
    lenient = tune_run.settings(data, "full", data=[str(mixed)], steps=1, faulty="leave-out")
    figures = tune_run.run(tune_run.context_for(base, tmp_path / "b", lenient))
    assert (figures["dialogues"].value, figures["left_out.faulty"].value) == (1, 2)


def test_what_cannot_be_learnt_from_is_said(base: Path, data: Path, tmp_path: Path) -> None:
    short = tune_run.settings(data, "full", sequence_length=8)
    with pytest.raises(ZhenError, match="12 are too long"):
        tune_run.run(tune_run.context_for(base, tmp_path / "a", short))
    plain = tune_run.settings(data, "preferences", data=[str(data / "plain.jsonl")])
    with pytest.raises(ZhenError, match="12 are no pairs"):
        tune_run.run(tune_run.context_for(base, tmp_path / "b", plain))


@pytest.mark.parametrize("kind", ["full", "preferences"])
@pytest.mark.parametrize(("units", "due"), [(True, "bfloat16"), (False, "float32")])
def test_left_out_the_number_format_is_what_the_machine_is_fast_in(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, units: bool, due: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": units})
    left_out = tune_run.context_for(base, tmp_path / "left-out", tune_run.settings(data, kind))
    named = tune_run.context_for(base, tmp_path / "named", tune_run.settings(data, kind, dtype=due))
    assert [tune_run.run(context)["dtype"].value for context in (left_out, named)] == [due, due]
    made = [tune_run.results(context)["checkpoint/model.safetensors"] for context in (left_out, named)]
    assert made[0] == made[1]
