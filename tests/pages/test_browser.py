"""The page in a real browser, with the network off: nothing is asked for, nothing complains, the language changes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from zhen.pages.charts import Line, line_chart
from zhen.pages.histogram import histogram
from zhen.pages.page import html_page
from zhen.pages.parts import Key, Panel, Panels, Score, Scores, Section, Text, Words

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OFFLINE = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND"),
    *("--proxy-server=127.0.0.1:9", "--enable-logging=stderr", "--v=0", "--dump-dom"),
)


@pytest.fixture(scope="module")
def browser() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if not found:
        pytest.skip("no Chromium is installed")
    return found


@pytest.fixture
def page(tmp_path: Path) -> Path:
    words = Words("from pages to a release", "从网页到发布")
    lines = [Line(words, [(0, 1), (1, 2)]), Line("reference", [(0, 1)], dashed=True)]
    panels = Panels([Panel(words, histogram([4, 0], [1, 0], [(0.5, 1)]), "0", "1", words)], [Key(words, 0)])
    scores = Scores(words, [Score(words, 0.5, 0.1, "50 %")], 0.25)
    section = Section(words, [line_chart(lines, x=words, y=words, caption=words), panels, scores])
    path = tmp_path / "report.html"
    path.write_text(html_page(words, [Text(words)], [section], words), encoding="utf-8")
    return path


def open_page(browser: str, address: str, profile: Path) -> tuple[str, str]:
    """The page's document once its script has run, and what its console says."""
    command = [browser, *OFFLINE, f"--user-data-dir={profile}", address]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    log = done.stderr.decode("utf-8", "replace")
    return done.stdout.decode("utf-8"), "\n".join(line for line in log.splitlines() if "CONSOLE" in line)


@pytest.mark.parametrize(("lang", "title"), [("en", "from pages to a release"), ("zh", "从网页到发布")])
def test_page_opens_offline_in_the_language_asked_for(
    browser: str, page: Path, tmp_path: Path, lang: str, title: str
) -> None:
    document, console = open_page(browser, f"{page.as_uri()}?lang={lang}", tmp_path / "profile")
    assert console == ""
    assert f'<html lang="{lang}">' in document
    assert title in document
    assert '<button id="language" type="button">' in document


def test_button_changes_language_and_title(browser: str, page: Path, tmp_path: Path) -> None:
    # the page's policy refuses the script that clicks, so it is taken off first
    script = 'document.getElementById("language").click(); document.body.dataset.title = document.title;'
    text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8"))
    waiting = f"<script>document.addEventListener('DOMContentLoaded', () => {{ {script} }});</script></body>"
    page.write_text(text.replace("</body>", waiting), encoding="utf-8")
    document, console = open_page(browser, f"{page.as_uri()}?lang=en", tmp_path / "profile")
    assert console == ""
    assert 'data-title="从网页到发布"' in document
    assert '<html lang="zh">' in document


def test_script_that_is_not_the_pages_own_is_refused(browser: str, page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("</body>", "<script>document.title = 'taken'</script></body>")
    page.write_text(text, encoding="utf-8")
    document, console = open_page(browser, page.as_uri(), tmp_path / "profile")
    assert "Content Security Policy" in console
    assert "<title>taken" not in document
