"""The page in a real browser while a run's files grow: new points, events, languages, axes, a phone, no errand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zhen.watch.page import watch_page
from zhen.watch.runs import Watched
from zhen.watch.server import Server

DRAWN = "document.querySelector('#loss svg path.series')"
LAST = "[...document.querySelectorAll('#runs dd')][0]?.innerText"
POINTS = "document.querySelector('#loss .faint').getAttribute('d').split(/[ML]/).length - 1"
PLOT = "+document.querySelector('#loss .rule').getAttribute('y2')"
OUTSIDE = """[...document.querySelectorAll('body *')].filter(each => {
  const box = each.getBoundingClientRect();
  return box.width && (box.left < -1 || box.right > innerWidth + 1) && !each.closest('.wide, svg');
}).map(each => each.outerHTML.slice(0, 80))"""


@pytest.fixture
def live(plant: Any, browser: Any) -> Iterator[Any]:
    run = plant(steps=200)
    run.train(1, 40)
    run.sample(0, "there was")
    server = Server(Watched([run.run]), 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    run.address = server.address
    yield run
    browser.open("about:blank")
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_new_point_appears_while_the_run_goes_on(live: Any, browser: Any) -> None:
    browser.open(f"{live.address}?lang=en")
    browser.wait(f"{DRAWN} && {LAST} == '40 / 200'")
    assert browser.run(POINTS) == 40
    live.train(41, 43)
    live.event("spike", 42)
    live.sample(40, "a second <i>sample</i>")
    browser.wait(f"{LAST} == '43 / 200'")
    assert browser.run(POINTS) == 43
    browser.wait("document.querySelectorAll('#loss .mark.trouble').length == 1")
    browser.wait("document.querySelector('#samples dd').innerText == 'a second <i>sample</i>'")
    assert "spike" in browser.run("document.querySelector('#events tbody').innerText")
    # the run goes back, and on
    live.cut(20)
    live.append("start", 20, steps=200, tokens_per_step=2048, flops_per_token=6e6)
    live.train(21, 25)
    browser.wait(f"{LAST} == '25 / 200'")
    assert browser.run(POINTS) == 25
    assert browser.console == []
    assert {address.split("?")[0] for address in browser.requests} == {live.address, f"{live.address}data"}


def test_axes_ranges_and_what_the_pointer_shows(live: Any, browser: Any) -> None:
    browser.open(f"{live.address}?lang=en")
    browser.wait(f"{DRAWN}")
    ticks = "[...document.querySelectorAll('#loss svg text.en')].map(each => each.textContent)"
    for axis, wanted in (("tokens", "80k"), ("flops", "400G"), ("time", "1 min"), ("step", "40")):
        browser.run(f"document.querySelector('input[value={axis}]').click()")
        assert wanted in browser.run(ticks), axis
    browser.run("document.querySelector('input[value=half]').click()")
    assert browser.run(POINTS) == 21
    drawn = "document.querySelector('#loss .faint').getBBox()"
    assert browser.run(f"{drawn}.y >= 0 && {drawn}.y + {drawn}.height <= {PLOT}")
    browser.run(
        "(() => { const box = document.querySelector('#loss svg').getBoundingClientRect();"
        "document.querySelector('#loss svg').dispatchEvent(new PointerEvent('pointermove',"
        "{ bubbles: true, clientX: box.right - 8, clientY: box.top + 50 })); })()"
    )
    assert browser.run("document.querySelector('#loss .readout').innerText") == "steps 40"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_on_a_phone_nothing_sticks_out(live: Any, browser: Any, lang: str, dark: bool) -> None:
    live.event("failed", 40, found="step 41: the loss is nan; expected a finite number " * 3)
    browser.open(f"{live.address}?lang={lang}", 375, dark=dark)
    browser.wait(f"{DRAWN} && document.querySelector('#samples dd')")
    assert browser.run(OUTSIDE) == []
    assert browser.run("document.documentElement.scrollWidth <= 375")
    shown = browser.run("document.querySelector('#loss figcaption').innerText")
    assert shown.startswith("Loss" if lang == "en" else "损失")
    light = browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert light is not dark
    assert browser.console == []


def test_other_runs_are_drawn_beside_and_named(plant: Any, browser: Any, tmp_path: Path) -> None:
    first, second = plant("warm"), plant("cold")
    first.train(1, 60)
    second.train(1, 30)
    watched = Watched([first.run, second.run])
    page = tmp_path / "page.html"
    page.write_text(watch_page(watched.title, watched.since({}, 0)), encoding="utf-8")
    browser.open(f"{page.as_uri()}?lang=en")
    browser.wait(DRAWN)
    named = "[...document.querySelectorAll('#{} .legend span')].map(each => each.firstChild.nextSibling.textContent)"
    assert browser.run(named.format("loss")) == ["warm", "cold"]
    assert browser.run("document.querySelectorAll('#bits .legend > span').length") == 4
    assert browser.run("!!document.querySelector('#gradients-attention svg')")
    assert browser.run("document.querySelectorAll('#runs .run').length") == 2
    assert browser.requests == [f"{page.as_uri()}?lang=en"]
    assert browser.console == []
