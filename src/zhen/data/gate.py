"""From bytes to characters, and the cheap look at a page before the good extractor is asked."""

from __future__ import annotations

import codecs
import re
import unicodedata

from resiliparse.parse.encoding import detect_encoding

from zhen.data.plausible import common_share, reads_as_western, reads_as_words, usual_share

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

DAMAGED = 0.3
"""UTF-8 in which no greater share of the characters beyond ASCII is damaged is UTF-8 still."""

PLAUSIBLE = 0.3
"""A greater share of common characters shows that an encoding is the right one (`plausible.common_share`)."""

FEW = 30
"""Of fewer characters beyond ASCII the detected or named encoding is taken, for these say little."""

EAST_ASIAN = ("gb18030", "big5hkscs", "cp949", "cp932", "euc_jp", "utf-16-le", "utf-16-be")
"""Encodings that are told apart by the characters they give; the last two without a zero byte."""

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
_ASCII = re.compile("[\0-\x7f]+")
_EUC = re.compile(rb"(?:[\0-\x7f]|[\xa1-\xfe]{2}|\x8e[\xa1-\xb0][\xa1-\xfe]{2})*")
_BLANK_LINES = re.compile(r"\n{3,}")


def decode(data: bytes, charset: str | None) -> tuple[str, str] | None:
    """The characters of a page or text file and the encoding they were in, or None where none fits.

    Order: byte-order mark; UTF-8 where it is valid or nearly so; UTF-32 and UTF-16 where zero bytes lie as in text;
    the encoding of Chinese, Japanese or Korean that gives the most common characters; then, among the detected
    encoding, the one the page declares, the one the server named (`charset`) and windows-1252, the first that leaves
    the fewest impossible characters and reads as words. No label stands against the bytes.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            text = data[len(mark) :].decode(encoding, "replace")
            return (text, encoding) if _impossible(text) <= UNDECODABLE else None
    return _utf8(data) or _wide(data) or _east_asian(data) or _single(data, charset)


def why_not(data: bytes) -> str:
    """Why `decode` has no text for these bytes."""
    if _EUC.fullmatch(data):
        return "in no encoding that fits it; its bytes are pairs as in EUC-TW, which is not read"
    return "in no encoding that fits it"


def _utf8(data: bytes) -> tuple[str, str] | None:
    text = _strict(data, "utf-8")
    if text is None:
        text = data.decode("utf-8", "replace")
        if text.count("\ufffd") > DAMAGED * len(_beyond(text)):
            return None
    return (text, "utf-8") if _impossible(text) <= UNDECODABLE else None


def _wide(data: bytes) -> tuple[str, str] | None:
    """UTF-32 or UTF-16 without a mark: the order of bytes that gives usual characters."""
    if b"\0" not in data:
        return None
    for names in (("utf-32-le", "utf-32-be"), ("utf-16-le", "utf-16-be")):
        readings = [(text, name) for name in names if (text := _strict(data, name))]
        best = max(readings, key=lambda reading: usual_share(reading[0]), default=None)
        if best and usual_share(best[0]) >= PLAUSIBLE and _impossible(best[0]) <= UNDECODABLE:
            return best
    return None


def _east_asian(data: bytes) -> tuple[str, str] | None:
    """The encoding of Chinese, Japanese or Korean that gives the most common characters, if any gives enough."""
    best, text, encoding = PLAUSIBLE, "", ""
    for name in EAST_ASIAN:
        reading = data.decode(name, "replace")
        share = common_share(reading, japanese=name in ("cp932", "euc_jp"))
        if share > best:
            best, text, encoding = share, reading, name
    return (text, encoding) if encoding and _impossible(text) <= UNDECODABLE else None


def _single(data: bytes, charset: str | None) -> tuple[str, str] | None:
    """What is left: encodings of one byte a character, and East Asian texts too short to tell by their characters."""
    declared = _DECLARED.search(data, 0, 4096)
    names = [detect_encoding(data), declared.group(1).decode("ascii") if declared else None, charset, "cp1252"]
    best: tuple[float, str, str] | None = None
    for encoding in dict.fromkeys(filter(None, map(_codec, names))):
        try:
            text = data.decode(encoding, "replace")
        except (LookupError, UnicodeError):  # a codec of Python's that gives no text, as `rot13` and `idna`
            continue
        if len(text) < len(data) and (encoding not in EAST_ASIAN or len(_beyond(text)) >= FEW):
            continue
        share = _impossible(text)
        fits = reads_as_words(text) and (encoding != "cp1252" or reads_as_western(text))
        if fits and share <= UNDECODABLE and (best is None or share < best[0]):
            best = (share, text, encoding)
    return (best[1], best[2]) if best else None


def _beyond(text: str) -> str:
    """The characters beyond ASCII."""
    return _ASCII.sub("", text)


def _strict(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


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
