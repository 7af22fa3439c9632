"""The stage `sampleweb`: writes the crawl, the answer key and the question items."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zhen.formats.files import atomic_write
from zhen.formats.record import Figure
from zhen.formats.stage import Context, Figures
from zhen.sampleweb.composing import Page, compose
from zhen.sampleweb.planning import Plan, plan_pages
from zhen.sampleweb.settings import SamplewebSettings
from zhen.sampleweb.sites import SITES, render
from zhen.sampleweb.tasks import build_tasks
from zhen.sampleweb.warc import write_response, write_warcinfo
from zhen.sampleweb.world import STATED_IN, World, build_world

RELATED = 4
"""Links to other pages of a site beside each of its pages."""


def make(context: Context) -> Figures:
    """Write `crawl/<host>.warc.gz`, `key/` and `tasks/` into the stage's folder.

    Everything is a pure function of the settings and the seed, and each file appears whole, so going on after a stop
    is writing all of it again (seconds).
    """
    settings: SamplewebSettings = context.sections["sampleweb"]
    seed: int = context.sections["run.seed"]
    world = build_world(settings, seed)
    plans = plan_pages(settings, world, seed)
    pages: list[Page] = []
    for plan in plans:
        if plan.number % 100 == 0:
            context.stop_here()
            context.line.update(plan.number, len(plans), "pages")
        pages.append(compose(world, plan.kind, plan.lang, list(plan.subjects), f"sampleweb/{seed}/page/{plan.number}"))
    html_bytes = _write_crawl(context, plans, pages, seed)
    _write_key(context, world, plans, pages)
    questions = 0
    for name, items in build_tasks(world, seed).items():
        _write_lines(context, f"tasks/{name}", items)
        questions += len(items)
    context.line.update(len(plans), len(plans), "pages", f"{len(world.facts)} facts")
    facts = sum(fact.split != "unstated" for fact in world.facts)
    people = len(world.entities["person"])
    context.summary = f"{len(pages):,} pages in two languages that tell {facts:,} facts about a world of {people} people"
    return {
        "pages": Figure(len(pages), "pages"),
        "text_bytes": Figure(sum(len(page.text.encode()) for page in pages), "bytes"),
        "text_bytes_en": Figure(sum(len(page.text.encode()) for page in pages if page.lang == "en"), "bytes"),
        "text_bytes_zh": Figure(sum(len(page.text.encode()) for page in pages if page.lang == "zh"), "bytes"),
        "html_bytes": Figure(html_bytes, "bytes"),
        "people": Figure(people, "people"),
        "facts": Figure(facts, "facts"),
        "unstated_facts": Figure(sum(fact.split == "unstated" for fact in world.facts), "facts"),
        "questions": Figure(questions, "questions"),
    }


def _write_crawl(context: Context, plans: list[Plan], pages: list[Page], seed: int) -> int:
    """One WARC file a site; returns the bytes of all HTTP messages."""
    total = done = 0
    for site in SITES:
        own = [plan for plan in plans if plan.site is site]
        if not own:
            continue
        path = _place(context, f"crawl/{site.host}.warc.gz")
        with atomic_write(path) as file:
            write_warcinfo(file, site.host)
            for plan in own:
                rng = random.Random(f"sampleweb/{seed}/related/{plan.number}")
                linked = rng.sample(own, min(RELATED, len(own)))
                related = [(other.url, pages[other.number].title) for other in linked if other is not plan]
                total += write_response(file, plan.url, render(site, pages[plan.number], related))
        context.output(path, "result", file.digest)
        done += len(own)
        context.stop_here()
        context.line.update(done, len(plans), "pages written", site.host)
    return total


def _write_key(context: Context, world: World, plans: list[Plan], pages: list[Page]) -> None:
    """`key/facts.jsonl` and `key/pages.jsonl`: what is true, where it is told, and what should become of each page."""
    stated: dict[str, list[str]] = {}
    asked: dict[str, list[str]] = {}
    for plan, page in zip(plans, pages, strict=True):
        for fact in page.states:
            stated.setdefault(fact, []).append(plan.url)
        for fact in page.asks:
            asked.setdefault(fact, []).append(plan.url)
    facts = (
        {
            "id": fact.id,
            "split": fact.split,
            "subject": fact.subject.name._asdict(),
            "relation": fact.relation,
            "value": fact.value._asdict(),
            "told_in": list(STATED_IN[fact.split]),
            "stated_on": stated.get(fact.id, []),
            "asked_on": asked.get(fact.id, []),
        }
        for fact in world.facts
    )
    _write_lines(context, "key/facts.jsonl", facts)
    rows = (
        {
            "url": plan.url,
            "site": plan.site.host,
            "lang": page.lang,
            "kind": page.kind,
            "fate": "keep",
            "states": list(page.states),
            "asks": list(page.asks),
            "title": page.title,
            "text": page.text,
        }
        for plan, page in zip(plans, pages, strict=True)
    )
    _write_lines(context, "key/pages.jsonl", rows)


def _write_lines(context: Context, name: str, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSONL and declare the file."""
    path = _place(context, name)
    with atomic_write(path) as file:
        for row in rows:
            file.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8"))
    context.output(path, "result", file.digest)


def _place(context: Context, name: str) -> Path:
    path = context.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
