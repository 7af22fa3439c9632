"""JSON as a checkpoint may hold it: UTF-8, no key twice, no NaN, no half characters, no bottomless nesting."""

from __future__ import annotations

import json
from collections.abc import Iterator
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

from zhen.errors import ZhenError

LFS_POINTER = b"version https://git-lfs"
LFS_HINT = "fetch the file: git lfs pull"

_LARGEST = 100_000_000
"""Bytes of JSON that are read at most: the limit of a safetensors header."""

_SPACE = json.decoder.WHITESPACE  # type: ignore[attr-defined]


def parse(data: bytes, file: Path, place: str | None = None) -> Any:
    """The value of `data`. Raises ZhenError naming `file`, `place`, what is wrong and the rule, `json.…`."""
    text = _text(data, file, place)
    try:
        value, end = _DECODER.raw_decode(text, _SPACE.match(text).end())
        if (end := _SPACE.match(text, end).end()) != len(text):
            raise JSONDecodeError("Extra data", text, end)
        if "\\u" in text:  # only an escape can make half a character
            _whole_characters(value)
    except JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise _refusal(error, file, f"{place}, {where}" if place else where) from error
    except (ValueError, RecursionError) as error:
        raise _refusal(error, file, place) from error
    return value


def read(file: Path) -> Any:
    """The value in a JSON file. Raises ZhenError if it can't be read, is larger than 100 MB or isn't strict JSON."""
    try:
        if (size := file.stat().st_size) > _LARGEST:
            raise ZhenError(f"{size} bytes", expected=f"at most {_LARGEST} bytes of JSON", file=file)
        data = file.read_bytes()
    except OSError as error:
        raise ZhenError(f"can't be read: {error.strerror or error}", file=file) from error
    if data.startswith(LFS_POINTER):
        raise ZhenError("a Git LFS pointer, not the file itself", expected="JSON", file=file, hint=LFS_HINT)
    return parse(data, file)


class Scanner:
    """Strict JSON taken piece by piece, so that a large table of small ones is never held as a whole.

    `at` is the place in `text`; `base` the offset of the text in its file, for messages.
    """

    def __init__(self, data: bytes, file: Path, place: str, base: int) -> None:
        self.text = _text(data, file, place, base)
        self.at = _SPACE.match(self.text).end()
        self._file = file
        self._place = place
        self._base = base
        self._escapes = "\\u" in self.text

    def keys(self) -> Iterator[str]:
        """The keys of the table that begins here. Its value must be taken before the next key is asked for."""
        self._take("{")
        if self.text.startswith("}", self.at):
            self._take("}")
            return
        seen: set[str] = set()
        while True:
            begin = self.at
            key = self.string()
            if key in seen:
                raise self.refused(_Wrong("json.duplicate", f"key {key[:80]!r} twice"), begin)
            seen.add(key)
            self._take(":")
            yield key
            if self.text.startswith("}", self.at):
                self._take("}")
                return
            self._take(",")

    def string(self) -> str:
        """The string that begins here."""
        begin = self.at
        if not self.text.startswith('"', begin):
            raise self.refused(JSONDecodeError("Expecting a string", self.text, begin), begin)
        try:
            value: str
            value, self.at = scanstring(self.text, begin + 1, True)
            if self._escapes:
                _whole_characters(value)
        except ValueError as error:
            raise self.refused(error, error.pos if isinstance(error, JSONDecodeError) else begin) from error
        self.skip()
        return value

    def table(self, longest: int) -> dict[str, Any]:
        """The table that begins here, of at most `longest` characters."""
        begin = self.at
        end = self.text.find("}", begin, begin + longest) + 1
        try:
            try:
                value, length = _DECODER.raw_decode(self.text[begin:end])
            except (ValueError, RecursionError):
                # it has a table or a brace inside; rare, and never what a tensor looks like
                value, length = _DECODER.raw_decode(self.text[begin : begin + longest])
            if self._escapes:
                _whole_characters(value)
        except (ValueError, RecursionError) as error:
            inside = error.pos if isinstance(error, JSONDecodeError) else 0
            if inside >= longest - 1:
                error = _Wrong("json.long", f"a table of more than {longest} characters")
            raise self.refused(error, begin + inside) from error
        self.at = begin + length
        self.skip()
        found: dict[str, Any] = value
        return found

    def skip(self) -> None:
        """Go on behind white space."""
        self.at = _SPACE.match(self.text, self.at).end()

    def offset(self, at: int) -> int:
        """The byte of the file at which the character `at` of the text lies."""
        pieces = range(0, at, 1 << 16)  # a copy of the whole may be large
        return self._base + sum(len(self.text[piece : min(at, piece + (1 << 16))].encode("utf-8")) for piece in pieces)

    def refused(self, error: Exception, at: int) -> ZhenError:
        """What `error`, seen at the character `at`, is called."""
        return _refusal(error, self._file, f"{self._place}, byte {self.offset(at)}")

    def _take(self, mark: str) -> None:
        if not self.text.startswith(mark, self.at):
            raise self.refused(JSONDecodeError(f"Expecting '{mark}'", self.text, self.at), self.at)
        self.at += 1
        self.skip()


class _Wrong(ValueError):
    """What the hooks below find."""

    def __init__(self, rule: str, found: str) -> None:
        self.rule = rule
        super().__init__(found)


def _refusal(error: Exception, file: Path, place: str | None) -> ZhenError:
    rule, found = "json.syntax", "not JSON"
    if isinstance(error, _Wrong):
        rule, found = error.rule, str(error)
    elif isinstance(error, JSONDecodeError):
        found = f"not JSON ({error.msg})"
    elif isinstance(error, RecursionError):
        rule, found = "json.nesting", "nested too deeply"
    return ZhenError(found, expected="strict JSON", file=file, place=place, rule=rule)


def _text(data: bytes, file: Path, place: str | None, base: int = 0) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte {base + error.start} is not UTF-8"
        raise ZhenError(found, expected="UTF-8 JSON", file=file, place=place, rule="json.utf8") from error


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Wrong("json.duplicate", f"key {twice[:80]!r} twice")
    return table


def _no_constant(name: str) -> Any:
    raise _Wrong("json.number", f"the number {name}")


def _integer(digits: str) -> int:
    if digits == "-0" or len(digits) > 300:  # 10^30 is usual for "no limit"; a float holds 10^300
        raise _Wrong("json.number", f"the number {digits[:40]}")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise _Wrong("json.number", f"the number {digits[:40]}")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_table, parse_constant=_no_constant, parse_int=_integer, parse_float=_number
)


def _whole_characters(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _whole_characters(key)
            _whole_characters(item)
    elif isinstance(value, list):
        for item in value:
            _whole_characters(item)
    elif isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise _Wrong("json.character", f"half a character in {value[:80]!r}") from error
