"""Dialogues from files: every form, every mistake with its line, real sets."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from zhen.errors import ZhenError
from zhen.tune.readers import Dialogue, read_dialogues

ASKED = [{"role": "user", "content": "Where?"}]
PLAIN = [*ASKED, {"role": "assistant", "content": "There."}]
CALL = {"name": "add", "arguments": {"a": 1}}
CALLED = [
    {"role": "user", "content": "Sum?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "2"},
    {"role": "assistant", "content": "Two."},
]

FORMS = [
    ({"messages": PLAIN}, PLAIN),
    (
        {"messages": [CALLED[0], {"role": "assistant", "content": None, "tool_calls": [
            {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}]}, *CALLED[2:]]},
        CALLED,
    ),
    ({"conversations": [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "There."}]}, PLAIN),
    (
        {"conversations": [
            {"from": "human", "value": "Sum?"}, {"from": "function_call", "value": json.dumps(CALL)},
            {"from": "observation", "value": "2"}, {"from": "gpt", "value": "Two."}], "tools": '[{"name": "add"}]'},
        CALLED,
    ),
    ({"instruction": "Where?", "input": "", "output": "There."}, PLAIN),
    (
        {"instruction": "b", "input": "c", "output": "d", "system": "s", "history": [["x", "y"]]},
        [{"role": "system", "content": "s"}, {"role": "user", "content": "x"}, {"role": "assistant", "content": "y"},
         {"role": "user", "content": "b\nc"}, {"role": "assistant", "content": "d"}],
    ),
    ({"prompt": "Where?", "completion": "There."}, PLAIN),
    ({"prompt": "Human: Where? Assistant:", "chosen": "There."}, PLAIN),
]  # fmt: skip


def read(tmp_path: Path, *records: Any) -> tuple[list[Dialogue], list[ZhenError]]:
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    return read_dialogues(path)


@pytest.mark.parametrize(("record", "turns"), FORMS)
def test_every_form_gives_the_same_turns(tmp_path: Path, record: dict[str, Any], turns: list[Any]) -> None:
    (dialogue,), mistakes = read(tmp_path, record)
    assert (dialogue.turns, dialogue.rejected, mistakes) == (turns, None, [])


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Where?", "chosen": "There.", "rejected": "No."},
        {"prompt": ASKED, "chosen": [PLAIN[1]], "rejected": [{"role": "assistant", "content": "No."}]},
        {"chosen": PLAIN, "rejected": [*ASKED, {"role": "assistant", "content": "No."}]},
        {"instruction": "Where?", "chosen": "There.", "rejected": "No."},
        {
            "conversations": [{"from": "human", "value": "Where?"}],
            "chosen": {"from": "gpt", "value": "There."},
            "rejected": {"from": "gpt", "value": "No."},
        },
    ],
)
def test_every_form_of_a_pair_gives_the_same(tmp_path: Path, record: dict[str, Any]) -> None:
    (dialogue,), _ = read(tmp_path, record)
    assert dialogue.turns == PLAIN
    assert dialogue.rejected == {"role": "assistant", "content": "No."}


FAULTY = [
    (["x"], "a list"),
    ({"text": "x"}, "keys text"),
    ({"messages": []}, "empty"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "robot"),
    ({"messages": [{"role": "user", "content": 3}]}, "the number 3"),
    ({"messages": [*ASKED, *ASKED]}, "turn 2 by the user"),
    ({"messages": ASKED}, "no answer at the end"),
    ({"messages": [*ASKED, {"role": "assistant", "content": " "}]}, "turn 2: an empty answer"),
    ({"messages": [*PLAIN, {"role": "tool", "content": "2"}, PLAIN[1]]}, "turn 3 by the tool"),
    ({"messages": [*ASKED, {"role": "assistant", "tool_calls": [{"name": "a", "arguments": "{"}]}]}, "no JSON"),
    ({"prompt": "x"}, "a prompt alone"),
    ({"chosen": "x", "rejected": "y"}, "chosen without"),
    ({"chosen": PLAIN, "rejected": [{"role": "user", "content": "Who?"}, PLAIN[1]]}, "different questions"),
]


def test_every_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    found, mistakes = read(tmp_path, {"messages": PLAIN}, *(record for record, _ in FAULTY))
    assert len(found) == 1
    assert [error.place for error in mistakes] == [f"line {n}" for n in range(2, len(FAULTY) + 2)]
    for (_, words), error in zip(FAULTY, mistakes, strict=True):
        assert words in error.text()


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"messages": []}\n\n{"messages": [\n')
    with pytest.raises(ZhenError, match="line 3"):
        read_dialogues(path)


def test_a_list_and_a_compressed_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"messages": PLAIN}, {"messages": ASKED}], indent=1))
    found, mistakes = read_dialogues(tmp_path / "a.json")
    assert (len(found), mistakes[0].place) == (1, "record 2")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps({"messages": PLAIN}).encode()))
    assert len(read_dialogues(tmp_path / "a.jsonl.gz")[0]) == 1


@pytest.mark.parametrize(
    ("name", "dialogues", "pairs", "faulty"),
    [
        ("fastchat/dummy_conversation.json", 500, 0, 0),
        ("llama-factory/alpaca_zh_demo.json", 1000, 0, 0),
        ("llama-factory/dpo_en_demo.json", 300, 300, 0),
        ("llama-factory/glaive_toolcall_en_demo.json", 300, 0, 0),
        ("llama-factory/glaive_toolcall_zh_demo.json", 298, 0, 2),
        ("yi_example_dataset/train.jsonl", 2998 - 148, 0, 2),
        ("fastchat/mt_bench_question.jsonl", 0, 0, 80),
    ],
)
def test_published_sets(shared_data: Path, name: str, dialogues: int, pairs: int, faulty: int) -> None:
    found, mistakes = read_dialogues(shared_data / "chat" / name)
    assert (len(found), sum(one.rejected is not None for one in found), len(mistakes)) == (dialogues, pairs, faulty)
    assert not any("Assistant:" in one.turns[0]["content"] for one in found)
