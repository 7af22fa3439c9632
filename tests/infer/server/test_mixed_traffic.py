"""Hundreds of mixed requests at once, and SIGTERM while streams run: every answer right, none lost without an error."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import signal
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
STREAMS = 6
LONG = {"prompt": "SHIBBOLETH", "max_tokens": 900, "temperature": 0, "stream": True, "logit_bias": {"2": -100}}


@pytest.fixture(scope="module")
def traffic() -> ModuleType:
    """The benchmark that sends the requests."""
    spec = importlib.util.spec_from_file_location("serve_traffic", ROOT / "benchmarks" / "serve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_each_of_hundreds_of_requests_is_answered_right_or_told_why_not(
    chat_model: Path, serve: Any, traffic: ModuleType
) -> None:
    with serve(chat_model, places=12, keys=(traffic.KEY,), body_bytes=traffic.BODY) as site:
        client = traffic.Client(site.port, chat=True)

        async def all_of_it() -> None:
            await client.learn()
            await client.run(400, 16, seed=1)

        asyncio.run(all_of_it())
        worker = site.serving.worker
    assert client.tally.wrong == []
    assert client.tally.outcomes.total() == 400
    # how many find room depends on the machine; whoever doesn't is told so, and nobody is left without a word
    answered, again = (client.tally.outcomes[name] for name in ("answered", "asked to come again"))
    assert answered >= 12
    assert answered + again > 150
    assert client.tally.outcomes["refused as it should be"] > 40
    assert (worker.engine.running, worker.engine.waiting) == (0, 0)


def test_sigterm_under_load_lets_streams_end_whole(base_model: Path, traffic: ModuleType) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = traffic.start(base_model, port)
    client = traffic.Client(port, chat=False)

    async def load() -> list[str]:
        streams = [await client.send("/v1/completions", json.dumps(LONG).encode()) for _ in range(STREAMS)]
        first = [await reader.readuntil(b"data: {") for reader, _ in streams]
        process.send_signal(signal.SIGTERM)
        rest = [await reader.read() for reader, _ in streams]
        for _, writer in streams:
            writer.close()
        return [(begin + end).decode() for begin, end in zip(first, rest, strict=True)]

    texts = asyncio.run(load())
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0
    assert [text.count("data: [DONE]") for text in texts] == [1] * STREAMS
    assert [text.count('"finish_reason":"length"') for text in texts] == [1] * STREAMS
    assert "SIGTERM: " in rest
    assert "SHIBBOLETH" not in rest
