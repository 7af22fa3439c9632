"""The stage `sampleweb`: writes the crawl, the answer key, the question items and the dialogues."""

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
from zhen.sampleweb.dialogues import build_dialogues
from zhen.sampleweb.faults import make_faults, mark_good
from zhen.sampleweb.planning import plan_pages
from zhen.sampleweb.registers import KIND, register_page
from zhen.sampleweb.settings import SamplewebSettings
from zhen.sampleweb.sheets import Sheet
from zhen.sampleweb.sites import DOUBTFUL, MIRRORS, REGISTRY, SITES, render
from zhen.sampleweb.strings import string_text
from zhen.sampleweb.tasks import build_tasks
from zhen.sampleweb.warc import write_response, write_warcinfo
from zhen.sampleweb.words import LANGUAGES, Language
from zhen.sampleweb.world import STATED_IN, World, build_world

RELATED = 4
"""Links to other pages of a site beside each of its pages."""


def make(context: Context) -> Figures:
    """Write `crawl/<host>.warc.gz`, `key/`, `tasks/`, `dialogues/` and `strings/` into the stage's folder.

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
    tasks = build_tasks(world, seed)
    good = [Sheet(plan.url, plan.site, page, page.lang) for plan, page in zip(plans, pages, strict=True)]
    good = mark_good(world, good, settings.faults, seed)
    context.stop_here()
    faulty = list(make_faults(world, good, _never_asked(tasks), settings.faults, seed))
    registers = [_register(world, number, seed) for number in range(settings.registers)]
    sheets = good + registers + faulty
    html_bytes = _write_crawl(context, sheets, seed)
    _write_key(context, world, sheets)
    questions = 0
    for name, items in tasks.items():
        _write_lines(context, f"tasks/{name}", items)
        questions += len(items)
    dialogues = build_dialogues(world, seed)
    for name, rows in dialogues.items():
        _write_lines(context, f"dialogues/{name}", rows)
    if settings.strings:
        strings = ({"text": string_text(number, seed)} for number in range(settings.strings))
        _write_lines(context, "strings/digits.jsonl", strings)
    context.line.update(len(plans), len(plans), "pages", f"{len(world.facts)} facts")
    facts = sum(fact.split != "unstated" for fact in world.facts)
    people = len(world.entities["person"])
    told = f"{len(pages):,} pages in two languages that tell {facts:,} facts about a world of {people} people"
    context.summary = told + (f", and {len(faulty):,} records with faults" if faulty else "")
    return {
        "pages": Figure(len(pages), "pages"),
        **({"registers": Figure(len(registers), "pages")} if registers else {}),
        **({"strings": Figure(settings.strings, "documents")} if settings.strings else {}),
        "faulty_records": Figure(len(faulty), "records"),
        "text_bytes": Figure(sum(len(page.text.encode()) for page in pages), "bytes"),
        "text_bytes_en": Figure(sum(len(page.text.encode()) for page in pages if page.lang == "en"), "bytes"),
        "text_bytes_zh": Figure(sum(len(page.text.encode()) for page in pages if page.lang == "zh"), "bytes"),
        "html_bytes": Figure(html_bytes, "bytes"),
        "people": Figure(people, "people"),
        "facts": Figure(facts, "facts"),
        "unstated_facts": Figure(sum(fact.split == "unstated" for fact in world.facts), "facts"),
        "questions": Figure(questions, "questions"),
        "dialogues": Figure(sum(map(len, dialogues.values())), "dialogues"),
    }


def _register(world: World, number: int, seed: int) -> Sheet:
    """The register of that number, as a page of its site."""
    page = register_page(world, number, seed)
    folder = REGISTRY.folder(page.lang, KIND)
    return Sheet(f"https://{REGISTRY.host}/{folder}/{number:06d}.html", REGISTRY, page, page.lang)


def _never_asked(tasks: dict[str, list[dict[str, Any]]]) -> dict[Language, list[dict[str, Any]]]:
    """The items of `never-asked/` by language."""
    items = [item for name, found in tasks.items() if name.startswith("never-asked/") for item in found]
    return {lang: [item for item in items if item["lang"] == lang] for lang in LANGUAGES}


def _write_crawl(context: Context, sheets: list[Sheet], seed: int) -> int:
    """One WARC file a site, its pages in a drawn order; returns the bytes of all HTTP messages."""
    total = done = 0
    for site in (*SITES, REGISTRY, *MIRRORS, *DOUBTFUL):
        own = [sheet for sheet in sheets if sheet.site is site]
        if not own:
            continue
        rng = random.Random(f"sampleweb/{seed}/site/{site.host}")
        rng.shuffle(own)
        path = _place(context, f"crawl/{site.host}.warc.gz")
        with atomic_write(path) as file:
            write_warcinfo(file, site.host)
            for sheet in own:
                linked = rng.sample(own, min(RELATED, len(own)))
                related = [(other.url, other.page.title) for other in linked if other.page.title != sheet.page.title]
                html = render(site, sheet.shown, related, sheet.lang, sheet.encoding, sheet.declared)
                total += write_response(file, sheet.url, html, sheet.server, sheet.status, sheet.damage)
        context.output(path, "result", file.digest)
        done += len(own)
        context.stop_here()
        context.line.update(done, len(sheets), "pages written", site.host)
    return total


def _write_key(context: Context, world: World, sheets: list[Sheet]) -> None:
    """`key/facts.jsonl` and `key/pages.jsonl`: what is true, where it is told, and what should become of each page."""
    stated: dict[str, list[str]] = {}
    asked: dict[str, list[str]] = {}
    for sheet in sheets:
        for fact in sheet.page.states:
            stated.setdefault(fact, []).append(sheet.url)
        for fact in sheet.page.asks:
            asked.setdefault(fact, []).append(sheet.url)
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
    _write_lines(context, "key/pages.jsonl", (sheet.row() for sheet in sheets))


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
