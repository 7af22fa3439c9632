"""Chat templates: turns as the tokens that a chat model was tuned on. A template is a stranger's code: it runs in a
sandbox, and what people write is never taken for special tokens."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from zhen.checkpoint import strictjson
from zhen.errors import ZhenError
from zhen.tokenizer.load import Tokenizer

CONFIG = "tokenizer_config.json"
JINJA = "chat_template.jinja"

_PLACE = "\ue000{}\ue001"
_PLACES = re.compile("\ue000([0-9]+)\ue001")
"""Stands for the text of a turn while the template is rendered."""

Turn = Mapping[str, Any]
"""`role` (system, user, assistant, tool), `content`, and of an assistant perhaps `tool_calls`."""


class Piece(NamedTuple):
    """Tokens of a dialogue that are written by the same side."""

    ids: list[int]
    answer: bool
    """Whether the assistant wrote them."""


class ChatTemplate:
    """A checkpoint's template."""

    def __init__(self, file: Path, text: str, names: Mapping[str, str], special: Mapping[str, int]) -> None:
        """`names`: bos_token, eos_token … -> text; `special`: the text of special tokens -> id."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = self._to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
        self._file, self._names = file, dict(names)
        self.special = dict(special)
        """The text of special tokens -> id."""
        self.ends = frozenset(special[name] for name in [names.get("eos_token", "")] if name in special)
        """Tokens that end a turn."""
        words = sorted(self.special, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, words)) + ")") if words else None
        try:
            self._template = environment.from_string(text)
        except jinja2.TemplateError as error:
            raise self._wrong(error) from error

    def encode(
        self, turns: Sequence[Turn], tokenizer: Tokenizer, tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """The tokens of the turns and of the beginning of the answer. `tools`: what the model may call, as JSON
        schemas. Raises ZhenError for what the template refuses or cannot do."""
        said, places = _places(turns)
        return self._ids(self._render(places, tools, answer=True), said, tokenizer)

    def dialogue(
        self, turns: Sequence[Turn], tokenizer: Tokenizer, tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[Piece]:
        """A finished dialogue in pieces: before each answer just what `encode` gives for the turns up to there, then
        the answer with all that ends its turn. Raises ZhenError as `encode` does, and where the template writes a turn
        differently once it is answered."""
        said, places = _places(turns)
        pieces, done = [], ""
        for at, turn in enumerate(turns):
            if turn.get("role") != "assistant":
                continue
            asked = self._render(places[:at], tools, answer=True)
            whole = self._render(places[: at + 1], tools, answer=False)
            if not asked.startswith(done) or not whole.startswith(asked):
                raise ZhenError("the chat template writes earlier turns anew with each answer", file=self._file)
            pieces += [
                Piece(self._ids(asked[len(done) :], said, tokenizer), False),
                Piece(self._ids(whole[len(asked) :], said, tokenizer), True),
            ]
            done = whole
        return pieces

    def _render(self, places: Sequence[Turn], tools: Sequence[Mapping[str, Any]] | None, answer: bool) -> str:
        try:
            return self._template.render(messages=places, tools=tools, add_generation_prompt=answer, **self._names)
        # a template may trip over anything
        except Exception as error:
            raise self._wrong(error) from error

    def _ids(self, text: str, said: Sequence[str], tokenizer: Tokenizer) -> list[int]:
        ids: list[int] = []
        for part in self._split.split(text) if self._split else [text]:
            if part in self.special:
                ids.append(self.special[part])
            elif part:
                ids += tokenizer.encode(_PLACES.sub(lambda match: said[int(match[1])], part))
        return ids

    def _to_json(self, value: Any, indent: int | None = None) -> str:
        """JSON in which no special token stands: its first character is escaped, which is the same to a reader."""
        text = json.dumps(value, ensure_ascii=False, indent=indent)
        for word in [*self.special, "\ue000"]:
            text = text.replace(word, f"\\u{ord(word[0]):04x}{word[1:]}")
        return text

    def _wrong(self, error: Exception) -> ZhenError:
        return ZhenError(
            f"the chat template fails: {str(error).splitlines()[0] if str(error) else error!r}", file=self._file
        )


def load_template(folder: Path, text: str | None = None) -> ChatTemplate | None:
    """The chat template of a checkpoint's folder, from `chat_template.jinja` or `tokenizer_config.json`; None without.

    `text`: a template to use instead. Raises ZhenError for one that is no template.
    """
    path = folder / CONFIG
    config = strictjson.read(path) if path.exists() else None
    config = config if isinstance(config, dict) else {}
    file, own = (path, config.get("chat_template")) if text is None else (Path("ChatML"), text)
    if text is None and (folder / JINJA).is_file():
        file = folder / JINJA
        own = file.read_text(encoding="utf-8", errors="replace")
    if isinstance(own, list):  # several, by name
        found = {each.get("name"): each.get("template") for each in own if isinstance(each, dict)}
        own = found.get("default")
    if not isinstance(own, str) or not own.strip():
        return None
    names = {key: _text(config.get(key)) for key in ("bos_token", "eos_token", "unk_token", "pad_token")}
    return ChatTemplate(file, own, {key: name for key, name in names.items() if name}, _special(folder, config))


def _special(folder: Path, config: Mapping[str, Any]) -> dict[str, int]:
    """The special tokens: text -> id."""
    found: dict[str, int] = {}
    path = folder / "tokenizer.json"
    stored = strictjson.read(path) if path.exists() else None
    for token in (stored or {}).get("added_tokens") or [] if isinstance(stored, dict) else []:
        if isinstance(token, dict) and isinstance(token.get("id"), int) and token.get("content"):
            found[str(token["content"])] = token["id"]
    decoder = config.get("added_tokens_decoder")
    for index, token in decoder.items() if isinstance(decoder, dict) else []:
        if isinstance(token, dict) and token.get("content") and str(index).isdecimal():
            found[str(token["content"])] = int(index)
    return found


def _text(value: Any) -> str:
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else ""


def _places(turns: Sequence[Turn]) -> tuple[list[str], list[Turn]]:
    """What the turns say, and the same turns with a place instead of each text."""
    # white space around a text stays outside its place, so that templates can trim it
    texts = [turn.get("content") or "" for turn in turns]
    said = [text.strip() for text in texts]
    return said, [
        {**turn, "content": text.replace(inside, _PLACE.format(number), 1) if inside else text}
        for number, (turn, text, inside) in enumerate(zip(turns, texts, said, strict=True))
    ]


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
