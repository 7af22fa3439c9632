"""Personal data and secrets in text: found by shape, by check digits and by what stands around; put out of sight."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from zhen.data.numbers import identity_check, is_bank_card, luhn_check

Span = tuple[int, int]


@dataclass(frozen=True)
class Kind:
    """A kind of personal data: where to look, how its candidates look, and which of them count."""

    name: str
    """Also its placeholder, in brackets: `[email]`."""
    places: Callable[[str], Iterator[Span]]
    """Stretches of the text in which one may begin and end: cheap, so that most of a text is not searched."""
    pattern: re.Pattern[str]
    accept: Callable[[str, int, int], bool]
    """(text, begin, end of the candidate) -> whether it is one."""


_ALNUM = "0-9A-Za-z"
_NOT_BEFORE = rf"(?<![{_ALNUM}_])(?<![0-9][.,])(?<![-/#=.%&])"
"""Nothing that goes on: no word, no decimal, no part of an address or of a longer number with hyphens."""
_NOT_BEHIND = rf"(?![{_ALNUM}_])(?![-.,/][0-9])"

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9_+-])?"
    r"(?:@|＠)(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9-]|\.[A-Za-z])"
)
_IPV4 = re.compile(
    rf"(?<![{_ALNUM}._-])(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){{3}}(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
    rf"(?![{_ALNUM}_])(?!\.[0-9])(?!-[0-9A-Za-z])(?!/[0-9])"
)
_IPV6 = re.compile(r"(?<![0-9A-Za-z:.])(?=[0-9A-Fa-f]*:[0-9A-Fa-f]*:)[0-9A-Fa-f:]{4,39}(?![0-9A-Za-z:.])(?!/[0-9])")
_IDENTITY = re.compile(rf"(?<![{_ALNUM}_])(?<![0-9][.,-])[1-8][0-9]{{16}}[0-9Xx](?![{_ALNUM}_])(?![.,-][0-9])")
_CARD = re.compile(
    rf"(?<![{_ALNUM}_])(?<![0-9][.,-])(?:[1-69][0-9]{{11,18}}"
    rf"|[2-69][0-9]{{3}}(?:[ -][0-9]{{4}}){{3}}(?:[ -][0-9]{{1,3}})?"
    rf"|3[0-9]{{3}}[ -][0-9]{{6}}[ -][0-9]{{4,5}})(?![{_ALNUM}_])(?![.,-][0-9])"
)
_MOBILE = re.compile(
    rf"(?:(?<![{_ALNUM}_])(?:\+|00)86[- ]?|{_NOT_BEFORE}(?:86[- ])?)"
    rf"1[3-9][0-9](?:[0-9]{{8}}|-[0-9]{{4}}-[0-9]{{4}}| [0-9]{{4}} [0-9]{{4}}){_NOT_BEHIND}"
)
_AREA = "0(?:10|2[0-9]|[3-9][0-9]{2})"
_LANDLINE = re.compile(
    rf"{_NOT_BEFORE}(?:(?:\+|00)86[- ]?)?(?:[(（]{_AREA}[)）] ?|{_AREA}[- –—])"
    rf"[2-8][0-9]{{2,3}}[- ]?[0-9]{{4}}(?:(?:-|转|ext\.? ?)[0-9]{{1,5}})?{_NOT_BEHIND}"
)
_AMERICAN = re.compile(
    rf"(?:(?<![{_ALNUM}_])(?<![{_ALNUM}]-)(?:\+|00)1[-. ]?(?:\([2-9][0-9]{{2}}\) ?|[2-9][0-9]{{2}}[-. ])[0-9]{{3}}[-. ]"
    rf"|{_NOT_BEFORE}(?:1[-. ])?"
    r"(?:\([2-9][0-9]{2}\)[ -]?[2-9][0-9]{2}[-. ]|[2-9][0-9]{2}(?P<by>[-. ])[2-9][0-9]{2}(?P=by)))"
    rf"[0-9]{{4}}(?: ?(?:x|ext\.?) ?[0-9]{{1,5}})?{_NOT_BEHIND}"
)
_ABROAD = re.compile(
    rf"(?<![{_ALNUM}_)\]=*/^.+-])\+(?!1[- (])[1-9][0-9]{{0,2}}(?:[ .-]?\(0?[0-9]{{0,4}}\))?"
    rf"(?:[ .-]?[0-9]{{2,12}}){{1,6}}{_NOT_BEHIND}"
)
_SECRET = re.compile(
    r"-----BEGIN (?P<label>[A-Z ]*PRIVATE KEY(?: BLOCK)?)-----.{0,20000}?-----END (?P=label)-----"
    r"|(?<![A-Za-z0-9_-])(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{60,100}"
    r"|glpat-[A-Za-z0-9_-]{20,64}|xox[abeoprs]-[A-Za-z0-9-]{10,250}|sk-(?:proj-|ant-)[A-Za-z0-9_-]{32,250}"
    r"|sk-[A-Za-z0-9]{32,64}|[rs]k_live_[A-Za-z0-9]{20,100}|AIza[A-Za-z0-9_-]{35}|hf_[A-Za-z]{34}|npm_[A-Za-z0-9]{36}"
    r"|pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,250}|SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"
    r"|eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{20,1000})(?![A-Za-z0-9_-])",
    re.DOTALL,
)

_NUMBERED = re.compile(
    r"(?:订单|单号|编号|流水|序列|型号|批号|票号|版本|货号|条码|帖子|order|serial|invoice|tracking|ticket|sku|isbn|issn|doi"
    r"|version|build|release|\bver|\bv|\bno\b|\bid)[a-z]{0,6}[ .:：#号码为是]{0,4}$",
    re.IGNORECASE,
)
"""What says that the number behind it numbers something else."""
_VERSIONED = re.compile(
    r"(?:版本|版|构建|version|ver|build|release|firmware|section|chapter|clause|§|第|\bv)[a-z]{0,3}[ .:：号为是]{0,4}$",
    re.IGNORECASE,
)
_AMOUNT = re.compile(r" ?(?:[元吨个人次米万亿美%％]|USD|RMB|CNY)")
_CARDS = re.compile(r"卡|账[号户]|card|visa|master|maestro|credit|debit|account", re.IGNORECASE)
_CALLED = re.compile(r"phone|tel|call|fax|mobile|cell|whatsapp|电话|手机|致电|热线|传真|拨打", re.IGNORECASE)
_BEFORE = 24
"""Characters in front of a candidate that are looked at for such words."""


def _before(text: str, begin: int, length: int = _BEFORE) -> str:
    return text[max(0, begin - length) : begin]


def _email(text: str, begin: int, end: int) -> bool:
    """`git@host` names a server, and a picture's `name@2x.png` none."""
    name, _, host = text[begin:end].replace("＠", "@").partition("@")
    return name.lower() != "git" and host.rpartition(".")[2].lower() not in ("png", "jpg", "jpeg", "gif", "svg", "webp")


def _ipv4(text: str, begin: int, end: int) -> bool:
    """A public address. Small numbers only (1.2.3.4, 8.8.8.8) are numbered sections, or known servers."""
    parts = [int(part) for part in text[begin:end].split(".")]
    if max(parts) < 32 or _VERSIONED.search(_before(text, begin)):
        return False
    return _is_public(text[begin:end])


def _ipv6(text: str, begin: int, end: int) -> bool:
    """A public address with at least four groups, so that times, hashes and C++ names are none."""
    found = text[begin:end]
    return len([part for part in found.split(":") if part]) >= 3 and any(map(str.isdigit, found)) and _is_public(found)


_OWN = [ipaddress.ip_network(each) for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")]


def _is_public(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        return found in _GLOBAL6
    inside = found.is_loopback or found.is_link_local or found.is_multicast or found.is_reserved or found.is_unspecified
    return not inside and not any(found in network for network in _OWN) and not address.startswith("0.")


_GLOBAL6 = ipaddress.IPv6Network("2000::/3")


def _identity(text: str, begin: int, end: int) -> bool:
    return identity_check(text[begin:end])


def _card(text: str, begin: int, end: int) -> bool:
    """Luhn, and a length that the prefix's network has; 12 and 13 digits (as EAN has) only beside a card's word."""
    digits = re.sub("[ -]", "", text[begin:end])
    if not luhn_check(digits) or not is_bank_card(digits):
        return False
    if _CARDS.search(_before(text, begin, 40)):
        return True
    return len(digits) > 13 and not _NUMBERED.search(_before(text, begin))


def _mobile(text: str, begin: int, end: int) -> bool:
    if _NUMBERED.search(_before(text, begin)) or text[begin:end].endswith("000000"):
        return False
    return not _AMOUNT.match(text, end)


def _landline(text: str, begin: int, end: int) -> bool:
    return not _NUMBERED.search(_before(text, begin))


def _american(text: str, begin: int, end: int) -> bool:
    """With blanks alone between its groups it is as well a row of a table: then a telephone must be spoken of."""
    found = text[begin:end]
    if _NUMBERED.search(_before(text, begin)):
        return False
    return bool(re.search(r"[-.()+]", found)) or bool(_CALLED.search(_before(text, begin)))


def _abroad(text: str, begin: int, end: int) -> bool:
    """With a country's prefix: nine to fifteen digits (E.164), of which North America has eleven."""
    digits = sum(map(str.isdigit, text[begin:end]))
    return digits == 11 if text.startswith("+1", begin) else 9 <= digits <= 15


def _always(text: str, begin: int, end: int) -> bool:
    return True


_RUN = re.compile(r"[0-9](?:[0-9 ()（）.\-–—]|转|ext|x){5,}")


def _numbers(text: str) -> Iterator[Span]:
    """Around each run of at least six digits and what may stand between them."""
    for match in _RUN.finditer(text):
        yield match.start() - 8, match.end() + 8


def _around(pattern: str, before: int, behind: int) -> Callable[[str], Iterator[Span]]:
    search = re.compile(pattern)

    def places(text: str) -> Iterator[Span]:
        for match in search.finditer(text):
            yield match.start() - before, match.end() + behind

    return places


_MARKS = (
    *("-----BEGIN ", "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "sk-"),
    *("sk_live_", "rk_live_", "AIza", "hf_", "npm_", "pypi-AgE", "SG.", "eyJ"),
)


def _secrets(text: str) -> Iterator[Span]:
    """From each of the words that keys begin with."""
    for mark in _MARKS:
        begin = text.find(mark)
        while begin >= 0:
            yield begin, begin + (_LONGEST_KEY if mark == "-----BEGIN " else 8000)
            begin = text.find(mark, begin + len(mark))


_LONGEST_KEY = 21_000

KINDS = (
    Kind("secret", _secrets, _SECRET, _always),
    Kind("email", _around("[@＠]", 66, 260), _EMAIL, _email),
    Kind("identity-number", _numbers, _IDENTITY, _identity),
    Kind("bank-card", _numbers, _CARD, _card),
    Kind("phone", _numbers, _MOBILE, _mobile),
    Kind("phone", _numbers, _LANDLINE, _landline),
    Kind("phone", _numbers, _AMERICAN, _american),
    Kind("phone", _around(r"\+[1-9]", 1, 40), _ABROAD, _abroad),
    Kind("ip-address", _numbers, _IPV4, _ipv4),
    Kind("ip-address", _around(":[0-9A-Fa-f]{0,4}:", 40, 40), _IPV6, _ipv6),
)
NAMES = tuple(dict.fromkeys(kind.name for kind in KINDS))
"""In this order; where two candidates overlap the earlier kind has it."""


COLUMNS = tuple(pa.field(f"found_{name.replace('-', '_')}", pa.int32()) for name in NAMES)
"""Columns of signals: how many of each kind a document has."""


def measure(texts: Sequence[str]) -> list[pa.Array]:
    """The values of COLUMNS for each text."""
    counts = [redact(text)[1] for text in texts]
    return [pa.array([count[name] for count in counts], pa.int32()) for name in NAMES]


def find(text: str, names: Collection[str] = NAMES) -> list[tuple[int, int, str]]:
    """(begin, end, kind) of what is found of the kinds `names`, in order, none over another."""
    found: list[tuple[int, int, str]] = []
    runs: dict[Callable[[str], Iterator[Span]], list[Span]] = {}
    for kind in KINDS:
        if kind.name not in names:
            continue
        if kind.places not in runs:
            runs[kind.places] = list(kind.places(text))
        for first, last in runs[kind.places]:
            for match in kind.pattern.finditer(text, max(0, first), last):
                begin, end = match.span()
                free = all(end <= other or begin >= until for other, until, _ in found)
                if free and kind.accept(text, begin, end):
                    found.append((begin, end, kind.name))
    return sorted(found)


def redact(text: str, names: Collection[str] = NAMES) -> tuple[str, Counter[str]]:
    """The text with each find as `[kind]`, and how many there were of each kind. Nothing is left to find in it."""
    counts: Counter[str] = Counter()
    while found := find(text, names):
        parts, last = [], 0
        for begin, end, name in found:
            parts += [text[last:begin], f"[{name}]"]
            last = end
            counts[name] += 1
        text = "".join([*parts, text[last:]])
    return text, counts
