"""Strings: documents of repeated digits, a source of their own beside a web that stays as it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from zhen.sampleweb.settings import SamplewebSettings, fewest_pages

SMALL = {"people": 6, "pages": fewest_pages(6)}
COUNT = 30


def test_each_string_repeats_digits_of_its_own(tmp_path: Path, remake: Any, added: Any) -> None:
    without = remake(tmp_path / "without", SamplewebSettings(**SMALL))
    with_some = remake(tmp_path / "with", SamplewebSettings(**SMALL, strings=COUNT))
    assert added(without, with_some) == {"strings/digits.jsonl"}

    lines = (with_some.folder / "strings" / "digits.jsonl").read_text("utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    assert len(texts) == COUNT
    parts = []
    for text in texts:
        assert re.fullmatch("[0-9]+", text)
        period = next(n for n in range(1, len(text)) if text[n:] == text[:-n])
        assert 20 <= period <= 64
        assert len(text) > 5 * period
        parts.append(text[:period])
    assert len(set(parts)) == COUNT
    assert len({len(part) for part in parts}) > COUNT // 3
