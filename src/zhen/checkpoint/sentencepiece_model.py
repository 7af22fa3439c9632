"""A SentencePiece model (`tokenizer.model`) read and written without the library: its pieces and the few settings."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from zhen.errors import ZhenError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Kinds of a piece (sentencepiece_model.proto); GGUF's token types are the same numbers."""

_BPE = 2
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_SPECIAL = (("unk", 40, 0), ("bos", 41, 1), ("eos", 42, 2), ("pad", 43, 1 << 64))
"""(role, its field in the trainer's settings, the id where none is given: none for padding)."""
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class Piece(NamedTuple):
    """A token: its text, its score (the better, the earlier it is joined) and its kind."""

    text: str
    score: float
    kind: int


class Model(NamedTuple):
    """What a SentencePiece model of the BPE kind says."""

    pieces: list[Piece]
    add_dummy_prefix: bool
    """Whether a space is put before a text."""
    remove_extra_whitespaces: bool
    normalises: bool
    """Whether it has a table by which characters are changed."""
    special: dict[str, int]
    """The ids of "unk", "bos", "eos" and "pad", of those that it has."""


def parse(data: bytes, file: Path) -> Model:
    """The model in a `tokenizer.model`. Raises ZhenError for what is no BPE model of SentencePiece."""
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    try:
        for number, value in _fields(data):
            if number == _PIECES and isinstance(value, bytes):
                pieces.append(_piece(value))
            elif number == _TRAINER and isinstance(value, bytes):
                trainer = dict(_fields(value))
            elif number == _NORMALIZER and isinstance(value, bytes):
                normalizer = dict(_fields(value))
    except (_Broken, UnicodeDecodeError) as error:
        raise ZhenError(f"no SentencePiece model ({error})", expected="one", file=file) from error
    kind = trainer.get(3, 1)
    if not pieces or kind != _BPE:
        found = f"a SentencePiece model of kind {kind!r}" if pieces else "no pieces"
        raise ZhenError(found, expected=f"BPE, kind {_BPE}, with pieces", file=file)
    special = {name: trainer.get(field, default) for name, field, default in _SPECIAL}
    known = {name: index for name, index in special.items() if isinstance(index, int) and index < len(pieces)}
    return Model(pieces, bool(normalizer.get(3, 1)), bool(normalizer.get(4, 1)), bool(normalizer.get(2)), known)


def build(
    pieces: Sequence[Piece], special: dict[str, int], *, add_dummy_prefix: bool, remove_extra_whitespaces: bool
) -> bytes:
    """A model of the BPE kind with those pieces; `special` holds the ids of "unk", "bos", "eos" and "pad", as known."""
    trainer = _number(3, _BPE) + _number(4, len(pieces)) + _number(35, any(piece.kind == BYTE for piece in pieces))
    for name, field, _ in _SPECIAL:
        index = special.get(name, -1)
        trainer += _number(field, index)
        if index >= 0:
            trainer += _bytes(field + 5, pieces[index].text.encode("utf-8"))
    normalizer = (
        _bytes(1, b"identity") + _number(3, add_dummy_prefix) + _number(4, remove_extra_whitespaces) + _number(5, True)
    )
    listed = b"".join(
        _bytes(_PIECES, _bytes(1, text.encode("utf-8")) + b"\x15" + struct.pack("<f", score) + _number(3, kind))
        for text, score, kind in pieces
    )
    return listed + _bytes(_TRAINER, trainer) + _bytes(_NORMALIZER, normalizer)


class _Broken(ValueError):
    """Bytes that are no protocol buffer."""


def _piece(data: bytes) -> Piece:
    text, score, kind = "", 0.0, NORMAL
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            text = value.decode("utf-8")
        elif number == 2 and isinstance(value, bytes) and len(value) == 4:
            score = struct.unpack("<f", value)[0]
        elif number == 3 and isinstance(value, int):
            kind = value
    if not NORMAL <= kind <= BYTE:
        raise _Broken(f"a piece of kind {kind}")
    return Piece(text, score, kind)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a message: whole numbers as int, everything else as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == _LENGTH:
            size, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise _Broken(f"wire type {wire} at byte {at}")
        if size > len(data) - at:
            raise _Broken(f"{size} bytes at byte {at} of {len(data)}")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _Broken("it ends within a number")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise _Broken(f"a number of more than 64 bits at byte {at}")


def _number(field: int, value: int) -> bytes:
    # negative numbers are written as two's complement of 64 bits
    return _as_varint(field << 3 | _VARINT) + _as_varint(int(value) & 0xFFFF_FFFF_FFFF_FFFF)


def _bytes(field: int, value: bytes) -> bytes:
    return _as_varint(field << 3 | _LENGTH) + _as_varint(len(value)) + value


def _as_varint(value: int) -> bytes:
    done = bytearray()
    while value > 0x7F:
        done.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*done, value])
