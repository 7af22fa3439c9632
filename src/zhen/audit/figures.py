"""Figures of a card and how they are tied to records: marks in README.md, entries in figures.json."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from zhen.audit.finding import Finding, fails, holds, unchecked
from zhen.audit.folder import Folder
from zhen.errors import ZhenError

FIGURES = "figures.json"
CARD = "README.md"

Form = Literal["integer", "number", "1 decimal", "3 decimals"]
"""How a figure is written; texts and truth values have one way only."""

Value = float | int | str | bool | None

LARGEST = 1 << 63
"""Whole numbers beyond this are no figures; some can't be written as decimals."""

_CLAIM = "every figure of the card is the one in its record"
_FIX = "write the card again from the records (zhen run RECIPE release)"

_MARK = re.compile(r"<!--=(?P<id>[^<>\s]+?)-->(?P<text>.*?)<!--/-->", re.DOTALL)
_HEAD = re.compile(r"^\s*value: (?P<value>\S+)\s+# figure (?P<id>\S+)\s*$", re.MULTILINE)


_VALUE = re.compile(r"^[\s-]*value:.*$", re.MULTILINE)
_NUMBER = re.compile(r"[*_~≈≥≤<>+−–-]*\d[\d.,\s]*\s*(?:%|[KMBT]|±.*)?[*_]*")


class CardFigure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of the card: its name there, its value, the record it comes from and where in it."""

    figure: str
    """What README.md calls it in its marks: `<!--=figure-->text<!--/-->`."""
    value: Value
    record: str
    """File below the release, `records/evaluate.json`."""
    path: str
    """JSON pointer (RFC 6901) into the record."""
    form: Form
    """How the value is written in the card."""


def render(value: Value, form: Form) -> str:
    """A value as the card writes it; the audit renders again and compares."""
    if value is None or isinstance(value, bool | str):
        return {True: "yes", False: "no", None: "–"}.get(value, str(value))  # type: ignore[arg-type]
    if form == "number":
        return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"
    return format(value, {"integer": ",.0f", "1 decimal": ".1f", "3 decimals": ".3f"}[form])


def mark(figure: CardFigure) -> str:
    """A figure as it stands in README.md, between comments that Markdown does not show."""
    return f"<!--={figure.figure}-->{render(figure.value, figure.form)}<!--/-->"


def resolve(value: Any, pointer: str) -> Any:
    """What a JSON pointer leads to. Raises KeyError where it leads nowhere."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            raise KeyError(key)
    return value


def pointer(*keys: str) -> str:
    """The JSON pointer through these keys."""
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in keys)


def check_figures(folder: Folder) -> Iterator[Finding]:
    """Each figure of figures.json against its record, and its every rendering in README.md against its value."""
    if not folder.has(FIGURES):
        if folder.is_release:
            yield fails("claims.figures", _CLAIM, f"there is no {FIGURES}, though there are records", fix=_FIX)
        else:
            yield unchecked("claims.figures", _CLAIM, "the card has no figures with records")
        return
    try:
        figures = msgspec.convert(folder.json(FIGURES), list[CardFigure])
        card = folder.text(CARD) if folder.has(CARD) else ""
    except (msgspec.ValidationError, ZhenError) as error:
        yield fails("claims.figures", _CLAIM, f"{FIGURES}: {error}", fix=_FIX, file=FIGURES)
        return
    shown: dict[str, list[tuple[str, str]]] = {}
    for found in _MARK.finditer(card):
        shown.setdefault(found["id"], []).append(("text", found["text"]))
    for found in _HEAD.finditer(card):
        shown.setdefault(found["id"], []).append(("head", found["value"]))
    faults = 0
    for figure in figures:
        problems = list(_problems(folder, figure, shown.pop(figure.figure, [])))
        if problems:
            faults += 1
            yield fails("claims.figure", _CLAIM, f"{figure.figure}: {'; '.join(problems)}", fix=_FIX, file=CARD)
    for name in shown:
        faults += 1
        yield fails("claims.figure", _CLAIM, f"{name}: in the card, not in {FIGURES}", fix=_FIX, file=CARD)
    for text in unmarked(card) if folder.is_release else ():
        faults += 1
        yield fails("claims.figure", _CLAIM, f"{text!r}: a number without a record", fix=_FIX, file=CARD)
    if not figures:
        yield unchecked("claims.figures", _CLAIM, f"{FIGURES} lists none", severity="error")
    elif not faults:
        records = {figure.record for figure in figures}
        yield holds("claims.figures", _CLAIM, f"{len(figures)} figures, {len(records)} records")


def unmarked(card: str) -> Iterator[str]:
    """Lines of the head that give a value, and cells of tables that hold a number, without a figure's mark.

    Numbers in sentences can be anything (a date, a version) and are not judged.
    """
    head, body = re.fullmatch(r"(---\n.*?\n---\n)?(.*)", card, re.DOTALL).groups()  # type: ignore[union-attr]
    for line in _VALUE.findall(head or ""):
        if not _HEAD.fullmatch(line):
            yield line.strip()
    for row in body.splitlines():
        for cell in row.split("|")[1:] if "|" in row else ():
            rest = _MARK.sub("", cell).strip()
            if _NUMBER.fullmatch(rest) or (rest != cell.strip() and any(c.isdigit() for c in rest)):
                yield cell.strip()


def _problems(folder: Folder, figure: CardFigure, shown: list[tuple[str, str]]) -> Iterator[str]:
    try:
        recorded = resolve(folder.json(figure.record), figure.path) if folder.has(figure.record) else _missing(figure)
    except KeyError as error:
        yield f"{figure.record} has nothing at {figure.path} ({error.args[0]})"
        return
    except ZhenError as error:
        yield error.text()
        return
    if type(recorded) is not type(figure.value) or recorded != figure.value:
        yield f"{FIGURES} says {figure.value!r}, {figure.record} says {recorded!r}"
    if not isinstance(recorded, Value) or (isinstance(recorded, int) and abs(recorded) > LARGEST):
        yield f"{figure.record} has no number or text at {figure.path}"
        return
    if not shown:
        yield "the card does not show it"
    for kind, text in shown:
        due = render(recorded, figure.form) if kind == "text" else repr(recorded)
        if text != due:
            yield f"the card says {text!r}, the record gives {due!r}"


def _missing(figure: CardFigure) -> Any:
    raise ZhenError("is not there", file=figure.record)
