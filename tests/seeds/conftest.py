"""The demo at a small size from five generator seeds: webs that the stages of data, tokenizer and shards went over."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from zhen.evaluate.in_training import training_texts
from zhen.formats.record import Record
from zhen.recipe import load_recipe
from zhen.run import Run
from zhen.sampleweb.settings import SamplewebSettings
from zhen.sampleweb.world import World, build_world
from zhen.tokenizer.load import load_tokenizer

TINY = Path(__file__).resolve().parents[2] / "recipes" / "tiny.toml"
SMALL = ("sampleweb.people=20", "sampleweb.pages=600", "data.held_out_bytes=10_000", "tokenizer.vocab_size=1280")
SEEDS = (1, 2, 3, 4, 5)


def _take(folder: Path, stages: Sequence[str], sets: Sequence[str]) -> dict[str, Record]:
    return Run(load_recipe(TINY, sets), folder, command=["zhen", "run"], workers=1, ray=None).take(stages)


@pytest.fixture(scope="session")
def take() -> Callable[[Path, Sequence[str], Sequence[str]], dict[str, Record]]:
    """`take(folder, stages, sets)`: what `zhen run recipes/tiny.toml STAGES --set …` does, in this process."""
    return _take


@dataclass(frozen=True)
class Seeded:
    """What the stages up to the shards made of a seed."""

    seed: int
    folder: Path

    @cached_property
    def world(self) -> World:
        """The invented world that the web is about."""
        settings = load_recipe(TINY, SMALL).sampleweb
        assert isinstance(settings, SamplewebSettings)
        return build_world(settings, self.seed)

    @cached_property
    def training(self) -> list[tuple[str, str]]:
        """Place and text of every training document, decoded from the shards."""
        return list(training_texts(self.folder / "shards", load_tokenizer(self.folder / "tokenizer"), lambda _: None))

    @cached_property
    def kept(self) -> list[dict[str, Any]]:
        """`url`, `lang`, `text` of the pages that are trained on, with the `kind` that the key has of the page, or of
        the one that it is a copy of."""
        key = (self.folder / "sampleweb" / "key" / "pages.jsonl").read_text("utf-8")
        pages = {row["url"]: row for row in map(json.loads, key.split("\n")[:-1])}
        kinds = {url: pages[row.get("exact_of") or row.get("near_of") or url]["kind"] for url, row in pages.items()}
        tables = [
            pq.read_table(path, columns=["url", "lang", "text"]) for path in (self.folder / "data/kept").iterdir()
        ]
        return [row | {"kind": kinds[row["url"]]} for table in tables for row in table.to_pylist()]


@pytest.fixture(scope="session")
def all_seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Seeded]:
    base = tmp_path_factory.mktemp("seeds")
    made = [Seeded(seed, base / str(seed)) for seed in SEEDS]
    for each in made:
        _take(each.folder, ["shards"], [*SMALL, f"run.seed={each.seed}"])
    return made


@pytest.fixture(params=SEEDS)
def seeded(request: pytest.FixtureRequest, all_seeds: list[Seeded]) -> Seeded:
    return next(each for each in all_seeds if each.seed == request.param)
