"""What readers yield: pages, records that were lost (with place and reason), records that hold no page."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from zhen.data.settings import Columns


class Page(Struct, frozen=True):
    """A page (HTML, as bytes) or a text, not yet a document."""

    html: bytes | None
    """A page to be decoded and extracted, or None where `text` is given."""
    text: str | bytes
    """Text; as bytes where its encoding has still to be found."""
    url: str = ""
    license: str = ""
    at: int = 0
    """Where it was read: byte offset of the WARC record (of its gzip member) or line, row number of the table."""
    charset: str | None = None
    """What the server said."""


class Lost(Struct, frozen=True):
    """A record, or a stretch of a file, that could not be read."""

    offset: int
    bytes: int
    reason: str
    unpacked: bool = False
    """Whether `offset` and `bytes` count unpacked bytes instead of bytes of the file."""


class Skipped(Struct, frozen=True):
    """A sound record that holds no page: a request, an image, a redirect. Counted by reason."""

    reason: str


Item = Page | Lost | Skipped


class Window(Struct, frozen=True):
    """Part of an unpacked file of lines: the lines that begin in [begin, end)."""

    begin: int
    end: int


def page_from(values: dict[str, Any], columns: Columns, at: int) -> Page | str:
    """The page in a table's row or JSON object; a string says why there is none."""
    text_key, html_key = columns.text, columns.html
    if text_key is None and html_key is None:
        text_key, html_key = ("text", None) if "text" in values or "html" not in values else (None, "html")
    key = text_key or html_key or "text"
    value = values.get(key)
    if value is None:
        return (
            f"{key} is null" if key in values else f"no {key!r} (there are {', '.join(sorted(values)[:8]) or 'none'})"
        )
    if not isinstance(value, str | bytes):
        return f"{key} is of type {type(value).__name__}, not text"
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return f"{key} holds a lone surrogate"
    url, license_name = values.get(columns.url), values.get(columns.license)
    page = Page(
        None,
        value,
        url=url if isinstance(url, str) else "",
        license=license_name if isinstance(license_name, str) else "",
        at=at,
    )
    if not html_key:
        return page
    if isinstance(value, str):
        return replace(page, html=value.encode("utf-8"), text="", charset="utf-8")
    return replace(page, html=value, text="")
