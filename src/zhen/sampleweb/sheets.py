"""A sheet: a page as it goes into the crawl, with what is wrong with it and what must become of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from zhen.sampleweb.composing import Page
from zhen.sampleweb.sites import Site

Fate = Literal["keep", "drop", "redact", "lost", "either"]
Damage = Literal["", "cut-member", "wrong-digest", "wrong-length"]


@dataclass(frozen=True)
class Sheet:
    """One record of the crawl."""

    url: str
    site: Site
    page: Page
    lang: str
    """ISO 639-1, or `und`; the page's own `lang` is that of its site's menus."""
    fate: Fate = "keep"
    """`redact`: keep with its contacts masked. `either`: keeping and dropping are both right."""
    why: str = ""
    """The fault."""
    encoding: str = "utf-8"
    server: str | None = "utf-8"
    """The charset that the server names."""
    declared: str | None = "utf-8"
    """The charset that the page names."""
    status: int = 200
    damage: Damage = ""
    notice: str = ""
    """A paragraph behind the page's own, which very many pages have: in the crawl, but not what the page says."""
    more: dict[str, Any] = field(default_factory=dict)
    """Further fields of its row in the key."""

    @property
    def shown(self) -> Page:
        """The page as the crawl has it."""
        return replace(self.page, paragraphs=(*self.page.paragraphs, self.notice)) if self.notice else self.page

    def row(self) -> dict[str, Any]:
        """Its row in `key/pages.jsonl`."""
        return {
            "url": self.url,
            "site": self.site.host,
            "lang": self.lang,
            "kind": self.page.kind,
            "fate": self.fate,
            "why": self.why,
            "states": list(self.page.states),
            "asks": list(self.page.asks),
            "title": self.page.title,
            "text": self.page.text,
            **({"notice": self.notice} if self.notice else {}),
            **self.more,
        }
