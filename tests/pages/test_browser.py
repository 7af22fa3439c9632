"""The page in a real browser: offline, in both languages, on a phone and on paper."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from zhen.pages.charts import Line, line_chart
from zhen.pages.histogram import histogram
from zhen.pages.page import html_page
from zhen.pages.parts import (
    Bars,
    Code,
    Excerpt,
    Facts,
    Fold,
    Key,
    Panel,
    Panels,
    Part,
    Score,
    Scores,
    Section,
    Table,
    Text,
    Verdict,
    Words,
)

WORDS = Words("from pages to a release", "从网页到发布")
PHONE = 375
PAPER = 688
"""Width of the text on A4 (210 mm less two margins of 14 mm) in CSS pixels."""

LONG = "https://host.example/" + "a-very-long-address/" * 12


def parts(numbers: int) -> list[Part]:
    """One of each part, with more in it than fits; a table has so many columns of numbers."""
    lines = [Line(WORDS, [(0, 1), (1, 2)]), Line("reference", [(0, 1)], dashed=True)]
    columns = [WORDS, *(Words(f"a column of numbers {n}", f"数字 {n}") for n in range(numbers))]
    table = Table(columns, [("a-name-of-a-rule-that-is-long " * 2, *["1,234,567"] * numbers)] * 12)
    return [
        line_chart(lines, x=WORDS, y=WORDS, caption=WORDS),
        Panels([Panel(WORDS, histogram([4, 0], [1, 0], [(0.5, 1)]), "0", "1", WORDS)] * 4, [Key(WORDS, 0)]),
        Scores(WORDS, [Score(WORDS, 0.5, 0.1, "50 %")], 0.25),
        Bars([(WORDS, 0.5, "1,234 · 50.0 %")]),
        table,
        Table(["", WORDS, WORDS], [("✓", LONG, LONG), ("✗", WORDS, LONG)], [True, False]),
        Fold(WORDS, [Text(WORDS), table, Fold(WORDS, [Excerpt(LONG, [(WORDS, LONG)]), Code(LONG)])]),
    ]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    lead: list[Part] = [Verdict(True, WORDS), Facts([(WORDS, LONG)])]
    sections = [Section(WORDS, parts(8)), Section("Records", parts(3))]
    path.write_text(html_page(WORDS, lead, sections, WORDS), encoding="utf-8")
    return path


@pytest.mark.parametrize(("lang", "title"), [("en", "from pages to a release"), ("zh", "从网页到发布")])
def test_page_opens_in_the_language_asked_for_and_asks_for_nothing(
    browser: Any, page: Path, lang: str, title: str
) -> None:
    browser.open(f"{page.as_uri()}?lang={lang}")
    assert browser.console == []
    assert browser.requests == [f"{page.as_uri()}?lang={lang}"]
    assert browser.run("[document.documentElement.lang, document.title]") == [lang, title]
    assert browser.run("document.querySelector('h1').innerText") == title


def test_button_changes_language_and_title_and_is_remembered(browser: Any, page: Path) -> None:
    browser.open(f"{page.as_uri()}?lang=en")
    browser.run("document.getElementById('language').click()")
    assert browser.run("[document.documentElement.lang, document.title]") == ["zh", "从网页到发布"]
    # the page may come back in a process of its own, which learns a moment later what was stored
    for _ in range(50):
        browser.open(page.as_uri())
        if browser.run("document.documentElement.lang") == "zh":
            break
    assert browser.run("document.documentElement.lang") == "zh"
    assert browser.console == []


def test_script_that_is_not_the_pages_own_is_refused(browser: Any, page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("</body>", "<script>document.title = 'taken'</script></body>")
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    browser.open((tmp_path / "page.html").as_uri())
    assert any("Content Security Policy" in line for line in browser.console)
    assert browser.run("document.title") != "taken"


OUTSIDE = """[...document.querySelectorAll('body *')].filter(each => {
  const box = each.getBoundingClientRect();
  return box.width && (box.left < -1 || box.right > innerWidth + 1) && !each.closest('.wide, svg');
}).map(each => each.outerHTML.slice(0, 80))"""
"""Elements that stick out of the page at a side, but for what a scroll container or a drawing holds."""

OPEN_ALL = "document.querySelectorAll('details').forEach(each => { each.open = true; })"


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("dark", [False, True])
def test_phone_never_moves_sideways_but_its_tables_do(browser: Any, page: Path, lang: str, dark: bool) -> None:
    browser.open(f"{page.as_uri()}?lang={lang}", PHONE, dark=dark)
    browser.run(OPEN_ALL)
    assert browser.run("[innerWidth, document.scrollingElement.scrollWidth]") == [PHONE, PHONE]
    assert browser.run(OUTSIDE) == []
    assert browser.run("[...document.querySelectorAll('.chart .phone')].every(each => each.checkVisibility())")


def test_wide_table_shows_that_it_goes_on_and_keeps_its_first_column(browser: Any, page: Path) -> None:
    browser.open(page.as_uri(), PHONE)
    browser.run("window.box = document.querySelector('section > .wide'); box.scrollLeft = 1e6")
    assert browser.run("box.scrollWidth > box.clientWidth && box.scrollLeft > 0")
    assert "gradient" in browser.run("getComputedStyle(box).backgroundImage")
    first, last = (f"box.querySelector('td:{place}-child').getBoundingClientRect()" for place in ("first", "last"))
    assert browser.run(f"{first}.left >= 0 && {last}.right <= innerWidth")


@pytest.mark.parametrize(("lang", "other"), [("en", "zh"), ("zh", "en")])
def test_paper_is_light_has_all_folds_open_and_cuts_nothing(browser: Any, page: Path, lang: str, other: str) -> None:
    browser.open(f"{page.as_uri()}?lang={lang}", PAPER, dark=True, media="print")
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    hidden = "details:not(.chart details) > :not(summary), details:not(.chart details) td"
    assert (
        browser.run(f"[...document.querySelectorAll('{hidden}')].filter(each => !each.checkVisibility()).length") == 0
    )
    assert browser.run(OUTSIDE.replace(".wide, svg", "svg")) == []
    gone = f"nav, button, .chart details, .{other}"
    assert browser.run(f"[...document.querySelectorAll('{gone}')].filter(each => each.checkVisibility()).length") == 0


def test_folds_open_for_printing_and_close_again_where_no_style_can(browser: Any, page: Path) -> None:
    browser.open(page.as_uri())
    opened = "[...document.querySelectorAll('details')].map(each => each.open)"
    browser.run("document.querySelector('details').open = true")
    before = browser.run(opened)
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert all(browser.run(opened))
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run(opened) == before
    assert 0 < sum(before) < len(before)


def test_printed_page_is_a4(browser: Any, page: Path) -> None:
    browser.open(page.as_uri())
    pdf = base64.b64decode(browser.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)
    assert boxes
    assert {(round(float(width)), round(float(height))) for width, height in boxes} == {(595, 842)}
