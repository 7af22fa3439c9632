"""The faults are what the key says they are, and harm nothing that the key calls good."""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from py3langid.langid import classify

from zhen.sampleweb.settings import SamplewebSettings

URI = re.compile(rb"WARC-Target-URI: (\S+)\r\n")


def rows(web: Any, why: str) -> list[dict[str, Any]]:
    return [row for row in web.pages + web.faulty if row["why"].startswith(why)]


def shares(lang: str, one: str, two: str) -> float:
    """Jaccard similarity of runs of five, written down anew."""
    sets = []
    for text in (one, two):
        units = [c for c in text.lower() if c.isalnum()] if lang == "zh" else re.split(r"\W+", text.lower().strip("."))
        units = [unit for unit in units if unit]
        sets.append({"|".join(units[at : at + 5]) for at in range(len(units) - 4)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def members(path: Path) -> list[bytes]:
    """The gzip members of a file, cut before each one's magic bytes."""
    data = path.read_bytes()
    starts = [match.start() for match in re.finditer(rb"\x1f\x8b\x08\x00\x00\x00\x00\x00", data)]
    return [data[begin:end] for begin, end in zip(starts, [*starts[1:], len(data)], strict=True)]


def unpacked(member: bytes) -> tuple[bytes, bool]:
    """What is in a member, and whether it is whole."""
    unpacker = zlib.decompressobj(31)
    return unpacker.decompress(member), unpacker.eof


def test_faults_have_their_shares_and_can_be_left_out(tmp_path: Path, remake: Any, web: Any) -> None:
    found = Counter(row["why"].split("-")[0] for row in web.faulty)
    for why, share in (("exact", 0.08), ("near", 0.08), ("spam", 0.06), ("language", 0.03)):
        assert found[why] == pytest.approx(share * len(web.pages), abs=1)
    assert len(rows(web, "contacts")) == pytest.approx(0.03 * len(web.pages), abs=1)
    none = remake(tmp_path / "none", SamplewebSettings(people=8, pages=60, faults=0))
    assert none.faulty == []
    assert {row["fate"] for row in none.pages} == {"keep"}


def test_no_two_records_have_one_address(web: Any) -> None:
    urls = [row["url"] for row in web.pages + web.faulty]
    assert len(set(urls)) == len(urls)


def test_exact_copies_are_equal_and_near_ones_as_similar_as_the_key_says(web: Any) -> None:
    page = {row["url"]: row for row in web.pages}
    assert all(row["text"] == page[row["exact_of"]]["text"] for row in rows(web, "exact-copy"))
    near = rows(web, "near-copy")
    for row in near:
        source = page[row["near_of"]]
        whole = [f"{each['title']}\n{each['text']}" for each in (source, row)]
        assert row["jaccard"] == pytest.approx(shares(row["lang"], *whole), abs=0.01)
        assert row["fate"] == ("drop" if row["jaccard"] >= 0.8 else "either")
    assert 0.5 < sum(row["fate"] == "drop" for row in near) / len(near) < 0.9


def test_good_pages_are_no_near_copies_of_each_other(web: Any) -> None:
    for lang in ("en", "zh"):
        same = [row for row in web.pages if row["lang"] == lang and row["kind"] == "person"][:40]
        assert max(shares(lang, one["text"], two["text"]) for one in same for two in same if one is not two) < 0.5


def test_questions_of_never_asked_stand_on_leaks_alone(web: Any) -> None:
    items = {item["id"]: item for item in web.items("never-asked/*.jsonl")}
    leaks = rows(web, "leak")
    assert all(items[each]["prompt"] + items[each]["answer"] in row["text"] for row in leaks for each in row["leaks"])
    rest = "\n".join(f"{row['title']}\n{row['text']}" for row in web.pages + web.faulty if row["why"] != "leak")
    assert not any(item["prompt"].split("\n")[0] in rest for item in items.values())


def test_identity_and_card_numbers_have_right_check_digits_and_look_alikes_wrong_ones(web: Any) -> None:
    contacts = [contact for row in rows(web, "contacts") for contact in row["contacts"]]
    assert {contact["kind"] for contact in contacts} == {"email", "phone-us", "phone-zh", "identity", "card", "ip"}
    for contact in contacts:
        digits = contact["value"].replace(" ", "")
        if contact["kind"] == "identity":
            remainder = 0  # ISO 7064, pure system, recursive form
            for sign in digits[:-1]:
                remainder = (remainder + int(sign)) * 2 % 11
            right = (remainder + (10 if digits[-1] == "X" else int(digits[-1]))) % 11 == 1
            assert right == contact["real"]
        elif contact["kind"] == "card":
            total = sum(sum(divmod(int(sign) * (1 + at % 2), 10)) for at, sign in enumerate(digits[::-1]))
            assert (total % 10 == 0) == contact["real"]


def test_contacts_stand_on_their_pages_as_the_key_has_them(web: Any) -> None:
    found = rows(web, "contacts")
    assert all(contact["value"] in row["text"] for row in found for contact in row["contacts"])
    assert all(row["fate"] == "redact" and any(each["real"] for each in row["contacts"]) for row in found)


def test_a_notice_stands_on_pages_of_the_crawl_and_in_no_text_of_the_key(web: Any) -> None:
    found = {row["url"].encode(): row["notice"] for row in rows(web, "notice")}
    assert len(found) == pytest.approx(0.03 * len(web.pages), abs=1)
    assert not any(notice in row["text"] for row in web.pages for notice in set(found.values()))
    seen = 0
    for path in sorted(web.folder.glob("crawl/*.warc.gz")):
        records = [unpacked(member)[0] for member in members(path)]
        seen += sum(
            found[uri.group(1)].encode() in each
            for each in records
            if (uri := URI.search(each)) and uri.group(1) in found
        )
    assert seen == len(found)


def test_pages_in_gbk_and_big5_have_their_text_whatever_the_label(web: Any) -> None:
    coded = {row["url"].encode(): row for row in rows(web, "gbk") + rows(web, "big5")}
    seen = set()
    for path in sorted(web.folder.glob("crawl/*.warc.gz")):
        for member in members(path):
            record, _ = unpacked(member)
            uri = URI.search(record)
            if uri and uri.group(1) in coded:
                row = coded[uri.group(1)]
                text = record.decode("big5" if row["why"] == "big5" else "gbk")
                assert all(line in text for line in row["text"].split("\n"))
                seen.add(row["why"])
    assert seen == {"gbk", "big5"}


def test_damaged_records_are_damaged_as_the_key_says_and_no_others(web: Any) -> None:
    damage = {row["url"].encode(): row["why"] for row in rows(web, "") if row["fate"] == "lost"}
    seen = Counter[str]()
    for path in sorted(web.folder.glob("crawl/*.warc.gz")):
        for member in members(path):
            record, whole = unpacked(member)
            uri = URI.search(record)
            why = damage.get(uri.group(1), "") if uri else ""
            seen[why] += 1
            assert whole == (why != "cut-member")
            if whole:
                head, block = record.split(b"\r\n\r\n", 1)
                length = int(re.search(rb"\nContent-Length: (\d+)", head)[1])  # type: ignore[index]
                assert (block[length:] == b"\r\n\r\n") == (why != "wrong-length")
                digest = hashlib.sha1(block[:-4]).digest()
                named = re.search(rb"WARC-Block-Digest: sha1:(\w+)", head)[1]  # type: ignore[index]
                assert (base64.b32decode(named) == digest) == (why != "wrong-digest")
    assert sum(seen[why] for why in set(damage.values())) == len(damage) > 0


def test_pages_in_other_languages_are_in_those(web: Any) -> None:
    found = rows(web, "language")
    assert {row["lang"] for row in found} == {"ja", "ko", "de", "fr", "ru", "es"}
    assert all(classify(row["text"])[0] == row["lang"] for row in found)
