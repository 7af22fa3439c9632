"""The docs say what the program says: the record's schema, links that lead somewhere, a page for every stage."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from zhen.formats.record import Record
from zhen.run import STAGES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def test_the_schema_in_the_docs_is_the_records() -> None:
    block = re.search(r"```json\n(.*?)\n```", (ROOT / "docs" / "formats.md").read_text(), re.DOTALL)
    assert block is not None
    assert json.loads(block[1]) == msgspec.json.schema(Record)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_every_stage_has_a_page() -> None:
    names = {stage.name.split(".")[0] for stage in STAGES}
    assert {name for name in names if not (ROOT / "docs" / f"{name}.md").is_file()} == set()
