"""The crawl is WARC that others read, and extractors find the pages' text in it."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trafilatura
from fastwarc.warc import ArchiveIterator, WarcRecordType
from resiliparse.extract.html2text import extract_plain_text

from zhen.sampleweb.settings import SamplewebSettings
from zhen.sampleweb.sites import NOTES


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, remake: Any) -> Any:
    """A web without faults."""
    return remake(tmp_path_factory.mktemp("sound"), SamplewebSettings(people=20, pages=500, faults=0))


def records(web: Any) -> Iterator[tuple[Path, Any]]:
    for path in sorted(web.folder.glob("crawl/*.warc.gz")):
        with path.open("rb") as file:
            yield from ((path, record) for record in ArchiveIterator(file, parse_http=False))


def squeeze(text: str) -> str:
    return "".join(text.split())


@pytest.fixture(scope="module")
def html(web: Any) -> dict[str, str]:
    found = {}
    for path in sorted(web.folder.glob("crawl/*.warc.gz")):
        with path.open("rb") as file:
            for record in ArchiveIterator(file, record_types=WarcRecordType.response, parse_http=True):
                assert record.http_headers.status_code == 200
                assert record.http_charset == "utf-8"
                body = record.reader.read()
                assert int(record.http_headers["Content-Length"]) == len(body)
                assert record.headers["WARC-Payload-Digest"] == digest(body)
                found[record.headers["WARC-Target-URI"]] = body.decode("utf-8")
    return found


def digest(data: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(data).digest()).decode()


def test_each_page_of_the_key_is_one_response_of_its_site(web: Any, html: dict[str, str]) -> None:
    assert sorted(html) == sorted(page["url"] for page in web.pages)
    assert len({page["site"] for page in web.pages}) >= 12
    assert all(page["url"].startswith(f"https://{page['site']}/") for page in web.pages)
    assert {page["fate"] for page in web.pages} == {"keep"}


def test_block_digests_hold_and_record_ids_are_unlike(web: Any) -> None:
    ids = []
    for _, record in records(web):
        assert record.verify_block_digest()
        ids.append(record.record_id)
    assert len(set(ids)) == len(ids) == len(web.pages) + len(list(web.folder.glob("crawl/*")))


def test_every_record_is_a_gzip_member_without_time(web: Any) -> None:
    path = next(iter(sorted(web.folder.glob("crawl/*.warc.gz"))))
    rest, members = path.read_bytes(), 0
    while rest:
        assert rest[4:8] == bytes(4)
        unpacker = zlib.decompressobj(31)
        assert unpacker.decompress(rest).startswith(b"WARC/1.1\r\n")
        rest, members = unpacker.unused_data, members + 1
    assert members == 1 + sum(page["site"] == path.name.removesuffix(".warc.gz") for page in web.pages)


def test_trafilatura_finds_every_paragraph_and_no_boilerplate(web: Any, html: dict[str, str]) -> None:
    for page in web.pages[::4]:
        text = squeeze(trafilatura.extract(html[page["url"]], fast=True, include_comments=False))
        missing = [line for line in page["text"].split("\n") if squeeze(line) not in text]
        assert missing == [], page["url"]
        assert not any(squeeze(note) in text for note in NOTES[page["lang"]].values()), page["url"]


def test_resiliparse_finds_every_paragraph(web: Any, html: dict[str, str]) -> None:
    for page in web.pages:
        text = squeeze(extract_plain_text(html[page["url"]], main_content=True))
        missing = [line for line in page["text"].split("\n") if squeeze(line) not in text]
        assert missing == [], page["url"]


def test_questions_and_answers_stay_on_lines_of_their_own(web: Any, html: dict[str, str]) -> None:
    page = next(page for page in web.pages if page["kind"] == "questions" and page["lang"] == "en")
    lines = trafilatura.extract(html[page["url"]], fast=True).split("\n")
    questions = [place for place, line in enumerate(lines) if line.startswith("Question: ")]
    assert len(questions) >= 5
    assert all(lines[place + 1].startswith("Answer: ") for place in questions)


def test_languages_have_about_equally_many_bytes_and_no_page_is_short_or_twice(web: Any) -> None:
    texts = [page["text"] for page in web.pages]
    sizes = {lang: len(web.text(lang).encode()) for lang in ("en", "zh")}
    assert sizes["en"] == pytest.approx(sizes["zh"], rel=0.1)
    assert min(len(text.encode()) for text in texts) >= 400
    assert len(set(texts)) == len(texts)
