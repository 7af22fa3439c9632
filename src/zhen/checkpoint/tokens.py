"""What a folder's tokenizer is, from its files at a glance: kind, number of tokens, special tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from zhen.checkpoint import strictjson
from zhen.errors import ZhenError

ROLES = ("bos", "eos", "unk", "pad")

_LARGEST = 100_000_000
_KINDS = {1: "unigram", 2: "BPE", 3: "word", 4: "character"}
"""SentencePiece's model_type (sentencepiece_model.proto)."""


class Special(msgspec.Struct, frozen=True, kw_only=True):
    """A token with a role; null where the files don't say."""

    id: int | None
    text: str | None


class TokenizerSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A tokenizer as its files describe it."""

    kind: str
    """"SentencePiece BPE", "byte-level BPE", "unigram" …"""
    size: int | None
    """Tokens, those added later among them."""
    file: str | None
    """The file that kind and size are read from; null where only settings are there."""
    special: dict[str, Special]
    """Role ("bos", "eos", "unk", "pad") -> token."""


class _Added(msgspec.Struct):
    id: int
    content: str = ""


class _Model(msgspec.Struct):
    type: str | None = None
    vocab: dict[str, int] | list[msgspec.Raw] | None = None
    byte_fallback: bool = False


class _Json(msgspec.Struct):
    model: _Model
    added_tokens: list[_Added] = []
    pre_tokenizer: msgspec.Raw = msgspec.Raw(b"null")


def look(folder: Path, config: Mapping[str, Any]) -> tuple[TokenizerSummary | None, list[str]]:
    """The tokenizer in `folder`, None without one, and notes on files that can't be read."""
    notes: list[str] = []
    settings = _table(folder / "tokenizer_config.json", notes)
    roles = _table(folder / "special_tokens_map.json", notes) | settings
    added = {
        text: int(number)
        for number, token in _entries(settings.get("added_tokens_decoder"))
        if number.isdecimal() and len(number) < 10 and isinstance(text := _text(token), str)
    }
    kind, size, used = None, None, None
    for name, read in _READERS.items():
        if (file := folder / name).is_file():
            try:
                kind, size, more = read(_bytes(file))
            except (ValueError, IndexError, msgspec.MsgspecError) as error:
                notes.append(f"{name} can't be read: {error}")
                continue
            except ZhenError as error:
                notes.append(error.text())
                continue
            added, used = more | added, name
            break
    if used is None and not settings:
        return None, notes
    # what tokenizer.model lacks is added behind it; tokens of its own may be listed again
    size = max([size, *(number + 1 for number in added.values())]) if size is not None else None
    kind = kind or str(settings.get("tokenizer_class") or "unknown")
    return TokenizerSummary(kind=kind, size=size, file=used, special=_special(roles, added, config)), notes


def of_gguf(metadata: Mapping[str, Any], config: Mapping[str, Any]) -> TokenizerSummary | None:
    """The tokenizer in a GGUF file's metadata."""
    kind, tokens = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.tokens")
    if not isinstance(kind, str) or kind in ("none", "no_vocab"):
        return None
    named = {"llama": "SentencePiece BPE", "gpt2": "byte-level BPE", "t5": "SentencePiece unigram", "bert": "WordPiece"}
    texts = list(tokens) if isinstance(tokens, Iterable) and not isinstance(tokens, str) else []
    special = {}
    for role in ROLES:
        number = config.get(f"{role}_token_id")
        if type(number) is int:
            text = texts[number] if 0 <= number < len(texts) else None
            special[role] = Special(id=number, text=text if isinstance(text, str) else None)
    return TokenizerSummary(kind=named.get(kind, kind), size=len(texts) or None, file=None, special=special)


def _special(roles: Mapping[str, Any], added: Mapping[str, int], config: Mapping[str, Any]) -> dict[str, Special]:
    found = {}
    for role in ROLES:
        text = _text(roles.get(f"{role}_token"))
        claimed = config.get(f"{role}_token_id")
        number = added.get(text or "", claimed if type(claimed) is int and 0 <= claimed < 2**31 else None)
        if text is not None or number is not None:
            found[role] = Special(id=number, text=text)
    return found


def _sentencepiece(data: bytes) -> tuple[str, int, dict[str, int]]:
    """A SentencePiece model: the pieces are counted, not parsed. Llama 3's file of that name is tiktoken's."""
    if not data.startswith(b"\n"):
        return _tiktoken(data)
    at, count, kind = 0, 0, 1
    while at < len(data):
        field, at = data[at], at + 1
        if field & 7 != 2:
            raise ValueError(f"no SentencePiece model at byte {at - 1}")
        length, at = _varint(data, at)
        if length > len(data) - at:
            raise ValueError(f"no SentencePiece model at byte {at}")
        if field == 0x0A:
            count += 1
        elif field == 0x12:
            kind = _kind(data[at : at + length])
        at += length
    return f"SentencePiece {_KINDS.get(kind, 'model')}", count, {}


def _kind(trainer: bytes) -> int:
    """model_type in the trainer's settings, unigram where it isn't said."""
    at, kind = 0, 1
    while at < len(trainer):
        tag, at = _varint(trainer, at)
        if tag & 7 == 0:
            value, at = _varint(trainer, at)
            kind = value if tag >> 3 == 3 else kind
        elif tag & 7 == 2:
            length, at = _varint(trainer, at)
            at += length
        else:
            at += {1: 8, 5: 4}[tag & 7] if tag & 7 in (1, 5) else len(trainer)
    return kind


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte, at = data[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"no number at byte {at}")


def _json(data: bytes) -> tuple[str, int | None, dict[str, int]]:
    table = msgspec.json.decode(data, type=_Json)
    added = {token.content: token.id for token in table.added_tokens}
    kind = table.model.type or "unknown"
    if kind == "BPE":
        byte_level = b"ByteLevel" in bytes(table.pre_tokenizer)
        kind = "byte-level BPE" if byte_level else "BPE with byte fallback" if table.model.byte_fallback else "BPE"
    return kind, len(table.model.vocab) if table.model.vocab is not None else None, added


def _vocabulary(data: bytes) -> tuple[str, int, dict[str, int]]:
    return "byte-level BPE", len(msgspec.json.decode(data, type=dict[str, int])), {}


def _tiktoken(data: bytes) -> tuple[str, int, dict[str, int]]:
    lines = data.split(b"\n")
    if not all(line.rpartition(b" ")[2].isdigit() for line in lines[:3] if line):
        raise ValueError("neither a SentencePiece model nor tiktoken's ranks")
    return "tiktoken BPE", sum(1 for line in lines if line), {}


_READERS = {
    "tokenizer.model": _sentencepiece,
    "tokenizer.json": _json,
    "vocab.json": _vocabulary,
    "qwen.tiktoken": _tiktoken,
}


def _bytes(file: Path) -> bytes:
    if file.stat().st_size > _LARGEST:
        raise ValueError(f"more than {_LARGEST} bytes")
    data = file.read_bytes()
    if data.startswith(strictjson.LFS_POINTER):
        raise ValueError(f"a Git LFS pointer; {strictjson.LFS_HINT}")
    return data


def _table(file: Path, notes: list[str]) -> dict[str, Any]:
    try:
        value = strictjson.read(file) if file.is_file() else {}
    except ZhenError as error:
        notes.append(error.text())
        return {}
    return value if isinstance(value, dict) else {}


def _entries(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _text(token: Any) -> str | None:
    """The text of a token, which may stand alone or with its settings."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None
