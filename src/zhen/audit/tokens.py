"""Checks of the tokenizer's files against each other and against the embedding; nothing is tokenised."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zhen.audit.finding import Finding, fails, holds, unchecked
from zhen.audit.folder import Folder
from zhen.errors import ZhenError

_ROWS = "every token id has a row in the embedding"
_SAME = "tokenizer.model and tokenizer.json give every piece the same id"
_SPECIAL = "config.json, generation_config.json and the tokenizer agree on the special ids"
_FIX = "take all tokenizer files from the model's own release"


def check_tokenizer(folder: Folder) -> Iterator[Finding]:
    """Ids fit the embedding, both vocabularies are one, special ids agree."""
    try:
        vocabularies = _vocabularies(folder)
    except ZhenError as error:
        yield fails("tokenizer.readable", _ROWS, error.text(), fix=_FIX, file=error.file)
        return
    if not vocabularies:
        yield unchecked("tokenizer.rows", _ROWS, "there is no tokenizer.json and no tokenizer.model")
        return
    yield from _rows(folder, vocabularies)
    yield from _same(vocabularies)
    try:
        yield from _special(folder, vocabularies)
    except ZhenError as error:
        yield fails("tokenizer.special-ids", _SPECIAL, error.text(), fix=_FIX, file=error.file)


def _vocabularies(folder: Folder) -> dict[str, dict[int, str]]:
    """File -> id -> piece."""
    found = {}
    if folder.has("tokenizer.model"):
        if not folder.inside("tokenizer.model"):
            raise ZhenError("is a link out of the folder, or no file", expected="a file", file="tokenizer.model")
        pieces = sentencepiece_pieces(folder.root / "tokenizer.model")
        found["tokenizer.model"] = dict(enumerate(pieces))
    if folder.has("tokenizer.json"):
        found["tokenizer.json"] = _json_pieces(folder)
    return found


def _json_pieces(folder: Folder) -> dict[int, str]:
    whole = folder.object("tokenizer.json")
    model = whole.get("model")
    vocabulary: Any = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, list):  # Unigram: [piece, score] in the order of ids
        vocabulary = {str(item[0]): number for number, item in enumerate(vocabulary) if isinstance(item, list) and item}
    if not isinstance(vocabulary, dict):
        raise ZhenError("has no model.vocab", file="tokenizer.json")
    added = whole.get("added_tokens") or []
    if not isinstance(added, list):
        raise ZhenError(f"added_tokens is {added!r}", expected="a list", file="tokenizer.json")
    pairs = list(vocabulary.items())
    pairs += [(item.get("content"), item.get("id")) for item in added if isinstance(item, dict)]
    for piece, number in pairs:
        if not isinstance(piece, str) or type(number) is not int or number < 0:
            raise ZhenError(f"piece {piece!r} has id {number!r}", expected="an id from 0 on", file="tokenizer.json")
    return {number: piece for piece, number in pairs}


def sentencepiece_pieces(path: Path) -> list[str]:
    """The pieces of a tokenizer.model in the order of their ids.

    Reads the protocol buffer's wire format as far as needed: field 1 of the file is a piece, field 1 of a piece its
    text (sentencepiece_model.proto). Raises ZhenError where the file is not of that form.
    """
    data = path.read_bytes()
    try:
        pieces = [dict(_fields(message)).get(1, b"") for number, message in _fields(data) if number == 1]
        return [piece.decode("utf-8") for piece in pieces]
    except (ValueError, IndexError) as error:
        raise ZhenError("is not a SentencePiece model", file=path.name) from error


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, content) of each length-delimited field; the others are skipped. Raises ValueError."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        kind = tag & 7
        if kind == 0:
            _, place = _varint(data, place)
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        elif kind == 2:
            length, place = _varint(data, place)
            if place + length > len(data):
                raise ValueError("field ends behind the file")
            yield tag >> 3, data[place : place + length]
            place += length
        else:
            raise ValueError(f"wire type {kind}")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("number too long")


def _rows(folder: Folder, vocabularies: dict[str, dict[int, str]]) -> Iterator[Finding]:
    rows = _embedding_rows(folder)
    if rows is None:
        yield unchecked("tokenizer.rows", _ROWS, "neither weights nor config.json say how many rows there are")
        return
    faults = False
    for file, vocabulary in vocabularies.items():
        highest = max(vocabulary, default=-1)
        if highest >= rows:
            faults = True
            evidence = f"{file} has ids up to {highest:,}, the embedding {rows:,} rows"
            yield fails("tokenizer.rows", _ROWS, evidence, fix=_FIX, file=file)
    if not faults:
        sizes = ", ".join(f"{file}: {len(vocabulary):,} tokens" for file, vocabulary in vocabularies.items())
        yield holds("tokenizer.rows", _ROWS, f"{sizes}; {rows:,} rows")


def _embedding_rows(folder: Folder) -> int | None:
    tensors = folder.checkpoint.tensors if folder.checkpoint else {}
    info = tensors.get("model.embed_tokens.weight")
    if info is not None and len(info.shape) == 2:
        return int(info.shape[0])
    return folder.config.vocab_size if folder.config else None


def _same(vocabularies: dict[str, dict[int, str]]) -> Iterator[Finding]:
    if len(vocabularies) < 2:
        only = next(iter(vocabularies))
        yield unchecked("tokenizer.same", _SAME, f"there is only {only}", severity="note")
        return
    learnt, written = vocabularies["tokenizer.model"], vocabularies["tokenizer.json"]
    other = [number for number, piece in learnt.items() if written.get(number) != piece]
    if not other:
        yield holds("tokenizer.same", _SAME, f"{len(learnt):,} pieces compared")
        return
    first = other[0]
    evidence = (
        f"{len(other):,} ids differ, first {first}: {learnt[first]!r} in tokenizer.model, "
        f"{written.get(first)!r} in tokenizer.json"
    )
    yield fails("tokenizer.same", _SAME, evidence, fix=_FIX, file="tokenizer.json")


def _special(folder: Folder, vocabularies: dict[str, dict[int, str]]) -> Iterator[Finding]:
    config = folder.object("config.json")
    generation = folder.object("generation_config.json")
    tokens = folder.object("tokenizer_config.json")
    ids = {piece: number for vocabulary in vocabularies.values() for number, piece in vocabulary.items()}
    faults, compared = [], []
    for kind in ("bos", "eos", "pad"):
        said: dict[str, frozenset[int]] = {}
        for file, values in (("config.json", config), ("generation_config.json", generation)):
            key = f"{kind}_token_id"
            if values.get(key) is not None:
                said[file] = _ids(values[key], file, key)
        piece = _token_text(tokens.get(f"{kind}_token"))
        if piece is not None:
            if piece not in ids:
                faults.append(f"{kind}: {piece!r} of tokenizer_config.json is not in the vocabulary")
            else:
                said["tokenizer_config.json"] = frozenset([ids[piece]])
        if len(said) > 1 and not _agree(said):
            faults.append(f"{kind}: " + ", ".join(f"{file} {sorted(found)}" for file, found in said.items()))
        elif len(said) > 1:
            compared.append(f"{kind} {sorted(set.union(*map(set, said.values())))}")
    if faults:
        yield fails("tokenizer.special-ids", _SPECIAL, "; ".join(faults), fix="set the same ids in all three files")
    elif compared:
        yield holds("tokenizer.special-ids", _SPECIAL, ", ".join(compared))
    else:
        yield unchecked("tokenizer.special-ids", _SPECIAL, "fewer than two files give any")


def _ids(value: Any, file: str, key: str) -> frozenset[int]:
    """One id or a list of them. Raises ZhenError for anything else."""
    ids = value if isinstance(value, list) else [value]
    if not all(type(number) is int for number in ids):
        raise ZhenError(f"{value!r}", expected="an id or a list of ids", file=file, place=key)
    return frozenset(ids)


def _agree(said: dict[str, frozenset[int]]) -> bool:
    """What config.json and the tokenizer give is among what generation_config.json gives, which may name more ends (a
    chat model's turns have their own); without it the two are the same."""
    whole = said.get("generation_config.json") or said.get("config.json", frozenset())
    return all(found <= whole for found in said.values())


def _token_text(value: Any) -> str | None:
    """A special token stands there as text or as an object with `content`."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None
