"""The whole recipe: sections of all stages, resolved and checked; every mistake of a file at once, each with its line."""

from __future__ import annotations

import os
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from zhen.data.settings import DataSettings
from zhen.errors import ManyErrors, ZhenError, did_you_mean, missing_extra
from zhen.evaluate.settings import EvaluateSettings
from zhen.model.config import PRESETS, ModelConfig, RopeScaling, from_config_json
from zhen.release.settings import ReleaseSettings
from zhen.sampleweb.settings import SamplewebSettings
from zhen.shards.settings import ShardsSettings
from zhen.tokenizer.settings import TokenizerSettings
from zhen.train.settings import PretrainSettings

KeyPath = tuple[str | int, ...]
SettingsT = TypeVar("SettingsT", bound=msgspec.Struct)


class RunSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[run]`: what the run is called and where its randomness starts."""

    name: str
    """The run's folder is `runs/<name>` unless `--out` says otherwise. Changes no key."""
    seed: int = 1
    """Every stage's random choices are functions of it."""

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """(field, found, expected) for values that can't be used."""
        if not self.name or self.name in {".", ".."} or not set(self.name).isdisjoint("/\\\0"):
            yield "name", f'"{self.name}"', "a folder's name"


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[model]`: a preset, fields of `config.json` over it, or a checkpoint to go on from."""

    preset: str | None = None
    """One of the named configurations of `zhen.model.config.PRESETS`."""
    init: str | None = None
    """Folder of a LLaMA-shaped checkpoint to go on from; its configuration and tokenizer are taken."""
    hidden_size: int | None = None
    """Width of the residual stream."""
    intermediate_size: int | None = None
    """Width of the feed-forward layer."""
    num_hidden_layers: int | None = None
    """Decoder layers."""
    num_attention_heads: int | None = None
    """Query heads."""
    num_key_value_heads: int | None = None
    """Key-value heads; equal to the query heads for MHA, 1 for MQA."""
    head_dim: int | None = None
    """Size of a head."""
    vocab_size: int | None = None
    """Rows of the embedding; the tokenizer's size when left out."""
    max_position_embeddings: int | None = None
    """Longest context, in tokens."""
    rms_norm_eps: float | None = None
    """Added to the mean square in RMSNorm."""
    rope_theta: float | None = None
    """Base of the rotary embedding."""
    rope_scaling: RopeScaling | None = None
    """Scaling of the rotary embedding, as in `config.json`."""
    tie_word_embeddings: bool | None = None
    """Whether the head is the embedding."""
    initializer_range: float | None = None
    """Standard deviation of the initial weights."""
    norm_place: str | None = None
    """`pre`, or `post` for ablations (never released)."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recipe: one field a section. A section that is None is not in the recipe."""

    run: RunSettings
    sampleweb: SamplewebSettings | None = None
    data: DataSettings | None = None
    tokenizer: TokenizerSettings | None = None
    shards: ShardsSettings = ShardsSettings()
    model: ModelSettings = ModelSettings()
    pretrain: PretrainSettings | None = None
    evaluate: EvaluateSettings = EvaluateSettings()
    release: ReleaseSettings = ReleaseSettings()


def load_recipe(path: Path, sets: Sequence[str] = (), data_folders: Sequence[str] = ()) -> Recipe:
    """Read, override (`key.path=TOML value`), resolve and check a recipe.

    Raises ZhenError for a file that is no TOML, ManyErrors with every mistake otherwise.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ZhenError("no such recipe", file=path, hint="recipes/ has some; see `zhen run --help`") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ZhenError(f"could not be read: {error}", file=path) from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ZhenError(f"is not TOML: {error}", file=path) from error
    given_by: dict[KeyPath, str] = {}
    if data_folders:
        _bring_data(values, data_folders, given_by)
    _override(values, sets, given_by)
    errors: list[tuple[KeyPath, str, str | None, str | None]] = []
    recipe = _convert(values, Recipe, (), errors)
    if not errors and recipe is not None:
        errors.extend((key, found, expected, None) for key, found, expected in _problems(recipe))
    if errors:
        errors.sort(key=lambda item: [str(part) for part in item[0]])
        raise ManyErrors(
            [
                ZhenError(found, expected=expected, file=path, place=_place(text, key, given_by), hint=hint)
                for key, found, expected, hint in errors
            ]
        )
    assert recipe is not None
    return recipe


def model_config(recipe: Recipe) -> ModelConfig:
    """The model's configuration: init's or the preset's, with the recipe's fields over it.

    `vocab_size` is 0 where it is left to the tokenizer. Raises ZhenError for an unreadable `init`.
    """
    settings = recipe.model
    if settings.init is not None:
        config_path = Path(expand(settings.init)) / "config.json"
        try:
            base = from_config_json(msgspec.json.decode(config_path.read_bytes()), config_path)
        except (OSError, msgspec.DecodeError) as error:
            raise ZhenError(
                f"no readable configuration of a checkpoint: {error}",
                file=config_path,
                hint="`[model] init` names a folder with config.json, weights and tokenizer",
            ) from error
        return msgspec.structs.replace(base, **_given(settings))
    if settings.preset is not None:
        return msgspec.structs.replace(PRESETS[settings.preset], **_given(settings))
    return ModelConfig(**_given(settings))


def _given(settings: ModelSettings) -> dict[str, Any]:
    """The fields of `config.json` that the recipe sets."""
    names = ModelConfig.__struct_fields__
    return {name: value for name in names if (value := getattr(settings, name, None)) is not None}


def section(recipe: Recipe, dotted: str) -> Any:
    """A value of the recipe by its dotted name; `model` is the resolved configuration. None where it is absent."""
    if dotted == "model":
        return model_config(recipe)
    value: Any = recipe
    for part in dotted.split("."):
        if value is None:
            return None
        value = getattr(value, part)
    return value


def expand(path: str) -> str:
    """`path` with each `${VARIABLE}` replaced. Raises ZhenError for one that is not set."""
    expanded = os.path.expandvars(path)
    if "${" in expanded:
        name = expanded.split("${", 1)[1].split("}", 1)[0]
        raise ZhenError(f"the environment variable {name} is not set", place=path, hint=f"export {name}=/a/folder")
    return os.path.expanduser(expanded)


def to_toml(recipe: Recipe) -> str:
    """The resolved recipe as TOML (absent values left out)."""
    try:
        import tomli_w
    except ImportError as error:
        raise missing_extra("tomli-w", "make", "writing a recipe") from error
    return tomli_w.dumps(_without_none(msgspec.to_builtins(recipe)))


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value


def _bring_data(values: dict[str, Any], folders: Sequence[str], given_by: dict[KeyPath, str]) -> None:
    """`--data FOLDER`: these sources instead of the recipe's, and no sample web."""
    values.pop("sampleweb", None)
    names: list[str] = []
    for folder in folders:
        name = Path(folder.rstrip("/")).name or "data"
        names.append(f"{name}-{names.count(name) + 1}" if name in names else name)
    data = values.setdefault("data", {})
    data["sources"] = [{"name": name, "path": folder} for name, folder in zip(names, folders, strict=True)]
    given_by[("data", "sources")] = f"--data {' '.join(folders)}"
    values.get("pretrain", {}).pop("mixture", None)


def _override(values: dict[str, Any], sets: Sequence[str], given_by: dict[KeyPath, str]) -> None:
    """Apply `--set key.path=value`; the value is TOML, or a bare word taken as a string."""
    for text in sets:
        dotted, equals, raw = text.partition("=")
        if not equals or not dotted.strip():
            raise ZhenError(f'"{text}"', place="--set", expected="key.path=value", hint="--set pretrain.tokens=1000000")
        try:
            value = tomllib.loads(f"value = {raw}")["value"]
        except tomllib.TOMLDecodeError:
            value = raw.strip()
        path = tuple(dotted.strip().split("."))
        table: Any = values
        for part in path[:-1]:
            table = table.setdefault(part, {}) if isinstance(table, dict) else None
            if not isinstance(table, dict):
                raise ZhenError(f'"{dotted}" leads through a value that is no table', place=f"--set {text}")
        table[path[-1]] = value
        given_by[path] = f"--set {dotted.strip()}"


def _convert(
    value: Any, kind: type[SettingsT], path: KeyPath, errors: list[tuple[KeyPath, str, str | None, str | None]]
) -> SettingsT | None:
    """Convert a table field by field, collecting every mistake instead of stopping at the first."""
    if not isinstance(value, Mapping):
        errors.append((path, f"{_dotted(path)} = {value!r}", "a table", None))
        return None
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    before = len(errors)
    for name in value:
        if name not in fields:
            errors.append(((*path, name), f'unknown key "{_dotted((*path, name))}"', None, did_you_mean(name, fields)))
    converted: dict[str, Any] = {}
    for name, field in fields.items():
        here = (*path, name)
        if name not in value:
            if field.required:
                errors.append((path or (name,), f'"{_dotted(here)}" is missing', _type_name(field.type), None))
            continue
        converted[name] = _convert_value(value[name], field.type, here, errors)
    return None if len(errors) > before else kind(**converted)


def _convert_value(
    value: Any, kind: Any, path: KeyPath, errors: list[tuple[KeyPath, str, str | None, str | None]]
) -> Any:
    settings = _struct_in(kind)
    if settings is not None and typing.get_origin(kind) is not list:
        return _convert(value, settings, path, errors)
    if settings is not None and isinstance(value, list):
        return [_convert(item, settings, (*path, index), errors) for index, item in enumerate(value)]
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        errors.append((path, f"{_dotted(path)} = {_toml(value)}", _type_name(kind, error), None))
        return None


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    """The settings class that `kind` is, holds optionally, or lists."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    if typing.get_origin(kind) in (typing.Union, types.UnionType, list):
        return next((found for part in typing.get_args(kind) if (found := _struct_in(part))), None)
    return None


_WORDS = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}


def _type_name(kind: Any, error: msgspec.ValidationError | None = None) -> str:
    """What the field takes, in words."""
    if kind in _WORDS:
        return _WORDS[kind]
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
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


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _dotted(path: KeyPath) -> str:
    return ".".join(str(part) for part in path)


def _problems(recipe: Recipe) -> Iterator[tuple[KeyPath, str, str]]:
    """Impossible values and combinations, of one section and between sections."""
    for name in Recipe.__struct_fields__:
        settings = getattr(recipe, name)
        if hasattr(settings, "problems"):
            for field, found, expected in settings.problems():
                yield (name, *field.split(".")), f"{name}.{field} = {found}", expected
    yield from _model_problems(recipe)
    yield from _source_problems(recipe)


def _model_problems(recipe: Recipe) -> Iterator[tuple[KeyPath, str, str]]:
    settings = recipe.model
    if settings.preset is not None and settings.preset not in PRESETS:
        match = did_you_mean(settings.preset, PRESETS)
        known = f"{match.removesuffix('?')}, or one of " if match else "one of "
        yield ("model", "preset"), f'model.preset = "{settings.preset}"', known + ", ".join(PRESETS)
        return
    if settings.init is not None and recipe.pretrain is None:
        yield ("model", "init"), "model.init without [pretrain]", "a [pretrain] section that goes on from it"
        return
    if recipe.pretrain is None:
        yield ("pretrain",), "no [pretrain]", "a section [pretrain]"
        return
    if settings.preset is None and settings.init is None:
        required = [field.name for field in msgspec.structs.fields(ModelConfig) if field.required]
        missing = [name for name in required if name not in _given(settings)]
        if missing:
            yield ("model",), f"[model] without {', '.join(missing)}", "a preset, init, or the fields of config.json"
            return
    config = model_config(recipe)
    for name, found, expected in config.problems():
        yield ("model", name), f"model.{name} = {found}", expected
    if config.vocab_size and recipe.tokenizer and settings.init is None:
        if config.vocab_size < recipe.tokenizer.vocab_size:
            yield (
                ("model", "vocab_size"),
                f"model.vocab_size = {config.vocab_size}",
                f"at least tokenizer.vocab_size = {recipe.tokenizer.vocab_size}",
            )
    if recipe.pretrain.sequence_length > config.max_position_embeddings:
        yield (
            ("pretrain", "sequence_length"),
            f"pretrain.sequence_length = {recipe.pretrain.sequence_length}",
            f"at most the model's max_position_embeddings = {config.max_position_embeddings}",
        )
    if settings.init is None and recipe.tokenizer is None:
        yield ("tokenizer",), "no [tokenizer]", "a section [tokenizer] with vocab_size, or [model] init"


def _source_problems(recipe: Recipe) -> Iterator[tuple[KeyPath, str, str]]:
    if recipe.data is None or not recipe.data.sources:
        yield ("data",), "no source of data", "at least one [[data.sources]], or --data FOLDER"
        return
    uses = [index for index, source in enumerate(recipe.data.sources) if source.path == "sampleweb"]
    for index in uses:
        if recipe.sampleweb is None:
            yield ("data", "sources", index, "path"), 'the source "sampleweb" without a section', "[sampleweb]"
    if recipe.sampleweb is not None and not uses:
        yield ("sampleweb",), "[sampleweb] that no source reads", 'a source with path = "sampleweb"'
    names = {source.name for source in recipe.data.sources}
    mixture = recipe.pretrain.mixture if recipe.pretrain else None
    for name in mixture or {}:
        if name not in names:
            yield (
                ("pretrain", "mixture", name),
                f'pretrain.mixture names "{name}"',
                f"one of {', '.join(sorted(names))}",
            )


def _place(text: str, path: KeyPath, given_by: Mapping[KeyPath, str]) -> str | None:
    """Where a value was given: the option that set it, else the line of the file, else the nearest line above it."""
    for option, name in given_by.items():
        if path[: len(option)] == option:
            return name
    for end in range(len(path), 0, -1):
        line = _line_of(text, path[:end])
        if line is not None:
            return f"line {line}"
    return None


def _line_of(text: str, path: KeyPath) -> int | None:
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
