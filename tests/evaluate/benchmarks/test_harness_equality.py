"""Equal, item by item, to lm-evaluation-harness's own Hugging Face backend."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")
pytest.importorskip("accelerate", reason="the harness's Hugging Face backend needs it")

from zhen.evaluate.harness.bench import Bench
from zhen.evaluate.harness.model import EngineLM
from zhen.evaluate.harness.own import task_of
from zhen.evaluate.harness.task import parts_of
from zhen.evaluate.items import Item
from zhen.infer.engine import load_engine
from zhen.infer.template import ChatTemplate, load_template
from zhen.tokenizer.chat import CHATML

SIX = ["mmlu", "cmmlu", "arc_challenge@3", "hellaswag", "gsm8k@3", "gaokao"]


def both(
    checkpoint: Path, data: Path, name: str, limit: int, template: ChatTemplate | None = None
) -> tuple[list[Item], list[Item]]:
    from lm_eval.models.huggingface import HFLM

    task = task_of(name)
    theirs = HFLM(pretrained=str(checkpoint), dtype="float32", device="cpu", batch_size=4)
    mine = EngineLM(load_engine(checkpoint, dtype="float32"), template=template)
    ours, its = (
        Bench(task, parts_of(task, data), limit=limit).put_to(model, template is not None) for model in (mine, theirs)
    )
    return ours, its


def assert_equal(ours: list[Item], theirs: list[Item]) -> None:
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert (a.prompts, a.choices, a.prompt_hash, a.greedy) == (b.prompts, b.choices, b.prompt_hash, b.greedy)
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-3)
        assert a.scores == pytest.approx(b.scores, abs=1e-6)
        assert a.output == b.output


@pytest.mark.parametrize("task", SIX)
def test_answers_equal_those_of_the_hugging_face_backend(checkpoint: Path, benchmarks: Path, task: str) -> None:
    assert_equal(*both(checkpoint, benchmarks, task, limit=10))


@pytest.mark.parametrize("task", ["mmlu@2", "cmmlu@2", "hellaswag@1", "gsm8k@1"])
def test_in_a_chat_template_too(checkpoint: Path, benchmarks: Path, tmp_path: Path, task: str) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "chat")
    (folder / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    ours, theirs = both(folder, benchmarks, task, 4, load_template(folder))
    for a, b in zip(ours, theirs, strict=True):
        # the prompt of ours is its turns; the tokens are the same
        assert (a.choices, a.doc_hash, a.greedy) == (b.choices, b.doc_hash, b.greedy)
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-3)
        assert a.output == b.output


@pytest.mark.parametrize("task", ["mmlu", "cmmlu", "arc_challenge", "hellaswag", "gsm8k", "gaokao"])
def test_on_the_real_sets_too(real: Path, shared_data: Path, task: str) -> None:
    assert_equal(*both(real, shared_data / "eval", task, limit=4))
