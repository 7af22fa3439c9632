"""From bytes to characters, and the cheap look at a page before the good extractor is asked."""

from __future__ import annotations

import codecs
import re
import unicodedata

from resiliparse.parse.encoding import detect_encoding

WIDER = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "big5": "big5hkscs",
    "big5-hkscs": "big5hkscs",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "shift_jis": "cp932",
    "iso-8859-1": "cp1252",
    "us-ascii": "cp1252",
    "ascii": "cp1252",
}
"""Encodings that pages name but seldom keep to, and the wider one to read them as (WHATWG Encoding, 4.2)."""

UNDECODABLE = 0.01
"""A text with a greater share of characters that cannot be is lost."""

_MARKS = [
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
]
_DECLARED = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9_.:-]{3,40})""", re.IGNORECASE)
_IMPOSSIBLE = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ufffd\ufdd0-\ufdef\ufffe\uffff]")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u2028\u2029\ufeff\ud800-\udfff]")
_BLANK_LINES = re.compile(r"\n{3,}")


def decode(data: bytes, charset: str | None) -> tuple[str, str] | None:
    """The characters of a page or text file and the encoding they were in, or None where none fits.

    Order: byte-order mark; UTF-8 where it is valid; then whichever of the detected encoding, the one the page
    declares and the one the server named (`charset`) leaves the fewest impossible characters.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            text = data[len(mark) :].decode(encoding, "replace")
            return (text, encoding) if _impossible(text) <= UNDECODABLE else None
    try:
        text = data.decode("utf-8")
        return (text, "utf-8") if _impossible(text) <= UNDECODABLE else None
    except UnicodeDecodeError:
        pass
    declared = _DECLARED.search(data, 0, 4096)
    names = [detect_encoding(data), declared.group(1).decode("ascii") if declared else None, charset, "utf-8"]
    best: tuple[float, str, str] | None = None
    for encoding in dict.fromkeys(filter(None, map(_codec, names))):
        text = data.decode(encoding, "replace")
        share = _impossible(text)
        if best is None or share < best[0]:
            best = (share, text, encoding)
        if share == 0:
            break
    return (best[1], best[2]) if best and best[0] <= UNDECODABLE else None


def _codec(name: str | None) -> str | None:
    try:
        return codecs.lookup(WIDER.get(name.lower(), name)).name if name else None
    except LookupError:
        return None


def _impossible(text: str) -> float:
    """Share of characters that no text holds: replacements, controls, non-characters."""
    return len(_IMPOSSIBLE.findall(text)) / max(len(text), 1)


def clean(text: str) -> tuple[str, bool]:
    """The form in which text is kept, and whether NFC changed it: NFC, LF line ends, no control characters, no
    blanks at line ends, at most one empty line in a row. Not NFKC: it would fold full-width punctuation."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _CONTROLS.sub("", text)
    changed = not unicodedata.is_normalized("NFC", text)
    if changed:
        text = unicodedata.normalize("NFC", text)
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    return _BLANK_LINES.sub("\n\n", text).strip("\n"), changed
