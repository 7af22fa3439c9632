"""Pages: self-contained, escaped, the same in HTML and Markdown; charts follow the page's colours."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhen.pages.charts import Line, line_chart, thin
from zhen.pages.page import html_page, markdown_page
from zhen.pages.parts import (
    Bars,
    Code,
    Excerpt,
    Facts,
    Fold,
    Part,
    Section,
    Table,
    Text,
    Verdict,
    Words,
    translated,
)

EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)> & | ` ** _'


def parts(text: str) -> list[Part]:
    return [
        Verdict(True, text),
        Facts([(text, text)]),
        Text(text),
        Table((text, text), [(text, text)], [False]),
        Bars([(text, 0.5, text)]),
        Excerpt(text, [(text, text)], "en"),
        Code(text),
        Fold(text, [Text(text)]),
        line_chart([Line(text, [(0, 1), (1, 2)])], x="tokens", y=text, caption=text),
    ]


class Reader(HTMLParser):
    """Notes elements, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.scripts = 0
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.scripts += tag == "script"
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_text_stays_text_in_every_part() -> None:
    reader = read(html_page(EVIL, parts(EVIL), [Section(EVIL, parts(EVIL))], EVIL))
    assert reader.elements.isdisjoint({"img", "iframe", "object", "link"})
    assert reader.scripts == 1
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert reader.text.count('<script>alert("x")</script>') >= 20


def test_page_asks_for_nothing_from_elsewhere() -> None:
    page = html_page("a", parts("text"), [Section("b", parts("text"))])
    links = [value or "" for name, value in read(page).attributes if name in {"src", "href", "xlink:href", "data"}]
    assert all(link.startswith("#") for link in links)
    assert not re.search(r"@import|url\(", page)
    assert "default-src 'none'" in page


def test_page_has_both_colour_schemes_and_fits_a_phone() -> None:
    page = html_page("a", [], [])
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport" content="width=device-width' in page


def test_chart_takes_its_colours_from_the_page() -> None:
    chart = line_chart([Line("a", [(0, 1), (1, 2)]), Line("b", [(0, 3)], colour=5)], x="x", y="y", caption="")
    for svg in (chart.wide, chart.narrow):
        assert "var(--c0)" in svg
        assert not re.search(r"#[0-9a-f]{6}\b|white", svg)


@given(st.integers(2, 50), st.integers(1, 200))
def test_thin_keeps_first_last_and_order(most: int, count: int) -> None:
    points = [(float(number), 0.0) for number in range(count)]
    kept = thin(points, most)
    assert len(kept) == min(most, count)
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (points[0], points[-1])


@pytest.mark.parametrize("text", ["plain", EVIL, "a\nb", "```\ncode\n```"])
def test_markdown_tables_keep_their_columns(text: str) -> None:
    lines = markdown_page("a", [Table(("x", "y"), [(text, "1")])], []).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [3, 3, 3]
    assert "<script" not in "".join(rows)


@pytest.mark.parametrize("summary", ["plain", EVIL, "two\nlines"])
def test_markdown_folds_are_details_around_markdown(summary: str) -> None:
    lines = markdown_page("a", [Fold(summary, [Fold("inner", [Text("**text**")])])], []).splitlines()
    assert [line for line in lines if line.startswith("</")] == ["</details>"] * 2
    opened = [number for number, line in enumerate(lines) if line.startswith("<details><summary>")]
    assert [lines[number + 1] for number in opened] == ["", ""]
    assert read("\n".join(lines)).elements == {"details", "summary"}
    assert "\\*\\*text\\*\\*" in lines


def test_translated_parts_keep_all_but_their_words() -> None:
    words = Words("kept", "保留")
    found = translated([Fold(words, [Table((words, "n"), [(words, "1")], [True]), Bars([(words, 0.5, "x")])])])
    assert found == [Fold("保留", [Table(("保留", "n"), [("保留", "1")], [True]), Bars([("保留", 0.5, "x")])])]


def test_numbers_are_set_right_and_words_left() -> None:
    page = markdown_page("a", [Table(("name", "count"), [("a", "1,234"), ("b", "–")])], [])
    assert "| --- | ---: |" in page
