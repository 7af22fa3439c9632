"""The page: one HTML file with its style and scripts in it, live from the server or with all points inside."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

SCRIPTS = ("pages/page.js", "watch/chart.js", "watch/watch.js")
"""In the order of use; the first switches languages on every page."""

STYLES = ("pages/page.css", "watch/watch.css")


def watch_page(title: str, data: Mapping[str, Any] | None = None) -> str:
    """The page. Without `data` it asks the server that it came from for points; with, it asks nobody for anything.

    Its policy allows no script but its own, by their hashes.
    """
    scripts = [_file(name) for name in SCRIPTS]
    hashes = " ".join(f"'sha256-{_hash(script)}'" for script in scripts)
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {hashes}"
    inside = ""
    if data is None:
        policy += "; connect-src 'self'"
    else:
        # inside a script element nothing but its end means anything; half a surrogate pair can't be written but escaped
        encoded = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
        inside = f'<script type="application/json" id="data">{encoded}</script>'
    parts = {
        "TITLE": html.escape(title),
        "POLICY": policy,
        "STYLE": "\n".join(_file(name) for name in STYLES),
        "DATA": inside,
        "SCRIPTS": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    page = _file("watch/watch.html")
    pieces = page.split("@@")  # text, name, text, name, …: what is put in is never searched again
    return "".join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def _file(name: str) -> str:
    room, _, file = name.partition("/")
    return (resources.files(f"zhen.{room}") / file).read_text(encoding="utf-8")
