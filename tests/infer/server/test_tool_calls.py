"""Tool calls in an answer: found whole, in whatever pieces the text comes."""

from __future__ import annotations

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from zhen.infer.server.calls import CallReader

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "溪桥"}}\n</tool_call>'


def read(pieces: list[str]) -> tuple[str, list[tuple[str, object]]]:
    reader = CallReader()
    said = [reader.add(piece)[0] for piece in pieces] + [reader.rest()]
    calls = [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in reader.calls]
    return "".join(said), calls


@given(cuts=st.lists(st.integers(0, 200), max_size=12), calls=st.integers(0, 3))
def test_however_it_is_cut_the_calls_are_the_same(cuts: list[int], calls: int) -> None:
    text = "Let me look." + f"\n{CALL}" * calls
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    said, found = read(pieces)
    assert said.strip() == "Let me look."
    assert found == [("weather", {"city": "溪桥"})] * calls


@given(st.text(alphabet="<tool_cal>/ {}", max_size=60).filter(lambda text: "<tool_call>" not in text))
def test_what_only_looks_like_a_call_is_said(text: str) -> None:
    assert read(list(text)) == (text, [])


def test_a_call_that_is_no_json_or_never_ends_is_said() -> None:
    for text in ("a <tool_call>{oops</tool_call> b", "a <tool_call>[1]</tool_call>", 'x<tool_call>{"name": "f"'):
        assert read([text]) == (text, [])


def test_two_calls_have_places_and_ids_of_their_own() -> None:
    reader = CallReader()
    reader.add(CALL + "\n" + CALL)
    assert [call["index"] for call in reader.calls] == [0, 1]
    assert len({call["id"] for call in reader.calls}) == 2
