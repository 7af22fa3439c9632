"""Text of a page: resiliparse's quick extraction, trafilatura's good one. Run as a process, it serves a worker."""

from __future__ import annotations

import struct
import sys
from signal import ITIMER_PROF, setitimer
from typing import IO

from resiliparse.extract.html2text import extract_plain_text

HEADER = struct.Struct("<cfI")
"""A request: kind (`g` quick, `f` good), CPU seconds allowed, bytes that follow (UTF-8 HTML; none: the page before)."""

ANSWER = struct.Struct("<I")
"""An answer: bytes of UTF-8 text that follow."""

_SHORT = 200


def quick_text(html: str) -> str:
    """The main content as resiliparse sees it; the whole page's text where that is under 200 characters."""
    text = extract_plain_text(html, main_content=True, alt_texts=False, comments=False)
    if len(text) < _SHORT:
        text = extract_plain_text(html, main_content=False, alt_texts=False, comments=False)
    return text


def good_text(html: str) -> str:
    """The main content as trafilatura sees it (fast mode, without comments), or nothing."""
    import trafilatura

    return trafilatura.extract(html, fast=True, include_comments=False, include_tables=True, deduplicate=False) or ""


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until there are no more. Over its CPU seconds the system ends this process (SIGPROF)."""
    html = ""
    while len(header := requests.read(HEADER.size)) == HEADER.size:
        kind, seconds, length = HEADER.unpack(header)
        if length:
            html = requests.read(length).decode("utf-8", "replace")
        setitimer(ITIMER_PROF, seconds)
        try:
            text = quick_text(html) if kind == b"g" else good_text(html)
        except Exception:  # whatever an extractor trips over, it is this page that has no text for it
            text = ""
        setitimer(ITIMER_PROF, 0)
        data = text.encode("utf-8", "replace")
        answers.write(ANSWER.pack(len(data)) + data)
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
