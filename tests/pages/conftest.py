"""A real browser for tests of pages: headless Chromium, network off, spoken to over a pipe (DevTools protocol)."""

from __future__ import annotations

import json
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
OFFLINE = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *(
        "--disable-background-networking",
        "--disable-component-update",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ),
    *("--proxy-server=127.0.0.1:9", "--remote-debugging-pipe"),
)
PIPED = 'exec "$@" 3<&0 4>&1 1>&2 </dev/null'
"""Chromium reads commands from descriptor 3 and writes answers to 4, each a JSON text that a zero byte ends."""

PATIENCE = 60
"""Seconds that an answer may take before the browser is given up."""


class Browser:
    """One tab. What it asks the network for and what its console says is kept in `requests` and `console`."""

    def __init__(self, program: str, profile: Path) -> None:
        command = ["sh", "-c", PIPED, "sh", program, *OFFLINE, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._rest = b""
        self._number = 0
        self._session: dict[str, str] = {}
        self._events: list[str] = []
        self.requests: list[str] = []
        self.console: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": found["sessionId"]}
        for room in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{room}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Run one command of the protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **self._session}
        assert self._process.stdin
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, address: str, width: int = 1280, *, dark: bool = False, media: str = "screen") -> None:
        """Load a page and wait for it, in a window of that width, theme and medium."""
        theme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        self.call("Emulation.setEmulatedMedia", media=media, features=theme)
        self._events, self.requests, self.console = [], [], []
        self.call("Page.navigate", url=address)
        self.loaded()

    def loaded(self, times: int = 1) -> None:
        """Wait until what was opened has loaded so many times: more than once where it reloads itself."""
        while self._events.count("Page.loadEventFired") < times:
            self._read()

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until a JavaScript condition holds in the page."""
        script = f"""new Promise(found => {{
            const watch = setInterval(() => ({condition}) && (clearInterval(watch), found(true)), 20);
            setTimeout(() => (clearInterval(watch), found(false)), {PATIENCE * 1000});
        }})"""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert found["result"]["value"], condition

    def fill(self, selector: str, text: str) -> None:
        """Put a text into a field in place of what is there, and leave it."""
        self.run(f"(field => (field.focus(), field.select()))(document.querySelector({json.dumps(selector)}))")
        self.call("Input.insertText", text=text)
        self.run("document.activeElement.blur()")

    def write(self, selector: str, text: str) -> None:
        """Type a text into an element, and press Enter."""
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            more = {"text": "\r"} if kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, **more)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
            piece = self._process.stdout.read(1 << 16) if ready else b""
            assert piece, "the browser is gone or silent"
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        parameters = found.get("params", {})
        match found.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded":
                self.console.append(json.dumps(parameters))
            case str(event):
                self._events.append(event)
        return found


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next((path for name in NAMES if (path := shutil.which(name))), None)
    if not program:
        pytest.skip("no Chromium is installed")
    opened = Browser(program, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()
