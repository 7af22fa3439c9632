"""Tool calls in what a model says: `<tool_call>` around JSON, found while the text comes."""

from __future__ import annotations

import json
import secrets
from typing import Any

BEGIN, END = "<tool_call>", "</tool_call>"


class CallReader:
    """Splits an answer in what is said and what is called. A call that is no JSON stays text."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self._held = ""

    def add(self, text: str) -> tuple[str, list[dict[str, Any]]]:
        """What can be said now, and the calls that have become whole."""
        self._held += text
        said, calls = "", []
        while True:
            before, found, behind = self._held.partition(BEGIN)
            if not found:
                keep = _overlap(self._held)
                said += self._held[: len(self._held) - keep]
                self._held = self._held[len(self._held) - keep :]
                break
            inside, ended, rest = behind.partition(END)
            if not ended:
                said += before
                self._held = found + behind
                break
            call = self._call(inside)
            said += before if call else before + found + inside + ended
            calls += [call] if call else []
            self._held = rest
        # the line's end that stands between calls says nothing
        return said if said.strip() or not self.calls else "", calls

    def rest(self) -> str:
        """What was held back, at the end."""
        held, self._held = self._held, ""
        return held if held.strip() or not self.calls else ""

    def _call(self, text: str) -> dict[str, Any] | None:
        try:
            value = json.loads(text)
            name, arguments = value["name"], value.get("arguments", {})
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None
        if not isinstance(name, str):
            return None
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        call = {
            "index": len(self.calls),
            "id": f"call_{secrets.token_hex(12)}",
            "type": "function",
            "function": {"name": name, "arguments": text},
        }
        self.calls.append(call)
        return call


def _overlap(text: str) -> int:
    """Characters at the end of `text` that may become a `<tool_call>`."""
    return next((n for n in range(min(len(BEGIN) - 1, len(text)), 0, -1) if BEGIN.startswith(text[-n:])), 0)
