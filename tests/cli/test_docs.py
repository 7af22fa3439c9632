"""The docs say what the program says: the record's schema, its packages; links lead somewhere, and to every page."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from zhen.formats.record import Record
from zhen.run import STAGES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
DEPENDENCIES = ROOT / "docs" / "dependencies.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """What a page links to in the repository: (file, anchor or "")."""
    for link in re.findall(r"""(?:\]\(|src=")([^)"\s]+)""", page.read_text()):
        if "://" not in link:
            file, _, anchor = link.partition("#")
            yield (page.parent / file).resolve() if file else page, anchor


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(each).name) for each in requirements} - {"zhen"}


def test_the_schema_in_the_docs_is_the_records() -> None:
    block = re.search(r"```json\n(.*?)\n```", (ROOT / "docs" / "formats.md").read_text(), re.DOTALL)
    assert block is not None
    assert json.loads(block[1]) == msgspec.json.schema(Record)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    assert [str(file) for file, _ in links(page) if not file.exists()] == []
    assert [(file.name, anchor) for file, anchor in links(page) if anchor and anchor not in anchors(file)] == []


@pytest.mark.parametrize("start", ["README.md", "README_CN.md"])
def test_every_page_and_picture_is_reached_from_the_readmes(start: str) -> None:
    found: set[Path] = set()
    waiting = [ROOT / start]
    while waiting:
        page = waiting.pop()
        if page not in found:
            found.add(page)
            waiting += [file for file, _ in links(page)] if page.suffix == ".md" else []
    assert {path for path in (*PAGES, *ROOT.glob("docs/images/*")) if path not in found} == set()


def test_both_readmes_lead_to_the_same_pages_and_show_the_same_figures() -> None:
    english, chinese = ((ROOT / name).read_text() for name in ("README.md", "README_CN.md"))
    pages = [{path.name for path, _ in links(ROOT / name)} for name in ("README.md", "README_CN.md")]
    assert pages[0] - {"README_CN.md"} == pages[1] - {"README.md"}
    shown = [re.findall(r"^pages .*?^```", text, re.MULTILINE | re.DOTALL) for text in (english, chinese)]
    assert shown[0] == shown[1] != []
    verbs = [set(re.findall(r"`zhen (\w+)|`(recipes/[\w.-]+)`", text)) for text in (english, chinese)]
    assert verbs[0] == verbs[1]


def test_the_packages_in_the_docs_are_the_projects() -> None:
    tables: dict[str, set[str]] = {}
    for heading, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", DEPENDENCIES.read_text(), re.MULTILINE | re.DOTALL):
        cells = re.findall(r"^\| (?!package |---)(.+?) \|", text, re.MULTILINE)
        packages = re.sub(r"\(.*?\)", "", ", ".join(cells)).split(",")
        extra = re.match(r"`zhen\[(\w+)\]`", heading)
        tables[extra[1] if extra else heading] = {canonicalize_name(name.strip()) for name in packages if name.strip()}
    assert tables["Light core"] == names(PROJECT["dependencies"])
    for extra, requirements in PROJECT["optional-dependencies"].items():
        if extra not in ("all", "test"):
            assert tables[extra] == names(requirements), extra
    tests = DEPENDENCIES.read_text().partition("## Tests only")[2].partition("## ")[0]
    assert [name for name in names(PROJECT["optional-dependencies"]["test"]) if name not in tests] == []


def test_every_package_of_the_project_has_a_pin_in_its_range() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    lines += re.findall(r"torch==[\w.]+", (ROOT / "Makefile").read_text())  # installed first and alone
    pins = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    wanted = [Requirement(each) for each in PROJECT["dependencies"]]
    wanted += [Requirement(each) for extra in PROJECT["optional-dependencies"].values() for each in extra]
    for each in wanted:
        if each.name != "zhen":
            assert each.specifier.contains(pins[canonicalize_name(each.name)]), each


def test_every_stage_has_a_page() -> None:
    names = {stage.name.split(".")[0] for stage in STAGES}
    assert {name for name in names if not (ROOT / "docs" / f"{name}.md").is_file()} == set()
