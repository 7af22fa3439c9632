"""Dialogues from files: messages, ShareGPT, Alpaca, prompt and completion, preference pairs, told apart by keys."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhen.errors import ZhenError
from zhen.tokenizer.chat import ROLES

Turn = dict[str, Any]
"""`role`, `content`, and of an assistant perhaps `tool_calls`."""

SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}

_LABELLED = re.compile(r"\A\s*Human:\s*(.*?)\s*Assistant:\s*\Z", re.DOTALL)
"""How the examples that came with Yi write a prompt."""

SUFFIXES = (".jsonl", ".json", ".jsonl.gz")


@dataclass(frozen=True)
class Dialogue:
    """Turns that end with the assistant's. With `rejected`, the last turn is the better answer, that the worse one."""

    turns: list[Turn]
    tools: list[Mapping[str, Any]]
    rejected: Turn | None = None
    lang: str = ""


class _Wrong(Exception):
    """What is wrong with a record, without its place."""

    def __init__(self, found: str, expected: str | None = None) -> None:
        self.found, self.expected = found, expected
        super().__init__(found)


def read_dialogues(path: Path) -> tuple[list[Dialogue], list[ZhenError]]:
    """The dialogues of a file (JSON Lines, or one JSON list), and an error for each record that is none, with its line
    or its place in the list.

    Raises ZhenError for what is no JSON.
    """
    found: list[Dialogue] = []
    mistakes: list[ZhenError] = []
    for place, record in _records(path):
        try:
            found.append(dialogue_of(record))
        except _Wrong as error:
            mistakes.append(ZhenError(error.found, expected=error.expected, file=path, place=place))
    return found, mistakes


def dialogue_of(record: Any) -> Dialogue:
    """A record of any of the forms, checked. Raises _Wrong."""
    if not isinstance(record, dict):
        raise _Wrong(f"a record that is {_kind(record)}", "an object")
    for key, read in _FORMS:
        if key in record:
            turns = read(record)
            break
    else:
        raise _Wrong(
            "keys " + ", ".join(list(map(str, record))[:8]),
            "one of " + ", ".join(key for key, _ in _FORMS) + " among them",
        )
    tools = _tools(record.get("tools"))
    if isinstance(record.get("system"), str) and record["system"] and turns[0]["role"] != "system":
        turns.insert(0, {"role": "system", "content": record["system"]})
    turns, rejected = _pair(record, turns)
    _check(turns)
    lang = record.get("lang")
    return Dialogue(turns, tools, rejected, lang if isinstance(lang, str) else "")


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    """(place, record). Raises ZhenError for what is no JSON."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
        text = content.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ZhenError(f"cannot be read: {error}", file=path) from error
    if text.lstrip().startswith("["):
        whole = _json(text, path, None)
        for number, record in enumerate(whole, start=1):
            yield f"record {number:,}", record
        return
    # not splitlines: a text may hold U+2028 as it is
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number:,}", _json(line, path, number)


def _json(text: str, path: Path, line: int | None) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        at = line or getattr(error, "lineno", 1)
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise ZhenError(f"is no JSON: {reason}", file=path, place=f"line {at:,}") from error


def _messages(record: Mapping[str, Any]) -> list[Turn]:
    return [_turn(each, "role", "content", {role: role for role in ROLES}) for each in _list(record, "messages")]


def _sharegpt(record: Mapping[str, Any]) -> list[Turn]:
    found = _list(record, "conversations")
    if found and isinstance(found[0], dict) and "role" in found[0]:
        return [_turn(each, "role", "content", {role: role for role in ROLES}) for each in found]
    return [_turn(each, "from", "value", SHAREGPT_ROLES) for each in found]


def _alpaca(record: Mapping[str, Any]) -> list[Turn]:
    turns: list[Turn] = []
    for pair in record.get("history") or []:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise _Wrong(f"history {pair!r}", "pairs of a question and its answer")
        turns += _question_and_answer(pair[0], pair[1])
    asked = _text(record, "instruction")
    if isinstance(record.get("input"), str) and record["input"]:
        asked = f"{asked}\n{record['input']}"
    if "chosen" in record:
        return [*turns, {"role": "user", "content": asked}]
    return turns + _question_and_answer(asked, _text(record, "output"))


def _prompt(record: Mapping[str, Any]) -> list[Turn]:
    prompt = record["prompt"]
    if isinstance(prompt, list):
        asked = [_turn(each, "role", "content", {role: role for role in ROLES}) for each in prompt]
    else:
        asked = [{"role": "user", "content": _LABELLED.sub(r"\1", _text(record, "prompt"))}]
    if "completion" in record:
        completion = record["completion"]
        if isinstance(completion, list):
            return asked + [_turn(each, "role", "content", {role: role for role in ROLES}) for each in completion]
        return [*asked, {"role": "assistant", "content": _text(record, "completion")}]
    if "chosen" not in record:
        raise _Wrong("a prompt alone", "completion, or chosen and rejected, beside it")
    return asked


def _chosen(record: Mapping[str, Any]) -> list[Turn]:
    """A pair whose two sides hold all their turns."""
    if not isinstance(record["chosen"], list):
        raise _Wrong("chosen without what it answers", "prompt or conversations beside it, or a list of messages")
    return []


_FORMS: tuple[tuple[str, Callable[[Mapping[str, Any]], list[Turn]]], ...] = (
    ("messages", _messages),
    ("conversations", _sharegpt),
    ("instruction", _alpaca),
    ("prompt", _prompt),
    ("chosen", _chosen),
)
"""Key -> reader; the first key that a record has tells its form."""


def _pair(record: Mapping[str, Any], turns: list[Turn]) -> tuple[list[Turn], Turn | None]:
    """The turns with the chosen answer last, and the rejected one; None where the record is no pair.

    One that has no `rejected` is a plain dialogue.
    """
    if "chosen" not in record:
        return turns, None
    asked, chosen = _side(record["chosen"], turns)
    if "rejected" not in record:
        return [*asked, chosen], None
    also, rejected = _side(record["rejected"], turns)
    if asked != also:
        raise _Wrong("chosen and rejected answer different questions", "the same turns before the last")
    return [*asked, chosen], rejected


def _side(value: Any, turns: list[Turn]) -> tuple[list[Turn], Turn]:
    """What is asked, and one side's answer: a text, a message of either style, or a list of messages."""
    if isinstance(value, str):
        return turns, {"role": "assistant", "content": value}
    given = value if isinstance(value, list) else [value]
    if not given:
        raise _Wrong("an empty answer")
    sharegpt = isinstance(given[0], dict) and "from" in given[0]
    keys = ("from", "value", SHAREGPT_ROLES) if sharegpt else ("role", "content", {role: role for role in ROLES})
    read = [_turn(each, *keys) for each in given]
    *before, last = read
    return [*turns, *before], last


def _turn(value: Any, role_key: str, text_key: str, roles: Mapping[str, str]) -> Turn:
    if not isinstance(value, dict):
        raise _Wrong(f"a turn that is {_kind(value)}", "an object")
    role = value.get(role_key)
    if not isinstance(role, str) or role not in roles:
        raise _Wrong(f"role {role!r}", "one of " + ", ".join(roles))
    content = value.get(text_key)
    calls = [_call(each) for each in value.get("tool_calls") or []]
    if role == "function_call":
        calls, content = _calls_in(content), ""
    if content is None and calls:
        content = ""
    if not isinstance(content, str):
        raise _Wrong(f"{text_key} that is {_kind(content)}", "text")
    return {"role": roles[role], "content": content} | ({"tool_calls": calls} if calls else {})


def _calls_in(content: Any) -> list[Turn]:
    """The calls that ShareGPT writes as JSON text."""
    try:
        value = json.loads(content)
    except (TypeError, ValueError) as error:
        raise _Wrong(f"a function_call that is no JSON: {content!r:.60}") from error
    return [_call(each) for each in (value if isinstance(value, list) else [value])]


def _call(value: Any) -> Turn:
    """`name` and `arguments` of a call, OpenAI's wrapping and JSON text undone."""
    inner = value.get("function", value) if isinstance(value, dict) else value
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise _Wrong(f"a call {value!r:.60}", "name and arguments")
    arguments = inner.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError as error:
            raise _Wrong(f"arguments that are no JSON: {arguments!r:.60}") from error
    return {"name": inner["name"], "arguments": arguments}


def _tools(value: Any) -> list[Mapping[str, Any]]:
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else []
        except ValueError as error:
            raise _Wrong("tools that are no JSON") from error
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise _Wrong(f"tools that are {_kind(value)}", "a list of objects")
    return value


def _check(turns: list[Turn]) -> None:
    """Raise _Wrong where the turns are no dialogue: [system] (user (assistant tool)* assistant)+."""
    spoken = turns[1:] if turns and turns[0]["role"] == "system" else turns
    expected: tuple[str, ...] = ("user",)
    for number, turn in enumerate(spoken, start=1 + len(turns) - len(spoken)):
        role = turn["role"]
        if role not in expected:
            raise _Wrong(f"turn {number} by the {role}", " or ".join(expected))
        if role == "assistant" and not turn["content"].strip() and not turn.get("tool_calls"):
            raise _Wrong(f"turn {number}: an empty answer", "text, or calls of tools")
        called = bool(turn.get("tool_calls"))
        expected = {"user": ("assistant",), "tool": ("tool", "assistant"), "assistant": ("user",)}.get(role, ())
        if called:
            expected = ("tool", "user")
    if not spoken or spoken[-1]["role"] != "assistant":
        raise _Wrong("no answer at the end", "a last turn by the assistant")


def _question_and_answer(question: str, answer: str) -> list[Turn]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _list(record: Mapping[str, Any], key: str) -> list[Any]:
    value = record[key]
    if not isinstance(value, list) or not value:
        raise _Wrong(f"{key} that is {_kind(value)}", "a list of turns")
    return value


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise _Wrong(f"{key} that is {_kind(value)}", "text")
    return value


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    if value in ([], {}, ""):
        return "empty"
    return names.get(type(value), f"the number {value!r}")
