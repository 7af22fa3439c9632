"""A page as one HTML file that needs nothing else, and the same parts as Markdown."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup, escape

from zhen.pages.parts import (
    Bars,
    Chart,
    Code,
    Excerpt,
    Facts,
    Fold,
    Panels,
    Part,
    Scores,
    Section,
    Table,
    Text,
    Verdict,
    Words,
    chinese,
    numeric,
)


def html_page(title: str, lead: Sequence[Part], sections: Sequence[Section], footer: str = "") -> str:
    """One self-contained page: style, charts and one script are in it, it asks for nothing from elsewhere.

    Where a text is Words the page has both languages and a switch; without script it stands in English. All text is
    escaped; only the SVG of charts enters as it is. The page's policy allows no script but its own, by its hash.
    """
    script = _file("page.js")
    sealed = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            lead=lead,
            sections=sections,
            footer=footer,
            style=Markup(_file("page.css")),
            script=Markup(script),
            sealed=f"sha256-{sealed}",
        )
    )


def markdown_page(
    title: str, lead: Sequence[Part], sections: Sequence[Section], footer: str = "", link: str = ""
) -> str:
    """The same as Markdown, for code hosts: charts are given as tables of their points, folds as `<details>`.

    Words stand in English; `parts.translated` makes a page Chinese. `link`: Markdown that stands below the title.
    """
    blocks = [f"# {_escape(title)}", *([link] if link else [])]
    blocks += [block for part in lead for block in _markdown(part)]
    for section in sections:
        blocks.append(f"## {_escape(section.title)}")
        blocks += [block for part in section.parts for block in _markdown(part)]
    if footer:
        blocks.append(_escape(footer))
    return "\n\n".join(blocks) + "\n"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_file),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["numeric"] = numeric
    environment.filters["kind"] = lambda part: type(part).__name__
    environment.filters["say"] = _say
    environment.filters["zh"] = chinese
    environment.filters["svg"] = Markup  # charts are drawn from numbers and labels that the drawer escapes
    return environment


def _say(text: str) -> Markup:
    """Text in the language of the page: both are there, the style shows one."""
    if not isinstance(text, Words) or text == text.zh:
        return escape(text)
    return Markup('<span class="en" lang="en">{}</span><span class="zh" lang="zh">{}</span>').format(str(text), text.zh)


def _file(name: str) -> str:
    return (resources.files("zhen.pages") / name).read_text(encoding="utf-8")


def _markdown(part: Part) -> Iterator[str]:
    match part:
        case Text(text):
            yield _escape(text)
        case Verdict(state, text):
            yield f"**{ {True: '✓ ', False: '✗ ', None: ''}[state] }{_escape(text)}**"
        case Facts(rows):
            yield "\n".join(
                f"- **{_escape(label)}**: {_escape(text)}" if label else f"- {_escape(text)}" for label, text in rows
            )
        case Table():
            yield _table(part)
        case Bars(rows):
            yield _table(Table(["", ""], [(label, text) for label, _, text in rows]))
        case Scores(title, rows, _):
            # the title says where the mark is
            yield _table(Table([title, ""], [(row.label, row.text) for row in rows]))
        case Chart():
            yield _escape(part.caption)
            yield _table(part.points)
        case Panels(panels, _):
            yield "\n".join(f"- **{_escape(each.title)}**: {_escape(each.caption)}" for each in panels)
        case Excerpt(prompt, texts, _):
            yield "\n".join("> " + _escape(line) for line in prompt.splitlines())
            yield "\n".join(f"- {_escape(label)}: {_escape(' '.join(text.split()))}" for label, text in texts)
        case Code(text):
            fence = "`" * max(3, 1 + max(map(len, _runs(text)), default=0))
            yield f"{fence}\n{text}\n{fence}"
        case Fold(summary, parts):
            # code hosts read a line that begins with a tag as HTML up to the next empty one
            yield f"<details><summary>{escape(' '.join(summary.split()))}</summary>"
            for inner in parts:
                yield from _markdown(inner)
            yield "</details>"


def _table(table: Table) -> str:
    lines = [list(table.columns), ["---:" if right else "---" for right in numeric(table)]]
    lines += [[_cell(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(_escape(text).split()).replace("|", "\\|")


def _escape(text: str) -> str:
    """Text whose `<`, `*`, `_`, `#` … are letters, not markup."""
    safe = text.replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    return "".join("\\" + letter if letter in "`*_[]" else letter for letter in safe)


def _runs(text: str) -> Iterator[str]:
    """Runs of backticks, so that a fence can be longer than each."""
    run = ""
    for letter in text + " ":
        if letter == "`":
            run += letter
        elif run:
            yield run
            run = ""
