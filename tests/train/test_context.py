"""Sequences shared by processes: the logits and gradients of one process, for any shape; less to keep for each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

Ask = Callable[[dict[str, Any]], list[float]]


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Puts a case to four processes, which are started once."""
    command = [sys.executable, str(Path(__file__).with_name("context_ranks.py"))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as those:
        assert those.stdin
        assert those.stdout

        def put(case: dict[str, Any]) -> list[float]:
            print(json.dumps(case), file=those.stdin, flush=True)
            found: list[float] = json.loads(those.stdout.readline())
            return found

        yield put
        those.stdin.close()


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    key_heads, queries = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return {
        "processes": draw(st.sampled_from([2, 4])),
        "chunk": draw(st.one_of(st.integers(1, 9), st.just(40))),
        "batch": draw(st.integers(1, 3)),
        "heads": key_heads * queries,
        "key_heads": key_heads,
        "head_dim": draw(st.sampled_from([2, 8, 16])),
        "documents": draw(st.booleans()),
        "seed": draw(st.integers(0, 99)),
    }


@settings(max_examples=30)
@given(case=cases())
def test_logits_and_gradients_are_those_of_one_process(ask: Ask, case: dict[str, Any]) -> None:
    of_logits, of_gradients, _ = ask(case)
    assert of_logits < 1e-5
    assert of_gradients < 1e-5


def test_each_process_keeps_less_of_a_long_sequence(ask: Ask) -> None:
    shape = {"chunk": 64, "batch": 1, "heads": 8, "key_heads": 2, "head_dim": 16, "documents": False, "seed": 1}
    two = ask(shape | {"processes": 2, "chunk": 128})[2]
    four = ask(shape | {"processes": 4, "chunk": 64})[2]
    assert four < two < 0.75
    assert four < 0.5
