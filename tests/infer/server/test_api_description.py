"""Requests made from the API's own description, valid and not: no answer is a failure of the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("schemathesis", reason="schemathesis is not installed")

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

EXAMPLES = 12


@pytest.fixture(scope="module")
def described(chat_model: Path, serve: Any) -> Iterator[Any]:
    with serve(chat_model, places=16) as site:
        yield schemathesis.openapi.from_url(f"{site.base}/openapi.json")


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_nothing_that_is_sent_makes_the_server_fail(described: Any, mode: Any) -> None:
    for found in described.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not operation.body:
            continue  # nothing can be wrong with a request for nothing

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            response = case.call()
            assert response.status_code < 500, response.text
            if response.status_code >= 400:
                assert response.json()["error"]["message"]

        check()
