"""Invented contacts with valid check digits, and look-alikes that a checksum tells apart from them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from zhen.sampleweb.words import SYLLABLES, Language

ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
ID_CHECKS = "10X98765432"
"""GB 11643-1999 (ISO 7064 MOD 11-2): the check character by the weighted sum of 17 digits modulo 11."""


@dataclass(frozen=True)
class Contact:
    """Something planted on a page as it stands there; `real`: whether it has to be redacted."""

    kind: str
    value: str
    real: bool


def id_check(digits: str) -> str:
    """The check character of a Chinese identity number's first 17 digits."""
    return ID_CHECKS[sum(int(digit) * weight for digit, weight in zip(digits, ID_WEIGHTS, strict=True)) % 11]


def luhn_check(digits: str) -> str:
    """The check digit that makes `digits` a valid card number (ISO/IEC 7812-1, annex B)."""
    doubled = [int(digit) * (2 - place % 2) for place, digit in enumerate(reversed(digits))]
    return str(-sum(value - 9 if value > 9 else value for value in doubled) % 10)


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(count))


def _other(rng: random.Random, right: str) -> str:
    """A digit that is not the right one."""
    return rng.choice([digit for digit in "0123456789" if digit != right])


def _email(rng: random.Random, real: bool) -> str:
    one, two, three = (rng.choice(SYLLABLES).en + rng.choice(SYLLABLES).en for _ in range(3))
    return f"{one}{rng.choice(('.', '_', ''))}{two}@{three}{rng.choice(('post', 'mail', 'net'))}.example"


def _phone_us(rng: random.Random, real: bool) -> str:
    area, last = rng.choice(("212", "415", "617", "303", "206", "512")), f"01{_digits(rng, 2)}"
    return rng.choice(("({a}) 555-{l}", "{a}-555-{l}", "+1 {a} 555 {l}", "{a}.555.{l}")).format(a=area, l=last)


def _phone_zh(rng: random.Random, real: bool) -> str:
    first = rng.choice(("131", "138", "150", "159", "177", "186", "199"))
    middle, last = _digits(rng, 4), _digits(rng, 4)
    return rng.choice(("{f}{m}{l}", "{f}{m}{l}", "{f} {m} {l}", "{f}-{m}-{l}", "+86 {f}{m}{l}")).format(
        f=first, m=middle, l=last
    )


def _identity(rng: random.Random, real: bool) -> str:
    area = rng.choice(("110199", "310198", "330197", "440196", "510195"))
    born = f"{rng.randint(1950, 1999)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}"
    digits = area + born + _digits(rng, 3)
    return digits + (id_check(digits) if real else _other(rng, id_check(digits)))


def _card(rng: random.Random, real: bool) -> str:
    digits = rng.choice(("622848", "621700", "411111", "540500")) + _digits(rng, 9)
    number = digits + (luhn_check(digits) if real else _other(rng, luhn_check(digits)))
    return number if rng.random() < 0.5 else " ".join(number[start : start + 4] for start in range(0, 16, 4))


def _address(rng: random.Random, real: bool) -> str:
    first = rng.choice((23, 45, 61, 81, 122, 151, 185)) if real else rng.randint(300, 900)
    return f"{first}.{rng.randint(1, 254)}.{rng.randint(0, 254)}.{rng.randint(1, 254)}"


MAKERS: dict[str, Callable[[random.Random, bool], str]] = {
    "email": _email,
    "phone-us": _phone_us,
    "phone-zh": _phone_zh,
    "identity": _identity,
    "card": _card,
    "ip": _address,
}

REAL: dict[Language, tuple[str, ...]] = {
    "en": ("email", "email", "phone-us", "phone-us", "card", "ip"),
    "zh": ("email", "phone-zh", "phone-zh", "identity", "card", "ip"),
}
"""What is planted in each language; what stands twice is drawn twice as often."""

LOOK_ALIKES = ("card", "identity", "ip")
"""Kinds of which there are look-alikes: the same form with a wrong check digit, or a number over 255."""

SENTENCES: dict[Language, dict[str, tuple[str, ...]]] = {
    "en": {
        "email": ("Letters go to {c} at any time.", "Write to {c} to hear more."),
        "phone-us": ("Call {c} in the morning.", "The house can be called at {c} on most days."),
        "phone-zh": ("Call {c} in the morning.",),
        "identity": ("The paper has the identity number {c} on it.",),
        "card": ("The money goes to the card {c} as before.", "Pay by the card {c} at the market."),
        "ip": ("The old machine was seen at {c} last night.",),
        "look-alike": ("The box has the number {c} on it.", "On the wall one can read {c} in white."),
    },
    "zh": {
        "email": ("来信请寄到 {c} 。", "想知道更多，可以写信到 {c} 。"),
        "phone-us": ("早上请打 {c} 。",),
        "phone-zh": ("早上请打电话 {c} 。", "有事可以打 {c} 。"),
        "identity": ("纸上写着身份证号 {c} 。",),
        "card": ("钱请寄到卡号 {c} 。", "在市场可以用卡 {c} 。"),
        "ip": ("昨天晚上，那台老机器在 {c} 。",),
        "look-alike": ("箱子上写着 {c} 。", "墙上有白色的字： {c} 。"),
    },
}


def plant(lang: Language, rng: random.Random) -> tuple[list[str], list[Contact]]:
    """Sentences with one to three contacts, half the time with a look-alike, and what was planted."""
    sentences, found = [], []
    for _ in range(rng.randint(1, 3)):
        kind = rng.choice(REAL[lang])
        found.append(Contact(kind, MAKERS[kind](rng, True), True))
        sentences.append(rng.choice(SENTENCES[lang][kind]).format(c=found[-1].value))
    if rng.random() < 0.5:
        kind = rng.choice(LOOK_ALIKES)
        found.append(Contact(kind, MAKERS[kind](rng, False), False))
        sentences.append(rng.choice(SENTENCES[lang]["look-alike"]).format(c=found[-1].value))
    return sentences, found
