"""The chat page in a real browser without a network: send, stream, stop, languages, history, no errand."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the extra `serve` is not installed")

from zhen.infer.server.words import WORDS

_spec = importlib.util.spec_from_file_location("browser", Path(__file__).parents[2] / "pages" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_pages = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_pages)
browser = _pages.browser

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pandas, in Gradio's threads

BOT = "document.querySelectorAll('#talk .bot.message')"
USER = "document.querySelectorAll('#talk .user.message')"
IDLE = "!document.querySelector('#stop')?.offsetParent"
SPEED = "(document.querySelector('#speed')?.innerText ?? '')"
KEPT = "JSON.parse(localStorage.getItem('zhen-chats') ?? '[]')"
PHONE = 375
LONGEST = 120
"""Tokens of a prompt and its answer: enough to be looked at."""


@pytest.fixture(scope="module")
def site(chat_model: Path, serve: Any) -> Iterator[Any]:
    with serve(chat_model, page=True, places=8, longest=LONGEST) as running:
        running.serving.served.ends = frozenset()  # answers are as long as they may be
        yield running


@pytest.fixture
def page(site: Any, browser: Any) -> Any:
    browser.open(f"{site.base}/")
    browser.run("(localStorage.clear(), sessionStorage.clear())")
    come(browser, site)
    return browser


def come(browser: Any, site: Any, language: str = "en", width: int = 1280) -> None:
    """Open the page and wait until it is ready."""
    browser.open(f"{site.base}/", width)
    browser.wait(f"document.querySelector('#ask textarea')?.placeholder == {WORDS[language]['ask']!r}")


def said(page: Any) -> str:
    return str(page.run(f"[...{BOT}].at(-1)?.innerText ?? ''"))


def done(page: Any, site: Any, asked: int, answers: int = 1) -> str:
    """The answer, once as many requests were made and as many answers are shown, whole and kept."""
    page.wait(
        f"{BOT}.length == {answers} && /\\d/.test({SPEED}) && {IDLE}"
        f" && {KEPT}[0]?.turns.length == {2 * answers} && {KEPT}[0].turns.at(-1).role == 'assistant'"
    )
    assert len(site.engine.asked) == asked
    return said(page)


def ask(page: Any, site: Any, text: str, answers: int = 1) -> str:
    before = len(site.engine.asked)
    page.write("#ask textarea", text)
    return done(page, site, before + 1, answers)


def press(page: Any, name: str, place: int = 0) -> None:
    """Click a button beside a message."""
    button = f"[...document.querySelectorAll('#talk button[aria-label={name}]')].at({place})"
    page.wait(button)
    page.run(f"{button}.click()")


def again(page: Any, site: Any) -> str:
    """The answer made again, once that is begun and done; held till then, or its beginning could pass unseen."""
    before = len(site.engine.asked)
    site.engine.hold()
    try:
        press(page, "Retry")
        page.wait(f"{BOT}.length == 0 || !({IDLE})")
    finally:
        site.engine.release()
    return done(page, site, before + 1)


def test_what_is_asked_is_answered_and_kept_over_a_reload(page: Any, site: Any) -> None:
    answer = ask(page, site, "Where is the town?")
    assert re.search(r"tokens.*tokens/s", page.run(SPEED))
    come(page, site)
    page.wait(f"{BOT}.length == 1")
    assert said(page) == answer
    assert page.run(f"{USER}[0].innerText") == "Where is the town?"


def test_nothing_is_asked_of_any_other_machine(page: Any, site: Any) -> None:
    page.console.clear()
    ask(page, site, "![](http://example.com/x.png) <img src='http://example.com/y.png'>")
    strangers = [url for url in page.requests if not url.startswith((site.base, "data:", "blob:"))]
    assert [url for url in strangers if "example.com" not in url] == []
    errors = [line for line in page.console if "error" in line and "example.com" not in line]
    assert errors == []


@contextmanager
def answering(page: Any, site: Any) -> Iterator[None]:
    """While an answer comes, which is given up by what is done in the block."""
    site.engine.hold()
    site.engine.cancellation.clear()
    try:
        page.write("#ask textarea", "Go on and on")
        site.engine.permits.release(3)
        page.wait(f"{BOT}.length == 1 && document.querySelector('#stop')?.offsetParent")
        yield
        for _ in range(LONGEST):  # a word now and then shows that nobody is there to read it
            if site.engine.cancellation.wait(0.1):
                break
            site.engine.permits.release(1)
        assert site.engine.cancelled
    finally:
        site.engine.cancelled.clear()
        site.engine.release()


def test_an_answer_can_be_stopped(page: Any, site: Any) -> None:
    with answering(page, site):
        page.run("document.querySelector('#stop').click()")
    page.wait(f"{SPEED}.includes({WORDS['en']['stopped']!r}) && {IDLE}")


def test_a_new_chat_ends_the_answer_of_the_old(page: Any, site: Any) -> None:
    with answering(page, site):
        page.run("document.querySelector('#new').click()")
    page.wait(f"{USER}.length == 0 && {IDLE}")
    ask(page, site, "And now?")
    titles = "[...document.querySelectorAll('#earlier label')].map(each => each.innerText.trim())"
    assert page.run(titles) == ["And now?", "Go on and on"]
    page.run("document.querySelectorAll('#earlier input')[1].click()")
    page.wait(f"{USER}[0]?.innerText == 'Go on and on'")
    page.run("document.querySelector('#forget').click()")
    page.wait(f"{USER}.length == 0 && {titles}.length == 0 && {KEPT}.length == 0")


def test_who_leaves_while_the_answer_comes_is_not_answered_any_more(page: Any, site: Any) -> None:
    with answering(page, site):
        page.open("about:blank")


def test_answers_are_made_again_as_fast_as_one_can_ask(page: Any, site: Any) -> None:
    ask(page, site, "Where is the town?")
    prompt = site.engine.asked[-1].prompt
    for _ in range(6):
        page.wait(IDLE)
        again(page, site)  # at once, with no regard to what of the last one is still under way
        assert site.engine.asked[-1].prompt == prompt
    assert len({tuple(asked.prompt) for asked in site.engine.asked[-7:]}) == 1
    assert len({asked.seed for asked in site.engine.asked[-7:]}) == 7
    # the stream is the same all the while: an answer asked for while it closes and opens again would go astray
    assert len([url for url in page.requests if "/queue/data" in url]) == 1


def test_a_question_can_be_put_otherwise(page: Any, site: Any) -> None:
    ask(page, site, "Where is the lake?")
    ask(page, site, "And the town?", answers=2)
    before = len(site.engine.asked)
    press(page, "Edit")
    page.wait("document.querySelector('#talk .user textarea')")
    page.fill("#talk .user textarea", "Who is the number?")
    press(page, "Submit")
    done(page, site, before + 1)
    assert page.run(f"[...{USER}].map(each => each.innerText.trim())") == ["Who is the number?"]
    assert "Who is the number?" in site.engine.prompt()
    assert "lake" not in site.engine.prompt()


def test_what_the_controls_say_is_what_the_model_is_asked(page: Any, site: Any) -> None:
    page.run("document.querySelector('.sidebar .toggle-button').click()")
    page.run("document.querySelector('#sampling button').click()")
    page.wait("document.querySelector('#seed input')?.checkVisibility()")
    page.fill("#system textarea", "Be the lake.")
    for name, value in {"temperature": "0.5", "top_p": "0.7", "max_tokens": "7", "seed": "11"}.items():
        page.fill(f"#{name} input[type=number]", value)
    ask(page, site, "Where?")
    asked = site.engine.asked[-1]
    assert "Be the lake." in site.engine.prompt()
    assert (asked.temperature, asked.top_p, asked.max_tokens, asked.seed) == (0.5, 0.7, 7, 11)
    first = said(page)
    assert again(page, site) == first
    come(page, site)
    page.wait("document.querySelector('#system textarea').value == 'Be the lake.'")


def test_the_language_is_switched_and_kept(page: Any, site: Any) -> None:
    page.run("document.querySelector('#language input[value=\"中文\"]').click()")
    page.wait(f"document.querySelector('#ask textarea').placeholder == {WORDS['zh']['ask']!r}")
    come(page, site, "zh")
    assert WORDS["zh"]["private"][:6] in page.run("document.querySelector('#notes').innerText")
    assert WORDS["zh"]["new"] == page.run("document.querySelector('#new').innerText")


def test_light_and_dark_are_switched_and_kept(page: Any, site: Any) -> None:
    colour = "getComputedStyle(document.querySelector('gradio-app')).backgroundColor"
    shine = f"{colour}.match(/\\d+/g).slice(0, 3).reduce((sum, each) => sum + +each, 0)"
    light = page.run(shine)
    page.run("document.querySelector('#dark').click()")
    page.wait(f"{shine} < 200")
    assert light > 600
    come(page, site)
    page.wait(f"{shine} < 200")


def test_a_phone_shows_all_of_it(page: Any, site: Any) -> None:
    come(page, site, width=PHONE)
    ask(page, site, "Where is the town that has such a long, long, long name by the lake?")
    seen = "(each => [each.left, each.right, each.bottom])(document.querySelector('{}').getBoundingClientRect())"
    page.run("document.querySelector('#speed').append(' and how long that took'.repeat(9))")  # the chat gives way
    for part in ("#talk", "#ask", "#notes"):
        left, right, bottom = page.run(seen.format(part))
        assert left >= 0
        assert right <= PHONE
        assert bottom <= 900
    assert page.run("document.documentElement.scrollWidth") == PHONE
    page.run("document.querySelector('.sidebar .toggle-button').click()")
    page.wait(
        f"(each => each.left >= 0 && each.right <= {PHONE})(document.querySelector('#new').getBoundingClientRect())"
    )


def test_a_page_that_is_open_is_told_when_the_server_closes_and_loses_nothing(
    browser: Any, chat_model: Path, serve: Any
) -> None:
    with serve(chat_model, page=True, places=8, longest=LONGEST) as site:
        come(browser, site)
        site.engine.hold()
        browser.write("#ask textarea", "Where is the town?")
        site.engine.permits.release(3)
        browser.wait(f"{BOT}.length == 1")
        site.server.handle_exit(15, None)
        browser.wait("document.querySelector('#closing').innerText.includes('服务器正在关闭')")
        site.engine.release()
        answer = done(browser, site, 1)
        site.stopped()
    with serve(chat_model, page=True, port=site.port, longest=LONGEST) as again:
        browser.loaded(2)  # by itself
        browser.wait(f"{BOT}.length == 1")
        assert said(browser) == answer
        ask(browser, again, "And the lake?", answers=2)


def test_both_languages_say_the_same_things() -> None:
    assert WORDS["en"].keys() == WORDS["zh"].keys()
    for name, text in WORDS["en"].items():
        assert re.findall(r"{\w+", text) == re.findall(r"{\w+", WORDS["zh"][name])
