"""Chat templates: turns as the tokens that a chat model was tuned on. A template is a stranger's code: it runs in a
sandbox, and what people write is never taken for special tokens."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

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

Turn = Mapping[str, str]
"""`role` (system, user, assistant) and `content`."""


class ChatTemplate:
    """A checkpoint's template."""

    def __init__(self, file: Path, text: str, names: Mapping[str, str], special: Mapping[str, int]) -> None:
        """`names`: bos_token, eos_token … -> text; `special`: the text of special tokens -> id."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
        self._file, self._names, self._special = file, dict(names), dict(special)
        self.ends = frozenset(special[name] for name in [names.get("eos_token", "")] if name in special)
        """Tokens that end a turn."""
        words = sorted(self._special, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, words)) + ")") if words else None
        try:
            self._template = environment.from_string(text)
        except jinja2.TemplateError as error:
            raise self._wrong(error) from error

    def encode(self, turns: Sequence[Turn], tokenizer: Tokenizer) -> list[int]:
        """The tokens of the turns and of the beginning of the answer. Raises ZhenError for what the template refuses
        or cannot do."""
        # white space around a text stays outside its place, so that templates can trim it
        said = [turn["content"].strip() for turn in turns]
        places = [
            dict(turn)
            | {"content": turn["content"].replace(text, _PLACE.format(number), 1) if text else turn["content"]}
            for number, (turn, text) in enumerate(zip(turns, said, strict=True))
        ]
        try:
            text = self._template.render(messages=places, add_generation_prompt=True, **self._names)
        # a template may trip over anything
        except Exception as error:
            raise self._wrong(error) from error
        ids: list[int] = []
        for part in self._split.split(text) if self._split else [text]:
            if part in self._special:
                ids.append(self._special[part])
            elif part:
                ids += tokenizer.encode(_PLACES.sub(lambda match: said[int(match[1])], part))
        return ids

    def _wrong(self, error: Exception) -> ZhenError:
        return ZhenError(
            f"the chat template fails: {str(error).splitlines()[0] if str(error) else error!r}", file=self._file
        )


def load_template(folder: Path) -> ChatTemplate | None:
    """The chat template of a checkpoint's folder, from `chat_template.jinja` or `tokenizer_config.json`; None without.

    Raises ZhenError for one that is no template.
    """
    path = folder / CONFIG
    config = strictjson.read(path) if path.exists() else None
    config = config if isinstance(config, dict) else {}
    file, text = path, config.get("chat_template")
    if (folder / JINJA).is_file():
        file = folder / JINJA
        text = file.read_text(encoding="utf-8", errors="replace")
    if isinstance(text, list):  # several, by name
        found = {each.get("name"): each.get("template") for each in text if isinstance(each, dict)}
        text = found.get("default")
    if not isinstance(text, str) or not text.strip():
        return None
    names = {key: _text(config.get(key)) for key in ("bos_token", "eos_token", "unk_token", "pad_token")}
    return ChatTemplate(file, text, {key: name for key, name in names.items() if name}, _special(folder, config))


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


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
