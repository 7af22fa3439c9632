"""A small server on this machine's own address: the page, and what it lacks since it last asked."""

from __future__ import annotations

import errno
import json
import sys
import urllib.parse
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from zhen.errors import ZhenError
from zhen.watch.page import watch_page
from zhen.watch.runs import Watched

ADDRESS = "127.0.0.1"
NAMES = frozenset({"127.0.0.1", "localhost"})
"""What a browser on this machine calls the server. Another name is a page of elsewhere that was led here (DNS
rebinding), and gets nothing."""


class Server(ThreadingHTTPServer):
    """Serves `watched` until `shutdown`. It listens on the loopback address and on no other."""

    daemon_threads = True

    def __init__(self, watched: Watched, port: int) -> None:
        """`port` 0: any that is free. Raises ZhenError for one in use."""
        self.watched = watched
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise ZhenError(f"{port}: {error.strerror}", place="--port", hint="choose another: --port 8766") from error

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{ADDRESS}:{self.server_address[1]}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that was closed while it was answered is no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        """`/`: the page. `/data?known=JSON`: what a page lacks that has `known`."""
        host = urllib.parse.urlsplit(f"//{self.headers.get('Host', '')}").hostname
        path = urllib.parse.urlsplit(self.path)
        if host not in NAMES:
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", b"not under this name\n")
        elif path.path == "/":
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", watch_page(self.server.watched.title).encode())
        elif path.path == "/data":
            self._data(urllib.parse.parse_qs(path.query).get("known", ["{}"])[0])
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"no such page\n")

    def _data(self, known: str) -> None:
        try:
            decoded = json.loads(known)
            if not isinstance(decoded, dict):
                raise ValueError("no object")
        except (ValueError, RecursionError):
            self._answer(HTTPStatus.BAD_REQUEST, "text/plain", b"known: not a JSON object\n")
            return
        found = json.dumps(self.server.watched.since(decoded), allow_nan=False).encode()
        self._answer(HTTPStatus.OK, "application/json", found)

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a page asks every second."""
