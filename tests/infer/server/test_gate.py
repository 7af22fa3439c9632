"""Keys, hosts, sizes, patience; errors in one form; and logs that hold nothing of what was said."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

import pytest

KEY = "secret-1"


def ask(site: Any, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
    """Status, body and headers of a request; `body` as JSON, or bytes as they are."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port)
    raw = body if body is None or isinstance(body, bytes) else json.dumps(body)
    given = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET" if body is None else "POST", path, raw, given)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    kind = response.headers.get_content_type()
    return response.status, json.loads(content) if kind == "application/json" else content, dict(response.headers)


@pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic secret-1", f"Bearer {KEY}x", "Bearer \xff"])
def test_without_a_valid_key_there_is_nothing_but_health(chat_model: Path, serve: Any, header: str) -> None:
    with serve(chat_model, keys=(KEY, "secret-2")) as site:
        for path in ("/v1/models", "/metrics", "/openapi.json", "/v1/nothing"):
            status, body, headers = ask(site, path, Authorization=header)
            assert (status, body["error"]["code"], headers["www-authenticate"]) == (401, "invalid_api_key", "Bearer")
        assert ask(site, "/health")[0] == 200
        assert ask(site, "/v1/models", Authorization="Bearer secret-2")[0] == 200


def test_a_page_of_the_web_cannot_reach_us_under_its_own_name(chat: Any) -> None:
    assert ask(chat, "/v1/models", Host="evil.example")[0] == 421
    assert ask(chat, "/v1/models", Host=f"localhost:{chat.port}")[0] == 200


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(chat_model: Path, serve: Any) -> None:
    with serve(chat_model, body_bytes=1000) as site:
        fits = {"prompt": "x" * 100, "max_tokens": 1}
        assert ask(site, "/v1/completions", fits)[0] == 200
        with socket.create_connection(("127.0.0.1", site.port)) as client:
            client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 413"


def test_chunks_beyond_the_limit_are_refused_too(chat_model: Path, serve: Any) -> None:
    with serve(chat_model, body_bytes=1000) as site, socket.create_connection(("127.0.0.1", site.port)) as client:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.sendall(b"3e9\r\n" + b"x" * 1001 + b"\r\n")
        assert client.recv(12) == b"HTTP/1.1 413"


def test_a_body_that_comes_too_slowly_is_given_up(chat_model: Path, serve: Any) -> None:
    with serve(chat_model, read_seconds=0.05) as site, socket.create_connection(("127.0.0.1", site.port)) as client:
        client.sendall(b'POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{"pro')
        assert client.recv(12) == b"HTTP/1.1 408"


@pytest.mark.parametrize("begun", [b"", b"POST /v1/comp", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_a_head_that_comes_too_slowly_is_given_up(chat_model: Path, serve: Any, begun: bytes) -> None:
    with serve(chat_model, read_seconds=0.05) as site, socket.create_connection(("127.0.0.1", site.port)) as client:
        client.sendall(begun)
        assert client.recv(12) == b"HTTP/1.1 408"
        while client.recv(1 << 12):  # to the end: the connection is closed
            pass


def test_a_client_may_be_slow_between_requests_but_not_within_the_next(chat_model: Path, serve: Any) -> None:
    with serve(chat_model, read_seconds=0.5) as site, socket.create_connection(("127.0.0.1", site.port)) as client:
        reader = client.makefile("rb")
        for _ in range(2):
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = list(iter(reader.readline, b"\r\n"))
            assert head[0].startswith(b"HTTP/1.1 200")
            reader.read(next(int(line.split()[1]) for line in head if line.lower().startswith(b"content-length")))
        client.sendall(b"GET /hea")
        assert reader.read() == b""


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"prompt": NaN}', b'{"prompt": "\\ud800"}', b'{"prompt": []}',
        b'{"prompt": [-1]}', b'{"prompt": [1e99]}', b'{"prompt": [[]]}', b'{"prompt": ["a", 1]}',
        b'{"prompt": [99999]}', b'{"prompt": "a", "temperature": "hot"}', b'{"prompt": "a", "temperature": 1e999}',
        b'{"prompt": "a", "n": 1000}', b'{"prompt": "a", "\\ud800": 1}', b"[" * 100_000,
        b'{"prompt": ' + b"[" * 50_000, b'{"prompt": "a", "seed": 1e400}',
    ],
)  # fmt: skip
def test_a_malformed_body_is_told_what_is_wrong(chat: Any, body: bytes) -> None:
    status, answer, _ = ask(chat, "/v1/completions", body)
    assert status == 400
    assert answer["error"]["message"]
    assert answer["error"]["type"] == "invalid_request_error"


def test_text_and_token_ids_are_the_same_prompt(chat: Any) -> None:
    tokens = ask(chat, "/tokenize", {"prompt": "The town 镇子"})[1]
    assert tokens["count"] == len(tokens["tokens"])
    answers = [
        ask(chat, "/v1/completions", {"prompt": prompt, "max_tokens": 8, "temperature": 0})[1]["choices"]
        for prompt in ("The town 镇子", tokens["tokens"])
    ]
    assert answers[0] == answers[1]


def test_logs_and_metrics_hold_nothing_of_what_is_said(chat: Any, capfd: Any, monkeypatch: Any) -> None:
    word = "SHIBBOLETH"
    ask(chat, "/v1/chat/completions", {"messages": [{"role": "user", "content": word}], "max_tokens": 4})
    answer = ask(chat, "/v1/completions", {"prompt": "The town", "max_tokens": 40, "seed": 1})[1]
    ask(chat, "/v1/completions", {"prompt": word, "max_tokens": 4, word: 1})
    ask(chat, f"/v1/{word}?q={word}", {"prompt": word})
    ask(chat, "/v1/models", Host=word)
    monkeypatch.setattr(chat.engine, "step", lambda: (_ for _ in ()).throw(RuntimeError(word)), raising=False)
    failed = ask(chat, "/v1/completions", {"prompt": word, "max_tokens": 4})
    monkeypatch.undo()
    assert (failed[0], failed[1]["error"]["message"]) == (500, "the engine failed")
    out, err = capfd.readouterr()
    metrics = ask(chat, "/metrics")[1].decode()
    assert word not in out + err + metrics
    said = answer["choices"][0]["text"]
    assert len(said) > 8
    assert said[:8] not in out + err
    assert err.count("POST /v1/chat/completions 200") == 1
    assert "RuntimeError at" in err
    assert 'zhen_requests_total{route="/v1/chat/completions",status="200"}' in metrics


def test_after_a_failure_the_next_request_is_answered(chat: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(chat.engine, "step", lambda: 1 / 0, raising=False)
    assert ask(chat, "/v1/completions", {"prompt": "a", "max_tokens": 4})[0] == 500
    monkeypatch.undo()
    assert ask(chat, "/v1/completions", {"prompt": "a", "max_tokens": 4})[0] == 200
