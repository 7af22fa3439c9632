"""`zhen chat`: in the recorded form of question, in a chat template, line by line and in a terminal with Ctrl-C."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from zhen.cli.app import run
from zhen.errors import ZhenError
from zhen.infer.conversation import open_conversation, prompt_forms
from zhen.infer.engine import Request, load_engine
from zhen.infer.template import load_template
from zhen.tokenizer.load import load_tokenizer

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def base_folder(micro_run: Any, tmp_path: Path) -> Path:
    """The small release as that of a base model: with records, without a template."""
    folder = tmp_path / "base"
    shutil.copytree(micro_run.folder / "release", folder, ignore=shutil.ignore_patterns("chat_template.jinja"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def chat_folder(micro_run: Any, tmp_path: Path) -> Path:
    """The small release with another template, without records."""
    folder = tmp_path / "chat"
    left_out = shutil.ignore_patterns("records", "chat_template.jinja")
    shutil.copytree(micro_run.folder / "release", folder, ignore=left_out)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": TEMPLATE}))
    return folder


def test_the_release_names_the_form_of_its_questions(micro_run: Any) -> None:
    forms = prompt_forms(micro_run.folder / "release" / "records" / "evaluate.json")
    assert forms == {"en": "Question: {}\nAnswer:", "zh": "问：{}\n答："}


@pytest.mark.parametrize(
    ("question", "prompt"),
    [("Where is Deno?", "Question: Where is Deno?\nAnswer:"), ("Deno住在哪里？", "问：Deno住在哪里？\n答：")],
)
def test_a_question_is_put_in_the_form_of_its_language(base_folder: Path, question: str, prompt: str) -> None:
    engine = load_engine(base_folder)
    conversation = open_conversation(engine, base_folder)
    (expected,) = engine.generate([Request(prompt=engine.tokenizer.encode(prompt), max_tokens=12)])
    said = "".join(conversation.answer(question, 12, 0.0, 0))
    assert said == expected.text.lstrip().partition("\n")[0]
    assert conversation.turns == []


def test_a_template_gives_the_tokens_that_transformers_gives(chat_folder: Path) -> None:
    turns = [
        {"role": "user", "content": "Where is Deno?"},
        {"role": "assistant", "content": "在城里。"},
        {"role": "user", "content": "  Since when?\nSay. "},
    ]
    reference = AutoTokenizer.from_pretrained(chat_folder)
    template = load_template(chat_folder)
    assert template is not None
    expected = reference.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    text = template.encode(turns, load_tokenizer(chat_folder))
    assert reference.decode(text) == reference.decode(expected)
    assert text.count(reference.convert_tokens_to_ids("<|im_start|>")) == 4


def test_what_is_typed_is_never_a_special_token(chat_folder: Path) -> None:
    template, tokenizer = load_template(chat_folder), load_tokenizer(chat_folder)
    assert template is not None
    plain = template.encode([{"role": "user", "content": "x"}], tokenizer)
    typed = template.encode([{"role": "user", "content": "<|im_end|>"}], tokenizer)
    end = AutoTokenizer.from_pretrained(chat_folder).convert_tokens_to_ids("<|im_end|>")
    assert typed.count(end) == plain.count(end)


def test_turns_are_remembered_and_the_oldest_forgotten_when_the_context_is_full(chat_folder: Path) -> None:
    conversation = open_conversation(load_engine(chat_folder), chat_folder)
    for number in range(12):
        said = "".join(conversation.answer(f"number {number}", 8, 0.0, 0))
        assert conversation.turns[-2:] == [
            {"role": "user", "content": f"number {number}"}, {"role": "assistant", "content": said},
        ]  # fmt: skip
    assert conversation.forgotten > 0
    conversation.reset()
    assert conversation.turns == []


@pytest.mark.parametrize(
    "template",
    ["{% for %}", "{{ raise_exception('no system turn') }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}"],
)
def test_a_template_that_fails_or_reaches_out_is_an_error(chat_folder: Path, template: str) -> None:
    (chat_folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ZhenError, match="the chat template fails"):
        open_conversation(load_engine(chat_folder), chat_folder).answer("x", 1, 0.0, 0).send(None)


def test_lines_are_asked_one_after_the_other_and_only_answers_are_printed(
    base_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZHEN_LAUNCHED", "1")
    monkeypatch.setattr(sys, "stdin", io.StringIO("Where is Deno?\n\n/reset\n德诺在哪里？\n/quit\nnever asked\n"))
    assert run(["chat", str(base_folder), "--max-tokens", "5"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 2
    assert captured.err.splitlines()[0].endswith("as in its evaluation, one turn at a time")


def read_until(terminal: int, wanted: str, least: int = 0) -> str:
    """What the terminal shows until it has shown `wanted` and `least` characters."""
    shown = b""
    while wanted.encode() not in shown or len(shown) < least:
        shown += os.read(terminal, 4096)
    return shown.decode("utf-8", "replace")


def test_ctrl_c_stops_a_long_answer_and_the_prompt_is_back(chat_folder: Path) -> None:
    config = json.loads((chat_folder / "config.json").read_text())
    (chat_folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 400_000}))
    (chat_folder / "tokenizer_config.json").unlink()
    long = ["--max-tokens", "300000", "--temperature", "0"]
    process, terminal = pty.fork()
    if not process:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # which what was started in the background by a shell ignores
        os.execve(
            sys.executable,
            [sys.executable, "-m", "zhen", "chat", str(chat_folder), *long],
            os.environ | {"TERM": "dumb", "ZHEN_LAUNCHED": "1"},
        )
    read_until(terminal, "› ")
    for _ in range(2):
        os.write(terminal, b"The town\n")
        read_until(terminal, "The town", 200)
        os.write(terminal, b"\x03")
        assert "(stopped)" in read_until(terminal, "› ")
    os.write(terminal, b"/reset\n")
    assert "forgotten" in read_until(terminal, "› ")
    os.write(terminal, b"\x03\n")  # the key behind it: a signal that comes just as the prompt does waits for one
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    os.close(terminal)
