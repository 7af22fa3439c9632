"""WARC: what a sound file holds is read as fastwarc reads it; what damage costs is counted to the byte."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import data_run
import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType
from hypothesis import given, settings
from hypothesis import strategies as st

from zhen.data.read import Lost, Page, Skipped
from zhen.data.read_any import read_file
from zhen.data.settings import Columns

Items = tuple[list[Page], list[Lost], list[Skipped]]


def read(path: Path, packing: str | None = "gzip") -> Items:
    items = list(read_file(path, "warc", packing, Columns(), None))
    return tuple([item for item in items if isinstance(item, kind)] for kind in (Page, Lost, Skipped))


def urls(items: Items) -> list[str]:
    return [page.url.rsplit("/", 1)[1] for page in items[0]]


@pytest.fixture(scope="module")
def members() -> list[bytes]:
    return data_run.pack(data_run.response(f"http://a/{n}", data_run.page(data_run.english(str(n)))) for n in range(9))


@pytest.mark.parametrize(
    "name", ["aut-example.warc.gz", "aut-issue-493.warc", "pywb-dupes.warc.gz", "whirlwind.warc.gz"]
)
def test_sound_files_are_read_as_fastwarc_reads_them(shared_data: Path, name: str) -> None:
    path = shared_data / "web" / "warc" / name
    pages, lost, skipped = read(path, "gzip" if name.endswith("gz") else None)
    bodies, records = {}, 0
    for record in ArchiveIterator(str(path), parse_http=True, auto_decode="all"):
        records += 1
        http = record.http_headers if record.record_type == WarcRecordType.response else None
        if http and http.status_code == 200 and record.http_content_type in ("text/html", "text/plain"):
            bodies[record.headers["WARC-Target-URI"]] = record.reader.read()
    assert lost == []
    assert len(pages) + len(skipped) == records
    found = {page.url: page.html if page.html is not None else page.text for page in pages}
    assert {url: body for url, body in found.items() if url in bodies} == bodies


@given(st.integers(0, 8), st.data())
@settings(max_examples=40, deadline=None)
def test_a_changed_byte_costs_its_record_alone(
    tmp_path_factory: pytest.TempPathFactory, members: list[bytes], hit: int, data: st.DataObject
) -> None:
    member = bytearray(members[hit])
    place = data.draw(st.integers(3 if hit == 0 else 0, len(member) - 1))
    member[place] ^= data.draw(st.integers(1, 255))
    try:
        if gzip.decompress(bytes(member)) == gzip.decompress(members[hit]):
            return  # bits that mean nothing
    except (zlib.error, EOFError, OSError):
        pass
    path = tmp_path_factory.mktemp("w") / "a.warc.gz"
    path.write_bytes(b"".join([*members[:hit], bytes(member), *members[hit + 1 :]]))
    items = read(path)
    assert urls(items) == [str(n) for n in range(9) if n != hit]
    assert [(lost.offset, lost.bytes) for lost in items[1]] == [(sum(map(len, members[:hit])), len(member))]


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_file_cut_short_keeps_the_records_before_the_cut(
    tmp_path_factory: pytest.TempPathFactory, members: list[bytes], data: st.DataObject
) -> None:
    packed = data.draw(st.booleans())
    records = members if packed else [gzip.decompress(member) for member in members]
    ends = [sum(map(len, records[: n + 1])) for n in range(9)]
    cut = data.draw(st.integers(1, ends[-1] - 5))
    path = tmp_path_factory.mktemp("w") / "a.warc"
    path.write_bytes(b"".join(records)[:cut])
    items = read(path, "gzip" if packed else None)
    whole = [n for n in range(9) if ends[n] - (0 if packed else 4) <= cut]
    assert urls(items) == [str(n) for n in whole]
    start = ends[len(whole) - 1] if whole else 0
    assert [(each.offset, each.bytes) for each in items[1]] == ([(start, cut - start)] if cut > start else [])


def test_a_plain_file_goes_on_behind_garbage(tmp_path: Path) -> None:
    one, two = (data_run.response(f"http://a/{n}", data_run.page(data_run.english("x"))) for n in "12")
    path = tmp_path / "a.warc"
    path.write_bytes(one + b"\0garbage\0" * 3 + two)
    items = read(path, None)
    assert urls(items) == ["1", "2"]
    assert [(each.offset, each.bytes) for each in items[1]] == [(len(one), 27)]


@pytest.mark.parametrize("name", ["derived-truncated.warc.gz", "example-trunc.warc", "example-wrong-chunks.warc.gz"])
def test_damaged_files_lose_their_one_response(shared_data: Path, name: str) -> None:
    pages, lost, _ = read(shared_data / "dirty" / "warc" / name, "gzip" if name.endswith("gz") else None)
    assert pages == []
    assert lost


def test_a_file_packed_as_one_member_is_read(shared_data: Path) -> None:
    pages, lost, skipped = read(shared_data / "dirty" / "warc" / "example-bad.warc.gz.bad")
    assert lost == []
    assert [page.url for page in pages] == ["http://example.com?example=1"]
    assert len(skipped) == 5


def test_a_block_that_does_not_match_its_digest_is_lost(tmp_path: Path) -> None:
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello"
    right, wrong = (hashlib.sha1(data).hexdigest() for data in (block, block + b"!"))
    record = data_run.warc_record("response", "http://a/1", block, "application/http")
    with_digest = [
        record.replace(b"Content-Type", f"WARC-Block-Digest: sha1:{d}\r\nContent-Type".encode(), 1)
        for d in (right, wrong)
    ]
    (tmp_path / "a.warc").write_bytes(b"".join(with_digest))
    pages, lost, _ = read(tmp_path / "a.warc", None)
    assert len(pages) == 1
    assert [each.reason for each in lost] == ["the block digest does not match"]


BODY = b"<p>hello</p>" * 50


@pytest.mark.parametrize(
    ("headers", "body", "right"),
    [
        ("Content-Encoding: gzip", gzip.compress(BODY), True),
        ("Content-Encoding: deflate", zlib.compress(BODY), True),
        ("Content-Encoding: deflate", zlib.compress(BODY)[2:-4], True),
        ("Transfer-Encoding: chunked", b"a\r\n" + BODY[:10] + b"\r\n%x\r\n" % 590 + BODY[10:] + b"\r\n0\r\n\r\n", True),
        ("Transfer-Encoding: chunked", BODY, True),
        ("Content-Encoding: gzip", BODY, True),
        ("Content-Encoding: gzip", gzip.compress(BODY)[:-9], False),
        ("Transfer-Encoding: chunked", b"a\r\n" + BODY[:10] + b"\r\n%x\r\n" % 590 + BODY[10:90], False),
    ],
)
def test_bodies_are_decoded_or_told_lost(tmp_path: Path, headers: str, body: bytes, right: bool) -> None:
    path = tmp_path / "a.warc"
    path.write_bytes(data_run.response("http://a/1", body, f"Content-Type: text/html\r\n{headers}"))
    pages, lost, _ = read(path, None)
    assert [page.html for page in pages] == ([BODY] if right else [])
    assert len(lost) == (0 if right else 1)


def test_records_without_a_page_are_counted_by_reason(tmp_path: Path) -> None:
    records = [
        data_run.response("http://a/1", b"x", status=404),
        data_run.response("http://a/2", b"x", "Content-Type: image/png"),
        data_run.warc_record("request", "http://a/3", b"GET / HTTP/1.1\r\n\r\n", "application/http"),
        data_run.warc_record("conversion", "http://a/4", "你好".encode(), "text/plain"),
    ]
    (tmp_path / "a.warc").write_bytes(b"".join(records))
    pages, _, skipped = read(tmp_path / "a.warc", None)
    assert [page.text for page in pages] == ["你好".encode()]
    assert [each.reason for each in skipped] == ["HTTP status 404", "content of type image", "WARC request record"]
