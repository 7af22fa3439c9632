"""The parts that a page is put together from. They hold plain text and numbers; the renderer escapes and styles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

State = bool | None
"""Good, bad, or neither."""


class Words(str):
    """Text in both languages of a page: the string itself is the English one, for whoever knows nothing of this."""

    zh: str

    def __new__(cls, english: str, chinese: str) -> Words:
        """Both texts."""
        words = super().__new__(cls, english)
        words.zh = chinese
        return words


def chinese(text: str) -> str:
    """The Chinese text of Words, any other text as it is."""
    return text.zh if isinstance(text, Words) else text


def translated(part: Any) -> Any:
    """Parts, sections, texts, or lists and tuples of these, with the Chinese text in the place of all Words."""
    if isinstance(part, str):
        return chinese(part)
    if isinstance(part, list | tuple):
        return type(part)(translated(each) for each in part)
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{field.name: translated(getattr(part, field.name)) for field in fields(part)})
    return part


def join(separator: Words, texts: Sequence[str]) -> Words:
    """`texts` in both languages, with the separator of each between them."""
    return Words(separator.join(texts), separator.zh.join(chinese(text) for text in texts))


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Verdict:
    """The answer of the page in one sentence."""

    state: State
    text: str


@dataclass(frozen=True)
class Facts:
    """Short rows of label and text, for what must be read first."""

    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """A table; columns whose cells are all numbers are set right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    states: Sequence[State] = ()
    """Per row; colours its first cell."""


@dataclass(frozen=True)
class Bars:
    """Amounts as bars: label, share of the whole from 0 to 1, what to write at the bar."""

    rows: Sequence[tuple[str, float, str]]


@dataclass(frozen=True)
class Score:
    """A share from 0 to 1 that was measured, drawn as a bar with its error."""

    label: str
    share: float
    error: float | None
    """Standard error; two of them are drawn to either side (95 % of repetitions would fall there)."""
    text: str
    """What to write at the bar."""
    colour: int = 0
    """Number of its colour, 0 to 5."""


@dataclass(frozen=True)
class Scores:
    """Scores that are compared, on one scale from 0 to 1, with a mark where guessing is."""

    title: str
    rows: Sequence[Score]
    mark: float | None = None


@dataclass(frozen=True)
class Key:
    """What a line of a chart is called, and its look."""

    name: str
    colour: int
    dashed: bool = False
    dot: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart as SVG in two widths, for screens and phones, and its points as a table for Markdown and readers."""

    wide: str
    narrow: str
    caption: str
    points: Table
    x: str = ""
    y: str = ""
    keys: Sequence[Key] = ()


@dataclass(frozen=True)
class Panel:
    """A small chart among others: SVG, what stands below its left and its right end, a caption."""

    title: str
    svg: str
    left: str
    right: str
    caption: str


@dataclass(frozen=True)
class Panels:
    """Small charts side by side, with one legend."""

    panels: Sequence[Panel]
    keys: Sequence[Key] = ()


@dataclass(frozen=True)
class Excerpt:
    """Texts that go on from one prompt: (what or when, text) each."""

    prompt: str
    texts: Sequence[tuple[str, str]]
    lang: str = ""


@dataclass(frozen=True)
class Code:
    """Commands or other text to be read letter by letter."""

    text: str


@dataclass(frozen=True)
class Fold:
    """Parts that open on demand."""

    summary: str
    parts: Sequence[Part]


Part = Text | Verdict | Facts | Table | Bars | Scores | Chart | Panels | Excerpt | Code | Fold


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    parts: Sequence[Part]

    @property
    def anchor(self) -> str:
        """The section's name in links."""
        return "-".join(self.title.lower().split())


def is_number(cell: str) -> bool:
    """Whether a cell is set right: it starts like a number or says that there is none."""
    return cell[:1] in "0123456789+-–−<≤≥" if cell else True


def numeric(table: Table) -> list[bool]:
    """Per column: whether all its cells are numbers, and one at least is."""
    columns = [[row[index] for row in table.rows] for index in range(len(table.columns))]
    return [any(cells) and all(is_number(cell) for cell in cells) for cells in columns]
