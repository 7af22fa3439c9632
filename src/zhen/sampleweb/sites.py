"""The sites of the web and how each lays out its pages: boilerplate around an article, in HTML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from zhen.sampleweb.composing import Page
from zhen.sampleweb.words import Language

BOOK = ("person", "town", "festival", "dish")

FOLDERS: dict[str, str] = {
    "person": "people",
    "town": "towns",
    "festival": "festivals",
    "dish": "dishes",
    "story": "stories",
    "diary": "diaries",
    "news": "news",
    "market": "market",
    "questions": "questions",
    "reading": "reading",
    "dictionary": "words",
    "parallel": "sentences",
    "arithmetic": "sums",
}


@dataclass(frozen=True)
class Site:
    """One site: where it is, what it has, how it looks."""

    host: str
    names: dict[Language, str]
    langs: tuple[Language, ...]
    kinds: tuple[str, ...]
    layout: str

    def folder(self, lang: Language, kind: str) -> str:
        """The path of its pages of that kind, without slashes at the ends."""
        folder = FOLDERS[kind]
        return f"{lang}/{folder}" if len(self.langs) > 1 else folder


def _site(host: str, en: str, zh: str, langs: tuple[Language, ...], kinds: tuple[str, ...], layout: str) -> Site:
    return Site(f"{host}.example", {"en": en, "zh": zh}, langs, kinds, layout)


SITES: tuple[Site, ...] = (
    _site("almanac", "The Almanac", "年鉴", ("en",), BOOK, "columns"),
    _site("who-is-who", "Who Is Who", "名人录", ("en",), ("person",), "plain"),
    _site("baike", "Encyclopaedia", "小百科", ("zh",), BOOK, "columns"),
    _site("renwu", "People", "人物志", ("zh",), ("person",), "cards"),
    _site("council", "Town Councils", "各城政务", ("en", "zh"), ("town", "festival", "news"), "official"),
    _site("gazette", "The Gazette", "日报", ("en", "zh"), ("news", "market"), "paper"),
    _site("stories", "Story House", "故事屋", ("en", "zh"), ("story",), "plain"),
    _site("diaries", "Open Diaries", "日记本", ("en", "zh"), ("diary",), "cards"),
    _site("market", "Market Days", "市场", ("en", "zh"), ("market", "dish"), "shop"),
    _site("school", "The School", "学校", ("en",), ("questions", "reading", "arithmetic"), "official"),
    _site("xuetang", "Learning", "学堂", ("zh",), ("questions", "reading", "arithmetic"), "official"),
    _site("quiz", "Quiz Corner", "问答", ("en", "zh"), ("questions",), "paper"),
    _site("dictionary", "Two Tongues", "双语", ("en", "zh"), ("dictionary", "parallel"), "shop"),
)

MIRRORS: tuple[Site, ...] = (
    _site("mirror-one", "Mirror One", "镜子一", ("en", "zh"), (), "plain"),
    _site("mirror-two", "Mirror Two", "镜子二", ("en", "zh"), (), "cards"),
)
"""Sites that have copies only."""

DOUBTFUL: tuple[Site, ...] = (
    _site("lucky-wins", "Lucky Wins", "大赢家", ("en",), (), "shop"),
    _site("caipiao-wang", "Lottery Net", "彩票网", ("zh",), (), "shop"),
    _site("links-and-more", "Links And More", "网址大全", ("en", "zh"), (), "plain"),
)
"""Sites that have nothing worth keeping."""

MENU: dict[Language, tuple[tuple[str, str], ...]] = {
    "en": (("/", "Home"), ("/about", "About us"), ("/latest", "Latest"), ("/contact", "Contact"), ("/login", "Log in")),
    "zh": (("/", "首页"), ("/about", "关于我们"), ("/latest", "最新"), ("/contact", "联系"), ("/login", "登录")),
}
NOTES: dict[Language, dict[str, str]] = {
    "en": {
        "rights": "All rights reserved. Terms of use. Privacy policy.",
        "cookies": "This site uses cookies. Accept all",
        "more": "You may also like",
        "share": "Share this page",
        "search": "Search",
        "post": "Sign up for our weekly letter",
    },
    "zh": {
        "rights": "版权所有。使用条款。隐私政策。",
        "cookies": "本站使用Cookie。全部接受",
        "more": "相关阅读",
        "share": "分享本页",
        "search": "搜索",
        "post": "订阅每周邮件",
    },
}


@dataclass(frozen=True)
class Frame:
    """What a layout puts around a page's content; all of it is escaped HTML."""

    site: str
    title: str
    body: str
    menu: str
    related: str
    notes: dict[str, str]


def render(
    site: Site,
    page: Page,
    related: list[tuple[str, str]],
    lang: str | None = None,
    encoding: str = "utf-8",
    declared: str | None = "utf-8",
) -> bytes:
    """The page as HTML in its site's layout. `related` are (url, title) of other pages of the site.

    `lang`: the language that the page names, if it isn't that of its menus; `declared`: the charset that it names.
    """
    paragraphs = [escape(paragraph, quote=False).replace("\n", "<br>\n") for paragraph in page.paragraphs]
    frame = Frame(
        site=escape(site.names[page.lang]),
        title=escape(page.title, quote=False),
        body="\n".join(f"<p>{paragraph}</p>" for paragraph in paragraphs),
        menu="".join(f'<li><a href="{address}">{name}</a></li>' for address, name in MENU[page.lang]),
        related="".join(f'<li><a href="{escape(url)}">{escape(name)}</a></li>' for url, name in related),
        notes=NOTES[page.lang],
    )
    language = {"en": "en", "zh": "zh-CN"}.get(lang or page.lang, lang)
    charset = f'<meta charset="{declared}">\n' if declared else ""
    head = f"<head>\n{charset}<title>{frame.title} - {frame.site}</title>\n</head>"
    body = LAYOUTS[site.layout](frame)
    html = f'<!DOCTYPE html>\n<html lang="{language}">\n{head}\n<body>\n{body}\n</body>\n</html>\n'
    return html.encode(encoding, "xmlcharrefreplace")


def _columns(frame: Frame) -> str:
    return f"""<header><a href="/" class="logo">{frame.site}</a><nav><ul>{frame.menu}</ul></nav></header>
<div class="columns">
<aside class="sidebar"><h3>{frame.notes["more"]}</h3><ul>{frame.related}</ul></aside>
<main><article>
<h1>{frame.title}</h1>
{frame.body}
</article></main>
</div>
<footer><p>{frame.site}. {frame.notes["rights"]}</p></footer>"""


def _plain(frame: Frame) -> str:
    return f"""<div id="top"><a href="/">{frame.site}</a> <form action="/search"><input name="q">
<button>{frame.notes["search"]}</button></form></div>
<div id="menu" class="navigation"><ul>{frame.menu}</ul></div>
<article>
<h1>{frame.title}</h1>
{frame.body}
</article>
<div id="related" class="related"><h4>{frame.notes["more"]}</h4><ul>{frame.related}</ul></div>
<div id="footer" class="footer">{frame.notes["rights"]}</div>"""


def _cards(frame: Frame) -> str:
    return f"""<div class="cookie-banner" role="dialog">{frame.notes["cookies"]}</div>
<nav class="topbar"><ul>{frame.menu}</ul></nav>
<main class="card">
<h1>{frame.title}</h1>
<div class="entry-content">
{frame.body}
</div>
</main>
<div class="share-buttons">{frame.notes["share"]}: <a href="#">A</a> <a href="#">B</a> <a href="#">C</a></div>
<aside class="related"><ul>{frame.related}</ul></aside>
<footer>{frame.site} | {frame.notes["rights"]}</footer>"""


def _official(frame: Frame) -> str:
    return f"""<header role="banner"><h2>{frame.site}</h2></header>
<nav role="navigation" aria-label="main"><ul>{frame.menu}</ul></nav>
<div class="breadcrumb"><a href="/">{frame.site}</a> &gt; {frame.title}</div>
<main role="main"><article>
<h1>{frame.title}</h1>
{frame.body}
</article></main>
<nav class="pager"><ul>{frame.related}</ul></nav>
<footer role="contentinfo">{frame.notes["rights"]}</footer>
<script>document.title = document.title.trim();</script>"""


def _paper(frame: Frame) -> str:
    return f"""<div class="cookie-banner">{frame.notes["cookies"]}</div>
<header class="masthead"><a href="/">{frame.site}</a></header>
<nav><ul>{frame.menu}</ul></nav>
<div class="page"><article class="post">
<h1>{frame.title}</h1>
<div class="post-body">
{frame.body}
</div>
</article>
<aside class="newsletter"><p>{frame.notes["post"]}</p><form><input type="email"></form></aside>
<aside class="most-read"><h3>{frame.notes["more"]}</h3><ol>{frame.related}</ol></aside></div>
<footer><ul>{frame.menu}</ul><small>{frame.notes["rights"]}</small></footer>"""


def _shop(frame: Frame) -> str:
    return f"""<style>.wrap {{ max-width: 60em }} .promo {{ color: #666 }}</style>
<div class="wrap">
<div class="promo sidebar">{frame.notes["post"]}</div>
<nav class="menu"><ul>{frame.menu}</ul></nav>
<main id="content">
<h1>{frame.title}</h1>
{frame.body}
</main>
<div class="sidebar widget"><h3>{frame.notes["more"]}</h3><ul>{frame.related}</ul></div>
<footer class="site-footer">{frame.site}<br>{frame.notes["rights"]}</footer>
</div>"""


LAYOUTS: dict[str, Callable[[Frame], str]] = {
    "columns": _columns,
    "plain": _plain,
    "cards": _cards,
    "official": _official,
    "paper": _paper,
    "shop": _shop,
}
