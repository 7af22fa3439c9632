"""The queue: full, given up, out of time, draining. The engine is held, so that nothing depends on speed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

LONG = {"prompt": "The town", "max_tokens": 30, "temperature": 0, "stream": True}


OPEN: list[HTTPResponse] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def post(site: Any, body: Any, path: str = "/v1/completions") -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", site.port)
    headers = {"Content-Type": "application/json", "Connection": "close"}
    connection.request("POST", path, json.dumps(body), headers)
    response = connection.getresponse()
    OPEN.append(response)
    return response


def events(response: HTTPResponse) -> Iterator[Any]:
    """What a stream says; its last word is "[DONE]" or an error."""
    for line in response:
        if line.startswith(b"data: "):
            text = line[6:].strip().decode()
            yield text if text == "[DONE]" else json.loads(text)


@pytest.fixture
def site(chat_model: Path, serve: Any) -> Iterator[Any]:
    with serve(chat_model, places=3, batch=2) as running:
        yield running


def test_beyond_its_places_it_asks_to_come_again(site: Any) -> None:
    site.engine.hold()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(post, site, LONG | {"n": 2})
        site.engine.permits.release(1)
        response = first.result()
        assert next(events(response))["choices"]
        refused = post(site, LONG | {"n": 2})
        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert json.loads(refused.read())["error"]["code"] == "queue_full"
        assert post(site, LONG | {"n": 4}).status == 400
        site.engine.release()
        assert list(events(response))[-1] == "[DONE]"
    assert post(site, LONG | {"n": 3}).status == 200


def test_who_goes_away_is_not_answered_any_more(site: Any) -> None:
    site.engine.hold()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, site, LONG)
        site.engine.permits.release(1)
        response = waiting.result()
    next(events(response))
    response.close()
    site.engine.release()
    assert site.engine.cancellation.wait(20)


def test_an_answer_that_takes_too_long_is_given_up_with_an_error(chat_model: Path, serve: Any) -> None:
    with serve(chat_model, answer_seconds=0.1) as site:
        site.engine.hold()
        late = post(site, LONG | {"stream": False})
        assert late.status == 504
        assert json.loads(late.read())["error"]["code"] == "timeout"
        site.engine.release()
        assert site.engine.cancellation.wait(20)


def test_a_stream_that_takes_too_long_ends_with_an_error(chat_model: Path, serve: Any) -> None:
    with serve(chat_model, answer_seconds=0.3) as site:
        site.engine.hold()
        site.engine.permits.release(1)
        said = list(events(post(site, LONG)))
    assert said[0]["choices"]
    assert said[-1]["error"]["code"] == "timeout"


def test_while_it_drains_running_streams_end_whole_and_others_are_sent_away(site: Any) -> None:
    whole = "".join(each["choices"][0]["text"] for each in list(events(post(site, LONG)))[:-1])
    site.engine.hold()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, site, LONG)
        site.engine.permits.release(1)
        response = waiting.result()
    coming = events(response)
    first = next(coming)["choices"][0]["text"]
    site.server.handle_exit(15, None)
    with ThreadPoolExecutor(1) as pool:
        assert post(site, LONG).status == 503
        connection = HTTPConnection("127.0.0.1", site.port)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 503
        connection.close()
        site.engine.release()
        rest = pool.submit(list, coming).result()
    assert first + "".join(each["choices"][0]["text"] for each in rest[:-1]) == whole
    assert rest[-1] == "[DONE]"


def test_a_slow_reader_holds_nobody_up(site: Any) -> None:
    slow = post(site, LONG | {"max_tokens": 200})
    answers = [list(events(post(site, LONG)))[-1] for _ in range(4)]
    assert answers == ["[DONE]"] * 4
    assert list(events(slow))[-1] == "[DONE]"


def test_threads_that_ask_together_get_what_each_gets_alone(chat: Any) -> None:
    asked = [LONG | {"prompt": f"number {n}", "stream": bool(n % 2), "max_tokens": 5 + n} for n in range(12)]

    def text(body: Any) -> str:
        response = post(chat, body)
        if not body["stream"]:
            return str(json.loads(response.read())["choices"][0]["text"])
        return "".join(each["choices"][0]["text"] for each in events(response) if each != "[DONE]")

    alone = [text(body) for body in asked]
    barrier = threading.Barrier(len(asked))

    def together(body: Any) -> str:
        barrier.wait()
        return text(body)

    with ThreadPoolExecutor(len(asked)) as pool:
        assert list(pool.map(together, asked)) == alone
