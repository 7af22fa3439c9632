"""The whole recipe: the sections of all stages, resolved and checked; every mistake of a file at once, with lines."""

from __future__ import annotations

import itertools
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from zhen.data.settings import MADE, DataSettings
from zhen.errors import ManyErrors, ZhenError, did_you_mean, missing_extra
from zhen.evaluate.settings import DIALOGUE, SAMPLEWEB, EvaluateSettings
from zhen.formats.settings import KeyPath, Mistake, convert, line_of
from zhen.model.config import PRESETS, ModelConfig, from_config_json
from zhen.quantize.settings import QuantizeSettings
from zhen.release.settings import ReleaseSettings
from zhen.sampleweb.settings import SamplewebSettings
from zhen.sections import AblateSettings, ModelSettings, PlanSettings, RunSettings
from zhen.shards.settings import ShardsSettings
from zhen.tokenizer.settings import TokenizerSettings
from zhen.train.extended import extend_problems
from zhen.train.settings import ExtendSettings, PretrainSettings
from zhen.tune.settings import SAMPLEWEB as DIALOGUES
from zhen.tune.settings import TuneSettings


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recipe: one field a section. A section that is None is not in the recipe."""

    run: RunSettings
    sampleweb: SamplewebSettings | None = None
    data: DataSettings | None = None
    tokenizer: TokenizerSettings | None = None
    shards: ShardsSettings = ShardsSettings()
    model: ModelSettings = ModelSettings()
    pretrain: PretrainSettings | None = None
    extend: ExtendSettings | None = None
    tune: TuneSettings | None = None
    quantize: QuantizeSettings | None = None
    evaluate: EvaluateSettings = EvaluateSettings()
    release: ReleaseSettings = ReleaseSettings()
    ablate: AblateSettings | None = None
    plan: PlanSettings | None = None


def load_recipe(path: Path, sets: Sequence[str] = (), data_folders: Sequence[str] = ()) -> Recipe:
    """Read, override (`key.path=TOML value`), resolve and check a recipe.

    Raises ZhenError for a file that is no TOML, ManyErrors with every mistake otherwise.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ZhenError("no such recipe", file=path, hint="recipes/ has some; see `zhen run --help`") from error
    except (OSError, UnicodeDecodeError) as error:
        why = (isinstance(error, OSError) and error.strerror) or error
        raise ZhenError(f"could not be read: {why}", expected="a recipe, a TOML file", file=path) from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ZhenError(f"is not TOML: {error}", file=path) from error
    given_by: dict[KeyPath, str] = {}
    if data_folders:
        _bring_data(values, data_folders, given_by)
    _override(values, sets, given_by)
    mistakes: list[Mistake] = []
    recipe = convert(values, Recipe, (), mistakes)
    if recipe is not None:
        mistakes.extend(_problems(recipe))
    if mistakes:
        raise ManyErrors(
            [
                ZhenError(found, expected=expected, file=path, place=_place(text, key, given_by), hint=hint)
                for key, found, expected, hint in mistakes
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
    if dotted == "model.init":
        return expand(recipe.model.init) if recipe.model.init is not None else None
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
        raise ZhenError(f'"{path}": the environment variable {name} is not set', hint=f"export {name}=/a/folder")
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
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value]
    return value


def _bring_data(values: dict[str, Any], folders: Sequence[str], given_by: dict[KeyPath, str]) -> None:
    """`--data FOLDER`: these sources instead of the recipe's, and no sample web."""
    values.pop("sampleweb", None)
    names: list[str] = []
    for folder in folders:
        names.append(_source_name(folder, names))
    data = values.setdefault("data", {})
    for trained in (values.get("pretrain"), values.get("extend")):
        if isinstance(trained, dict):
            trained.pop("mixture", None)
            trained.pop("phases", None)
    _without_sampleweb(values)
    if not isinstance(data, dict):
        return  # told as a mistake of the file
    data["sources"] = [{"name": name, "path": folder} for name, folder in zip(names, folders, strict=True)]
    given_by[("data", "sources")] = f"--data {' '.join(folders)}"


def _without_sampleweb(values: dict[str, Any]) -> None:
    """Take the sample web's dialogues off `tune.data`, its questions off `evaluate.tasks`, and what is empty then."""
    evaluate = values.get("evaluate")
    if _taken_off(values.get("tune"), "data", [DIALOGUES]):  # nothing is tuned any more
        del values["tune"]
        _taken_off(evaluate, "of", ["tune"])
    tasks = evaluate.get("tasks") if isinstance(evaluate, dict) else None
    asked = isinstance(tasks, list) and any(str(task).endswith(".jsonl") for task in tasks)
    _taken_off(evaluate, "tasks", [SAMPLEWEB] if asked else [SAMPLEWEB, DIALOGUE])


def _taken_off(section: Any, key: str, names: Sequence[str]) -> bool:
    """Take names off a list of a section, and the list away where nothing remains; whether that is so."""
    if not isinstance(section, dict) or not isinstance(found := section.get(key), list):
        return False
    section[key] = [name for name in found if name not in names]
    if not section[key]:
        del section[key]
    return key not in section


def _source_name(folder: str, taken: Sequence[str]) -> str:
    """A name for the source in `folder`: the folder's own, made one that a source may have and no other has."""
    name = folder.rstrip("/").rsplit("/", 1)[-1]
    if name in ("", ".", ".."):
        name = Path(folder).resolve().name
    name = "".join(char for char in name if char.isprintable()).lstrip(". ") or "data"
    names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    return next(free for free in names if free not in taken)


def _override(values: dict[str, Any], sets: Sequence[str], given_by: dict[KeyPath, str]) -> None:
    """Apply `--set key.path=value`; the value is TOML, or a bare word taken as a string."""
    for text in sets:
        key, equals, raw = text.partition("=")
        if not equals or not key.strip():
            raise ZhenError(f'"{text}"', place="--set", expected="key.path=value", hint="--set pretrain.tokens=1000000")
        try:
            value = tomllib.loads(f"value = {' '.join(raw.splitlines())}")["value"]
        except tomllib.TOMLDecodeError:
            value = raw.strip()
        table: Any = values
        path: KeyPath = ()
        *above, last = _key_path(key.strip())
        for part in above:
            path += (_place_in(table, part),)
            table = table.setdefault(part, {}) if isinstance(table, dict) else _entry(table, path[-1])
        path += (_place_in(table, last),)
        if not isinstance(table, dict) and _entry(table, path[-1]) is None:
            raise ZhenError(
                f'"{key.strip()}" leads through a value that is no table, or to no entry of a list',
                expected="a key of a section, or the number of an entry that is there",
                place=f"--set {text}",
            )
        table[path[-1]] = value
        given_by[path] = f"--set {key.strip()}"


def _key_path(key: str) -> list[str]:
    """The parts of a dotted TOML key, quoted ones too."""
    try:
        value: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return key.split(".")
    parts: list[str] = []
    while isinstance(value, dict):
        part = next(iter(value))
        parts, value = [*parts, part], value[part]
    return parts


def _place_in(table: Any, part: str) -> str | int:
    """A part of a key as `table` takes it: lists take numbers."""
    return int(part) if isinstance(table, list) and part.isdecimal() else part


def _entry(table: Any, place: str | int) -> Any:
    """The entry of a list, or None."""
    return table[place] if isinstance(table, list) and isinstance(place, int) and place < len(table) else None


def _problems(recipe: Recipe) -> Iterator[Mistake]:
    """Impossible values and combinations, of one section and between sections."""
    for name in Recipe.__struct_fields__:
        settings = getattr(recipe, name)
        if hasattr(settings, "problems"):
            for field, found, expected in settings.problems():
                yield Mistake((name, *_parts(field)), f"{name}.{field} = {found}", expected)
    yield from _model_problems(recipe)
    yield from _source_problems(recipe)


def _parts(field: str) -> KeyPath:
    """`sources.0.path` as a path into the file: numbers are places in a list."""
    return tuple(int(part) if part.isdigit() else part for part in field.split("."))


def _model_problems(recipe: Recipe) -> Iterator[Mistake]:
    settings, pretrain = recipe.model, recipe.pretrain
    if settings.preset is not None and settings.preset not in PRESETS:
        hint = did_you_mean(settings.preset, PRESETS)
        yield Mistake(("model", "preset"), f'model.preset = "{settings.preset}"', f"one of {', '.join(PRESETS)}", hint)
        return
    if pretrain is None and settings.init is not None and (recipe.tune is not None or recipe.extend is not None):
        yield from _extend_problems(recipe)
        return
    if pretrain is None:
        found = "no [pretrain]" if settings.init is None else "model.init without [pretrain]"
        yield Mistake(("model", "init"), found, "a section [pretrain] that makes or goes on from the model")
        return
    if settings.preset is None and settings.init is None:
        required = [field.name for field in msgspec.structs.fields(ModelConfig) if field.required]
        missing = [name for name in required if name not in _given(settings)]
        if missing:
            expected = "a preset, init, or the fields of config.json"
            yield Mistake(("model",), f"[model] without {', '.join(missing)}", expected)
            return
    if settings.init is None and recipe.tokenizer is None:
        yield Mistake(("tokenizer",), "no [tokenizer]", "a section [tokenizer] with vocab_size, or [model] init")
    try:
        config = model_config(recipe)
    except ZhenError as error:
        yield Mistake(("model", "init"), error.text(), None, error.hint)
        return
    for name, found, expected in config.problems():
        yield Mistake(("model", name), f"model.{name} = {found}", expected)
    pieces = recipe.tokenizer.vocab_size if recipe.tokenizer and settings.init is None else 0
    if config.vocab_size and config.vocab_size < pieces:
        found = f"model.vocab_size = {config.vocab_size}"
        yield Mistake(("model", "vocab_size"), found, f"at least tokenizer.vocab_size = {pieces}")
    for name, found, expected in pretrain.parallel.problems(
        msgspec.structs.replace(config, vocab_size=config.vocab_size or pieces)
    ):
        yield Mistake(("pretrain", "parallel", name), f"pretrain.parallel.{name} = {found}", expected)
    if pretrain.sequence_length > config.max_position_embeddings:
        found = f"pretrain.sequence_length = {pretrain.sequence_length}"
        expected = f"at most the model's max_position_embeddings = {config.max_position_embeddings}"
        yield Mistake(("pretrain", "sequence_length"), found, expected)
        return
    yield from _extend_problems(recipe)


def _extend_problems(recipe: Recipe) -> Iterator[Mistake]:
    """What can't be of [extend] with the model that [pretrain] makes, or the one in `model.init`."""
    if recipe.extend is None:
        return
    if recipe.pretrain is None and _given(recipe.model):
        given = ", ".join(_given(recipe.model))
        yield Mistake(("model",), f"{given} beside init, without [pretrain]", "init alone: [extend] says what changes")
        return
    try:
        config = model_config(recipe)
    except ZhenError as error:
        yield Mistake(("model", "init"), error.text(), None, error.hint)
        return
    if recipe.pretrain is not None and recipe.model.init is None:  # what its checkpoint claims
        config = msgspec.structs.replace(config, max_position_embeddings=recipe.pretrain.sequence_length)
    for field, found, expected, hint in extend_problems(config, recipe.extend):
        yield Mistake(("extend", *_parts(field)), f"extend.{field} = {found}", expected, hint)
    if not config.vocab_size and recipe.tokenizer is not None:
        config = msgspec.structs.replace(config, vocab_size=recipe.tokenizer.vocab_size)
    for field, found, expected in recipe.extend.parallel.problems(config):
        yield Mistake(("extend", "parallel", field), f"extend.parallel.{field} = {found}", expected)


def _source_problems(recipe: Recipe) -> Iterator[Mistake]:
    if recipe.tune is not None and DIALOGUES in recipe.tune.data and recipe.sampleweb is None:
        yield Mistake(("tune", "data"), f'the dialogues of "{DIALOGUES}"', "a section [sampleweb]")
    if (
        recipe.pretrain is None and recipe.extend is None and recipe.tune is not None
    ):  # a checkpoint of others is tuned: no text is read
        if recipe.tune.text_share:
            yield Mistake(
                ("tune", "text_share"), "text without [pretrain]", "none: no text is known that the model was made of"
            )
        return
    if recipe.data is None or not recipe.data.sources:
        yield Mistake(("data",), "no source of data", "at least one [[data.sources]], or --data FOLDER")
        return
    sources = recipe.data.sources
    uses = {index: source.path for index, source in enumerate(sources) if source.path in MADE}
    if recipe.sampleweb is None:
        for index, path in uses.items():
            yield Mistake(("data", "sources", index, "path"), f'the source "{path}"', "a section [sampleweb]")
        if SAMPLEWEB in recipe.evaluate.tasks:
            yield Mistake(("evaluate", "tasks"), f'the task "{SAMPLEWEB}"', "a section [sampleweb]")
    elif "sampleweb" not in uses.values():
        yield Mistake(("sampleweb",), "[sampleweb] that no source reads", 'a source with path = "sampleweb"')
    elif not recipe.sampleweb.strings:
        for index in (index for index, path in uses.items() if path != "sampleweb"):
            place, found = ("data", "sources", index, "path"), f'the source "{uses[index]}" of none'
            yield Mistake(place, found, "sampleweb.strings of 1 or more")
    names = [source.name for source in sources]
    for section, trained in (("pretrain", recipe.pretrain), ("extend", recipe.extend)):
        for at, phase in enumerate(trained.mixtures if trained else ()):
            where: KeyPath = (section, "phases", at, "mixture") if trained and trained.phases else (section, "mixture")
            for name in phase.mixture or {}:
                if name not in names:
                    yield Mistake((*where, name), f'the mixture\'s "{name}"', f"one of {', '.join(names)}")


def _place(text: str, path: KeyPath, given_by: Mapping[KeyPath, str]) -> str | None:
    """Where a value was given: the option that set it, else the line of the file, else the nearest line above it."""
    for option, name in given_by.items():
        if path[: len(option)] == option:
            return name
    for end in range(len(path), 0, -1):
        line = line_of(text, path[:end])
        if line is not None:
            return f"line {line}"
    return next((name for option, name in given_by.items() if option[: len(path)] == path), None)
