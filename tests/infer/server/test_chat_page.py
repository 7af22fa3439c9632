"""The chat page in a real browser without a network: send, stream, stop, languages, history, no errand."""

from __future__ import annotations

import importlib.util
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the extra `serve` is not installed")

from zhen.infer.server.words import WORDS, preferred

_spec = importlib.util.spec_from_file_location("browser", Path(__file__).parents[2] / "pages" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_pages = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_pages)
browser = _pages.browser

BOT = "document.querySelectorAll('#talk .bot.message')"
IDLE = "getComputedStyle(document.querySelector('#ask')).display && !document.querySelector('#stop')?.offsetParent"


@pytest.fixture(scope="module")
def site(chat_model: Path, serve: Any) -> Iterator[Any]:
    with serve(chat_model, page=True, places=8) as running:
        yield running


@pytest.fixture
def page(site: Any, browser: Any) -> Any:
    browser.open(f"{site.base}/")
    browser.run("localStorage.clear()")
    browser.open(f"{site.base}/")
    # what the server says when the page has loaded
    browser.wait(f"document.querySelector('#ask textarea')?.placeholder == {WORDS['en']['ask']!r}")
    return browser


def said(page: Any) -> str:
    return str(page.run(f"[...{BOT}].at(-1)?.innerText ?? ''"))


def ask(page: Any, text: str, answers: int = 1) -> str:
    page.write("#ask textarea", text)
    page.wait(f"{BOT}.length == {answers} && /\\d/.test(document.querySelector('#speed')?.innerText ?? '') && {IDLE}")
    return said(page)


def test_what_is_asked_is_answered_and_kept_over_a_reload(page: Any, site: Any) -> None:
    kept = page.run("localStorage.getItem('zhen-chat')")
    answer = ask(page, "Where is the town?")
    assert re.search(r"tokens.*tokens/s", page.run("document.querySelector('#speed').innerText"))
    page.wait(f"localStorage.getItem('zhen-chat') != {json.dumps(kept)}")
    page.open(f"{site.base}/")
    page.wait(f"{BOT}.length == 1")
    assert said(page) == answer


def test_nothing_is_asked_of_any_other_machine(page: Any, site: Any) -> None:
    ask(page, "![](http://example.com/x.png) <img src='http://example.com/y.png'>")
    strangers = [url for url in page.requests if not url.startswith((site.base, "data:", "blob:"))]
    assert [url for url in strangers if "example.com" not in url] == []
    errors = [line for line in page.console if "error" in line and "example.com" not in line]
    assert errors == []


def test_an_answer_can_be_stopped(page: Any, site: Any) -> None:
    site.engine.hold()
    site.engine.cancellation.clear()

    def pace() -> None:
        while not site.engine.cancellation.wait(0.03):
            site.engine.permits.release(1)

    steps = threading.Thread(target=pace)
    steps.start()
    page.write("#ask textarea", "Go on and on")
    page.wait(f"{BOT}.length == 1 && document.querySelector('#stop')?.offsetParent")
    page.run("document.querySelector('#stop').click()")
    steps.join()
    site.engine.release()
    page.wait(f"document.querySelector('#speed').innerText.includes({WORDS['en']['stopped']!r}) && {IDLE}")


def test_the_language_is_switched_and_kept(page: Any, site: Any) -> None:
    page.run("document.querySelector('#language input[value=\"中文\"]').click()")
    page.wait(f"document.querySelector('#ask textarea').placeholder == {WORDS['zh']['ask']!r}")
    page.open(f"{site.base}/")
    page.wait(f"document.querySelector('#ask textarea')?.placeholder == {WORDS['zh']['ask']!r}")
    assert WORDS["zh"]["private"][:6] in page.run("document.querySelector('#notes').innerText")


def test_both_languages_say_the_same_things() -> None:
    assert WORDS["en"].keys() == WORDS["zh"].keys()
    for name, text in WORDS["en"].items():
        assert re.findall(r"{\w+", text) == re.findall(r"{\w+", WORDS["zh"][name])
    assert [preferred(header) for header in ("zh-CN,zh;q=0.9", "en-GB", "", "ZH")] == ["zh", "en", "en", "zh"]
