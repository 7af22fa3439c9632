"""Contacts, numbers and secrets are put out of sight; what only looks like them stays."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from zhen.data.numbers import identity_check, luhn_check
from zhen.data.privacy import NAMES, find, redact


def lines(path: Path) -> list[dict]:
    with zstandard.open(path, "rb") as file:
        return [json.loads(line) for line in io.TextIOWrapper(file, "utf-8")]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to mary.ann+news@mail.example.org.", "email"),
        ("来信请寄到 zhang_wei@example.com。", "email"),
        ("Call (212) 555-0123 or come by.", "phone"),
        ("Call 415.555.0199 x12 now", "phone"),
        ("请打 13812345678 。", "phone"),
        ("请打+86 138-1234-5678。", "phone"),
        ("电话：010-62345678转801", "phone"),
        ("From abroad +44 20 7946 0958.", "phone"),
        ("身份证号11010519491231002X。", "identity-number"),
        ("Pay by 4111 1111 1111 1111 please", "bank-card"),
        ("seen at 81.2.69.142 last night", "ip-address"),
        ("seen at 2001:4860:4860::8888 last night", "ip-address"),
        ("key AKIAIOSFODNN7EXAMPLE here", "secret"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "secret"),
    ],
)
def test_what_is_planted_is_found_whole(text: str, kind: str) -> None:
    redacted, counts = redact(text)
    assert dict(counts) == {kind: 1}
    assert f"[{kind}]" in redacted
    assert not any(character.isdigit() for character in redacted)


@pytest.mark.parametrize(
    "text",
    [
        "身份证号110105194912310021。",
        "身份证号11010519491331002X。",
        "Pay by 4111 1111 1111 1112 please",
        "订单号：13812345678",
        "the machine at 192.168.10.200, 10.200.3.4 and 300.1.2.99",
        "version 81.2.69.142 and section 1.2.3.4",
        "on 2024-11-25 12:30:00 from 3.14159265358979 to 13812345678.5",
        "GDP达到126058200000000元，约13800000000元。",
        "ISBN 978-7-030-35677-9, 10:20:30, std::vector::size",
        "git@github.com:owner/repository and icon@2x.png",
    ],
)
def test_look_alikes_stay(text: str) -> None:
    assert redact(text) == (text, {})


def test_identity_numbers_have_the_check_character_of_iso_7064() -> None:
    chance = random.Random(5)
    for _ in range(200):
        digits = f"310101{chance.randint(1920, 2010)}{chance.randint(1, 12):02}{chance.randint(1, 28):02}"
        digits += f"{chance.randint(0, 999):03}"
        remainder = 0  # ISO 7064, pure system: remainders one digit after the other
        for digit in digits:
            remainder = (remainder + int(digit)) * 2 % 11
        right = "0123456789X"[(12 - remainder) % 11]
        valid = [check for check in "0123456789X" if identity_check(digits + check)]
        assert valid == [right]


def test_luhn_knows_the_example_of_the_standard_and_each_other_digit() -> None:
    assert [digit for digit in "0123456789" if luhn_check("7992739871" + digit)] == ["3"]


@given(st.text(alphabet="0123456789 -.()+@:xXabcgho_[]元电话号\n", max_size=80))
def test_what_is_redacted_once_stays_as_it_is(text: str) -> None:
    redacted, counts = redact(text)
    assert redact(redacted) == (redacted, {})
    assert (redacted == text) == (not counts)
    assert set(counts) <= set(NAMES)


@given(st.text(alphabet=st.characters(exclude_categories=("Nd", "Cs"), exclude_characters="@＠:-"), max_size=60))
def test_text_without_numbers_and_addresses_is_never_touched(text: str) -> None:
    assert redact(text) == (text, {})


def test_synthetic_chinese_contacts_are_found_and_nothing_else(shared_data: Path) -> None:
    kinds = {"PHONE": "phone", "LANDLINE": "phone", "EMAIL": "email", "IP": "ip-address"}
    kinds |= {"BANK": "bank-card", "ID": "identity-number"}
    for row in lines(shared_data / "dirty/pii-synthetic-zh.jsonl.zst"):
        planted = [(span["end"], kinds[span["type"]]) for span in row["spans"] if span["type"] in kinds]
        assert [(end, kind) for _, end, kind in find(row["text"])] == sorted(planted)
