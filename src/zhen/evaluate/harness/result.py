"""A result of `zhen evaluate` as it lies on disk: `results.json` about the whole, `items.jsonl` with every item."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from zhen.errors import ZhenError
from zhen.evaluate.items import Item
from zhen.formats.files import Digest, write_bytes
from zhen.formats.record import Host

RESULTS = "results.json"
ITEMS = "items.jsonl"

Bos = Literal["none", "add"]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was asked for."""

    tasks: list[str]
    """Names, suites taken apart; a file of one's own by its path."""
    suites: list[str] = []
    """Those that tasks came from."""
    data: str
    limit: int | None = None
    shots: int | None = None
    """None: each task's own number."""
    shot_seed: int = 1234
    """Of the choice of examples, the harness's own; and of the keys of long texts."""
    bos: Bos = "none"
    template: bool = False
    dtype: str | None = None
    batch: int = 32
    shards: str | None = None
    """A run's, in which questions are looked for. None: those of each checkpoint's own run, where it has one."""
    lengths: list[int] | None = None
    """Tokens of long texts. None: up to the longest context of the models."""


class HowAsked(msgspec.Struct, frozen=True, kw_only=True):
    """What decides what a task asks and how it scores."""

    shots: int
    sampler: str
    """How examples are chosen: `first_n` in their order, `default` at random by the seed."""
    version: str
    """Of the task's settings in the harness."""
    score: str
    """The metric that is the task's score."""
    settings: dict[str, str]
    """Fields of the task's settings, as text."""
    data: dict[str, str]
    """File -> SHA-256."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A model and what it scored."""

    checkpoint: str
    files: dict[str, str]
    """Weights and config: name -> SHA-256, or size and time beyond 10 GB."""
    tokenizer: str
    """SHA-256."""
    template: str | None
    """SHA-256 of the chat template that prompts were put in."""
    dtype: str
    device: str
    context_length: int
    results: dict[str, dict[str, Any]]
    """Task -> score, stderr, n, …"""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """`results.json`."""

    options: Options
    tasks: dict[str, HowAsked]
    models: dict[str, Measured]
    skipped: list[str]
    """Tasks left out for want of their files."""
    paired: list[dict[str, Any]]
    """Differences between models on the same items, each with its standard error."""
    versions: dict[str, str]
    host: Host
    command: list[str]
    started: str
    seconds: float


class Loaded(msgspec.Struct, frozen=True):
    """A result with its items."""

    path: Path
    result: Result
    items: dict[str, list[Item]]
    """By model."""


def write_items(path: Path, items: dict[str, Sequence[Item]]) -> Digest:
    """Write `items.jsonl`: a line an item, with the model's name in front."""
    lines = [{"model": name} | msgspec.to_builtins(item) for name, some in items.items() for item in some]
    return write_bytes(path, msgspec.json.Encoder().encode_lines(lines))


def load_result(path: Path) -> Loaded:
    """A result from its folder or its `results.json`. Raises ZhenError where it is none or damaged."""
    path = path / RESULTS if path.is_dir() else path
    try:
        result = msgspec.json.decode(path.read_bytes(), type=Result)
        lines = (path.parent / ITEMS).read_bytes().splitlines()
        items: dict[str, list[Item]] = {name: [] for name in result.models}
        for line in lines:
            items[_MODEL.decode(line).model].append(_ITEM.decode(line))
    except OSError as error:
        raise ZhenError(
            f"cannot be read: {error.strerror}", expected="a folder that `zhen evaluate` wrote", file=error.filename
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
        raise ZhenError(f"is not a result of `zhen evaluate`: {error}", file=path) from error
    return Loaded(path, result, items)


class _Model(msgspec.Struct, frozen=True):
    model: str


_MODEL = msgspec.json.Decoder(_Model)
_ITEM = msgspec.json.Decoder(Item)
