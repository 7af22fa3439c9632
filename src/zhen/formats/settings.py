"""A TOML table into a settings class, field by field: every mistake at once, and the line each stands on."""

from __future__ import annotations

import math
import tomllib
import types
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from zhen.errors import did_you_mean

KeyPath = tuple[str | int, ...]
SettingsT = TypeVar("SettingsT", bound=msgspec.Struct)


class Mistake(NamedTuple):
    """One mistake: where in the recipe, what was found, what would be right, what to do."""

    path: KeyPath
    found: str
    expected: str | None = None
    hint: str | None = None


def convert(value: Any, kind: type[SettingsT], path: KeyPath, mistakes: list[Mistake]) -> SettingsT | None:
    """Convert a table field by field, collecting every mistake instead of stopping at the first."""
    if not isinstance(value, Mapping):
        mistakes.append(Mistake(path, f"{dotted(path)} = {value!r}", "a table"))
        return None
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    before = len(mistakes)
    for name in value:
        if name not in fields:
            mistakes.append(
                Mistake((*path, name), f'unknown key "{dotted((*path, name))}"', None, did_you_mean(name, fields))
            )
    converted: dict[str, Any] = {}
    for name, field in fields.items():
        here = (*path, name)
        if name not in value:
            if field.required:
                mistakes.append(Mistake(path or (name,), f'"{dotted(here)}" is missing', _type_name(field.type)))
            continue
        converted[name] = _convert_value(value[name], field.type, here, mistakes)
    return None if len(mistakes) > before else kind(**converted)


def _convert_value(value: Any, kind: Any, path: KeyPath, mistakes: list[Mistake]) -> Any:
    settings = _struct_in(kind)
    if settings is not None and isinstance(value, list) and _is_list(kind):
        return tuple(convert(item, settings, (*path, index), mistakes) for index, item in enumerate(value))
    if settings is not None and not _is_list(kind):
        return convert(value, settings, path, mistakes)
    if found := _unusable(value):
        mistakes.append(Mistake(path, f"{dotted(path)} = {_toml(value)}", found))
        return None
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        mistakes.append(Mistake(path, f"{dotted(path)} = {_toml(value)}", _type_name(kind, error)))
        return None


def _unusable(value: Any) -> str | None:
    """What is expected instead of a number that no key can be made of, or None."""
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "a whole number of 64 bits"
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return next((found for item in inner if (found := _unusable(item))), None)


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    """The settings class that `kind` is, holds optionally, or lists."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    if typing.get_origin(kind) in (typing.Annotated, typing.Union, types.UnionType, list, tuple):
        return next((found for part in typing.get_args(kind) if (found := _struct_in(part))), None)
    return None


def _is_list(kind: Any) -> bool:
    """Whether `kind` is a list or tuple, annotated or not."""
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    return typing.get_origin(kind) in (list, tuple)


_WORDS = {int: "a whole number", float: "a number", str: "a string", bool: "true or false", Any: "a value"}


def _type_name(kind: Any, error: msgspec.ValidationError | None = None) -> str:
    """What the field takes, in words."""
    if kind in _WORDS:
        return _WORDS[kind]
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _type_name(parts[0]) + "".join(_bounds(meta) for meta in parts[1:] if isinstance(meta, msgspec.Meta))
    if origin is typing.Literal:
        return " or ".join(f'"{part}"' for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_name(part) for part in parts if part is not type(None))
    if origin in (list, tuple):
        return f"a list, each {_type_name(parts[0])}" if parts else "a list"
    if origin is dict:
        return f"a table with {_type_name(parts[1])} a name"
    if _struct_in(kind) is not None:
        return "a table"
    return str(error).removeprefix("Expected ") if error else str(kind)


def _bounds(meta: msgspec.Meta) -> str:
    """The limits of a number, in words."""
    low = f" from {meta.ge}" if meta.ge is not None else f" above {meta.gt}" if meta.gt is not None else ""
    high = f" to {meta.le}" if meta.le is not None else f" below {meta.lt}" if meta.lt is not None else ""
    pattern = f" that matches {meta.pattern}" if meta.pattern is not None else ""
    return low + (high or (" on" if meta.ge is not None else "")) + pattern


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def dotted(path: KeyPath) -> str:
    """`data.sources.0.path`."""
    return ".".join(str(part) for part in path)


def line_of(text: str, path: KeyPath) -> int | None:
    """The line that brings `path` into the file: the shortest prefix of the text that parses and has it."""
    lines = text.splitlines(keepends=True)
    for count in range(1, len(lines) + 1):
        try:
            values: Any = tomllib.loads("".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
        try:
            for part in path:
                values = values[part]
        except (KeyError, IndexError, TypeError):
            continue
        return count
    return None
