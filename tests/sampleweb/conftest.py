"""A small web made once for the tests of this room, and a stand-in for the runner."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from zhen.formats.record import Figure
from zhen.formats.stage import Context
from zhen.sampleweb.composing import COMPOSERS
from zhen.sampleweb.settings import SamplewebSettings
from zhen.sampleweb.stage import make
from zhen.sampleweb.world import World, build_world

SETTINGS = SamplewebSettings(people=20, pages=500)
SEED = 7


class Silent:
    """A progress line that shows nothing."""

    def update(self, done: float, total: float | None, unit: str, facts: str = "") -> None:
        pass

    def note(self, text: str) -> None:
        pass


@dataclass
class Web:
    folder: Path
    context: Context
    figures: dict[str, Figure]
    world: World
    pages: list[dict[str, Any]]
    """The good pages."""
    faulty: list[dict[str, Any]]
    facts: list[dict[str, Any]]

    def items(self, pattern: str) -> list[dict[str, Any]]:
        return [item for path in sorted(self.folder.glob(f"tasks/{pattern}")) for item in read_lines(path)]

    def text(self, lang: str | None = None) -> str:
        return "\n".join(page["text"] for page in self.pages if lang in (None, page["lang"]))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def make_web(folder: Path, settings: SamplewebSettings = SETTINGS, seed: int = SEED) -> Web:
    folder.mkdir(parents=True, exist_ok=True)
    sections = {"sampleweb": settings, "run.seed": seed}
    context = Context(folder, sections, {}, Silent(), lambda: False, 1)
    figures = make(context)
    key = folder / "key"
    world = build_world(settings, seed)
    rows = read_lines(key / "pages.jsonl")
    good = [row for row in rows if row["kind"] in COMPOSERS]
    faulty = [row for row in rows if row["kind"] not in COMPOSERS]
    return Web(folder, context, figures, world, good, faulty, read_lines(key / "facts.jsonl"))


def files_added(before: Web, after: Web) -> set[str]:
    """The files that only the second has. All others but the key are the same byte for byte."""
    old, new = (
        {str(path.relative_to(web.folder)): path for path in web.folder.rglob("*") if path.is_file()}
        for web in (before, after)
    )
    for name, path in old.items():
        if not name.startswith("key/"):
            assert new[name].read_bytes() == path.read_bytes(), name
    return new.keys() - old.keys()


@pytest.fixture(scope="session")
def added() -> Any:
    return files_added


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Web:
    return make_web(tmp_path_factory.mktemp("sampleweb"))


@pytest.fixture(scope="session")
def remake() -> Any:
    return make_web
