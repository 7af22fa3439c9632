"""The server: this machine only, its own name only, the page and its points; and the page as one file."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zhen.cli.app import run as zhen
from zhen.errors import ZhenError
from zhen.watch.page import watch_page
from zhen.watch.runs import Watched
from zhen.watch.server import Server


@pytest.fixture
def serving(plant: Any) -> Iterator[tuple[Any, Server]]:
    run = plant()
    run.train(1, 30)
    server = Server(Watched([run.run]), 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield run, server
    server.shutdown()
    thread.join()
    server.server_close()


def get(server: Server, path: str, host: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*server.server_address[:2])
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def test_page_and_points(serving: tuple[Any, Server]) -> None:
    _, server = serving
    status, page = get(server, "/")
    assert status == 200
    assert b"connect-src 'self'" in page
    status, body = get(server, "/data")
    assert status == 200
    assert json.loads(body)["runs"][0]["stages"][0]["tables"]["train"]["count"] == 30


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/data", "evil.example", 403),
        ("/", "evil.example:8765", 403),
        ("/data", "localhost:1", 200),
        ("/../etc/passwd", None, 404),
        ("/data?known=[1]", None, 400),
        ("/data?known=%7B", None, 400),
        ("/data?known=" + "[" * 50_000, None, 400),
        ("/data?known=%7B%220/pretrain-0123abcd%22:%7B%22train%22:%22x%22,%22events%22:[-5,99]%7D%7D", None, 200),
    ],
)
def test_what_is_asked_wrongly_is_refused(
    serving: tuple[Any, Server], path: str, host: str | None, status: int
) -> None:
    assert get(serving[1], path, host)[0] == status
    assert get(serving[1], "/data")[0] == 200


def test_nobody_else_can_reach_it(serving: tuple[Any, Server]) -> None:
    assert serving[1].socket.getsockname()[0] == "127.0.0.1"


def test_a_port_in_use_is_one_clear_error(plant: Any) -> None:
    run = plant()
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ZhenError, match="in use"):
        Server(Watched([run.run]), taken.getsockname()[1])


def test_the_export_is_one_file_with_all_in_it(plant: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = plant("t<i>ny")
    run.train(1, 40)
    run.sample(0, "</script><script>alert(1)</script>")
    file = tmp_path / "page.html"
    assert zhen(["watch", str(run.run), "--export", str(file)]) == 0
    page = file.read_text()
    assert capsys.readouterr().out == ""
    assert "<title>t&lt;i&gt;ny</title>" in page
    assert "t<i>ny" not in page
    assert len(re.findall("</script>", page)) == 4
    assert "connect-src" not in page
    assert re.findall(r"(?:src|href)=\"(?!data:)", page) == []
    inside = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert inside is not None
    rows = json.loads(inside[1])["runs"][0]["stages"][0]["samples"]["rows"]
    assert rows[0]["continuation"] == "</script><script>alert(1)</script>"


def test_values_that_no_json_has_do_no_harm(serving: tuple[Any, Server], tmp_path: Path) -> None:
    run, server = serving
    with (run.folder / "events.jsonl").open("a") as file:
        file.write('{"step": 1, "kind": "spike", "loss": 1e999, "least": NaN, "text": "\\ud83d"}\n')
    assert zhen(["watch", str(run.run), "--export", str(tmp_path / "page.html")]) == 0
    inside = re.search(r'id="data">(.*?)</script>', (tmp_path / "page.html").read_text(), re.DOTALL)
    assert inside is not None
    for found in (inside[1], get(server, "/data")[1]):
        event = json.loads(found)["runs"][0]["stages"][0]["events"]["rows"][-1]
        assert (event["loss"], event["least"], event["text"]) == (None, None, "\ud83d")


def test_marks_in_what_is_put_in_are_left_alone() -> None:
    assert "<title>a @@DATA@@ b</title>" in watch_page("a @@DATA@@ b")


def test_no_folder_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert zhen(["watch", str(tmp_path / "no")]) == 2
    assert "no such folder" in capsys.readouterr().err
