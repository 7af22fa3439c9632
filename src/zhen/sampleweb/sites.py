"""The sites of the web and how each lays out its pages: boilerplate around an article, in HTML."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from zhen.sampleweb.composing import Page
from zhen.sampleweb.words import Language

Layout = tuple[int, int, int]
"""Which of HEADS, BODIES and FEET a site has; no two sites have the same three."""

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
    "forum": "threads",
    "timetable": "trains",
    "reading": "reading",
    "dictionary": "words",
    "parallel": "sentences",
    "arithmetic": "sums",
    "register": "registers",
}


@dataclass(frozen=True)
class Site:
    """One site: where it is, what it has, how it looks."""

    host: str
    names: dict[Language, str]
    langs: tuple[Language, ...]
    kinds: tuple[str, ...]
    layout: Layout

    def folder(self, lang: Language, kind: str) -> str:
        """The path of its pages of that kind, without slashes at the ends."""
        folder = FOLDERS[kind]
        return f"{lang}/{folder}" if len(self.langs) > 1 else folder


def _site(host: str, en: str, zh: str, langs: tuple[Language, ...], kinds: tuple[str, ...], layout: Layout) -> Site:
    return Site(f"{host}.example", {"en": en, "zh": zh}, langs, kinds, layout)


SITES: tuple[Site, ...] = (
    _site("almanac", "The Almanac", "年鉴", ("en",), BOOK, (0, 0, 0)),
    _site("baike", "Encyclopaedia", "小百科", ("zh",), BOOK, (0, 1, 2)),
    _site("who-is-who", "Who Is Who", "名人录", ("en",), ("person",), (1, 1, 1)),
    _site("renwu", "People", "人物志", ("zh",), ("person",), (2, 2, 2)),
    _site("atlas", "The Atlas", "地图集", ("en",), ("town",), (0, 3, 5)),
    _site("ditu", "Maps", "地图", ("zh",), ("town",), (2, 3, 1)),
    _site("council", "Town Councils", "各城政务", ("en", "zh"), ("town", "festival", "news"), (3, 3, 3)),
    _site("gazette", "The Gazette", "日报", ("en", "zh"), ("news", "market"), (4, 4, 4)),
    _site("radio", "River Radio", "广播", ("en", "zh"), ("news", "diary"), (5, 4, 0)),
    _site("stories", "Story House", "故事屋", ("en", "zh"), ("story",), (1, 2, 1)),
    _site("letters", "Letters Home", "家书", ("en", "zh"), ("story", "diary"), (4, 0, 2)),
    _site("diaries", "Open Diaries", "日记本", ("en", "zh"), ("diary",), (2, 4, 3)),
    _site("market", "Market Days", "市场", ("en", "zh"), ("market", "dish"), (5, 5, 5)),
    _site("kitchen", "The Kitchen", "厨房", ("en", "zh"), ("dish", "market"), (5, 1, 4)),
    _site("feasts", "Feast Days", "节日", ("en", "zh"), ("festival", "news"), (3, 2, 0)),
    _site("railway", "The Railway", "铁路", ("en", "zh"), ("timetable",), (3, 5, 1)),
    _site("school", "The School", "学校", ("en",), ("questions", "reading", "arithmetic"), (3, 3, 5)),
    _site("xuetang", "Learning", "学堂", ("zh",), ("questions", "reading", "arithmetic"), (3, 3, 0)),
    _site("workbook", "The Workbook", "练习本", ("en", "zh"), ("questions", "arithmetic"), (1, 0, 3)),
    _site("library", "The Library", "图书馆", ("en", "zh"), ("reading", "story"), (0, 5, 3)),
    _site("quiz", "Quiz Corner", "问答", ("en", "zh"), ("questions",), (4, 1, 4)),
    _site("forum", "Ask The Town", "问大家", ("en", "zh"), ("forum",), (2, 0, 4)),
    _site("helpdesk", "Help Desk", "帮助台", ("en", "zh"), ("forum",), (1, 5, 2)),
    _site("dictionary", "Two Tongues", "双语", ("en", "zh"), ("dictionary", "parallel"), (5, 2, 5)),
)

REGISTRY = _site("registry", "The Registry", "登记处", ("en", "zh"), ("register",), (0, 0, 2))
"""The site of registers, where there are any."""

MIRRORS: tuple[Site, ...] = (
    _site("mirror-one", "Mirror One", "镜子一", ("en", "zh"), (), (1, 4, 1)),
    _site("mirror-two", "Mirror Two", "镜子二", ("en", "zh"), (), (2, 1, 5)),
)
"""Sites that have copies only."""

DOUBTFUL: tuple[Site, ...] = (
    _site("lucky-wins", "Lucky Wins", "大赢家", ("en",), (), (5, 5, 0)),
    _site("caipiao-wang", "Lottery Net", "彩票网", ("zh",), (), (5, 5, 2)),
    _site("links-and-more", "Links And More", "网址大全", ("en", "zh"), (), (1, 1, 0)),
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
    body = lay_out(site.layout, frame)
    html = f'<!DOCTYPE html>\n<html lang="{language}">\n{head}\n<body>\n{body}\n</body>\n</html>\n'
    return html.encode(encoding, "xmlcharrefreplace")


HEADS: tuple[str, ...] = (
    """<header><a href="/" class="logo">{f.site}</a><nav><ul>{f.menu}</ul></nav></header>""",
    """<div id="top"><a href="/">{f.site}</a> <form action="/search"><input name="q">
<button>{f.notes[search]}</button></form></div>
<div id="menu" class="navigation"><ul>{f.menu}</ul></div>""",
    """<div class="cookie-banner" role="dialog">{f.notes[cookies]}</div>
<nav class="topbar"><ul>{f.menu}</ul></nav>""",
    """<header role="banner"><h2>{f.site}</h2></header>
<nav role="navigation" aria-label="main"><ul>{f.menu}</ul></nav>
<div class="breadcrumb"><a href="/">{f.site}</a> &gt; {f.title}</div>""",
    """<div class="cookie-banner">{f.notes[cookies]}</div>
<header class="masthead"><a href="/">{f.site}</a></header>
<nav><ul>{f.menu}</ul></nav>""",
    """<style>.wrap {{ max-width: 60em }} .promo {{ color: #666 }}</style>
<div class="promo sidebar">{f.notes[post]}</div>
<nav class="menu"><ul>{f.menu}</ul></nav>""",
)
"""What stands above the content."""

BODIES: tuple[str, ...] = (
    """<div class="columns">
<aside class="sidebar"><h3>{f.notes[more]}</h3><ul>{f.related}</ul></aside>
<main><article>
<h1>{f.title}</h1>
{f.body}
</article></main>
</div>""",
    """<article>
<h1>{f.title}</h1>
{f.body}
</article>
<div id="related" class="related"><h4>{f.notes[more]}</h4><ul>{f.related}</ul></div>""",
    """<main class="card">
<h1>{f.title}</h1>
<div class="entry-content">
{f.body}
</div>
</main>
<div class="share-buttons">{f.notes[share]}: <a href="#">A</a> <a href="#">B</a> <a href="#">C</a></div>
<aside class="related"><ul>{f.related}</ul></aside>""",
    """<main role="main"><article>
<h1>{f.title}</h1>
{f.body}
</article></main>
<nav class="pager"><ul>{f.related}</ul></nav>""",
    """<div class="page"><article class="post">
<h1>{f.title}</h1>
<div class="post-body">
{f.body}
</div>
</article>
<aside class="newsletter"><p>{f.notes[post]}</p><form><input type="email"></form></aside>
<aside class="most-read"><h3>{f.notes[more]}</h3><ol>{f.related}</ol></aside></div>""",
    """<div class="wrap">
<main id="content">
<h1>{f.title}</h1>
{f.body}
</main>
<div class="sidebar widget"><h3>{f.notes[more]}</h3><ul>{f.related}</ul></div>
</div>""",
)
"""The content and what stands beside it."""

FEET: tuple[str, ...] = (
    """<footer><p>{f.site}. {f.notes[rights]}</p></footer>""",
    """<div id="footer" class="footer">{f.notes[rights]}</div>""",
    """<footer>{f.site} | {f.notes[rights]}</footer>""",
    """<footer role="contentinfo">{f.notes[rights]}</footer>
<script>document.title = document.title.trim();</script>""",
    """<footer><ul>{f.menu}</ul><small>{f.notes[rights]}</small></footer>""",
    """<footer class="site-footer">{f.site}<br>{f.notes[rights]}</footer>""",
)
"""What stands below it."""


def lay_out(layout: Layout, frame: Frame) -> str:
    """The content with the three parts of a layout around it."""
    head, body, foot = layout
    return "\n".join(part.format(f=frame) for part in (HEADS[head], BODIES[body], FEET[foot]))
