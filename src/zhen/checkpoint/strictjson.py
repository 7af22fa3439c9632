"""JSON as a checkpoint may hold it: UTF-8, no key twice, no NaN, no half characters, no bottomless nesting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zhen.errors import ZhenError

LFS_POINTER = b"version https://git-lfs"
LFS_HINT = "fetch the file: git lfs pull"

_LARGEST = 100_000_000
"""Bytes of JSON that are read at most: the limit of a safetensors header."""


def parse(data: bytes, file: Path, place: str | None = None) -> Any:
    """The value of `data`. Raises ZhenError naming `file`, `place` and what is wrong."""
    try:
        text = data.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_table, parse_constant=_no_constant, parse_int=_integer, parse_float=_number
        )
        if "\\u" in text:  # only an escape can make half a character
            _whole_characters(value, file, place)
    except UnicodeDecodeError as error:
        raise ZhenError(f"byte {error.start} is not UTF-8", expected="UTF-8 JSON", file=file, place=place) from error
    except RecursionError as error:
        raise ZhenError("nested too deeply", expected="JSON of a few levels", file=file, place=place) from error
    except _Wrong as error:
        raise ZhenError(str(error), expected="strict JSON", file=file, place=place) from error
    except ValueError as error:
        raise ZhenError(f"not JSON ({error})", expected="strict JSON", file=file, place=place) from error
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


class _Wrong(ValueError):
    """What the hooks below find."""


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in table if keys.count(key) > 1)
        raise _Wrong(f"key {twice!r} twice")
    return table


def _no_constant(name: str) -> Any:
    raise _Wrong(f"the number {name}")


def _integer(digits: str) -> int:
    if digits == "-0" or len(digits) > 300:  # 10^30 is usual for "no limit"; a float holds 10^300
        raise _Wrong(f"the number {digits[:40]}")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise _Wrong(f"the number {digits[:40]}")
    return value


def _whole_characters(value: Any, file: Path, place: str | None) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _whole_characters(key, file, place)
            _whole_characters(item, file, place)
    elif isinstance(value, list):
        for item in value:
            _whole_characters(item, file, place)
    elif isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ZhenError(f"half a character in {value!r}", expected="UTF-8", file=file, place=place) from error
