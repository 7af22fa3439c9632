"""Pages nobody wants: spam and gambling, gibberish, text that was decoded wrongly, pages that are all boilerplate."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable

from zhen.sampleweb.words import Language

PHRASES: dict[Language, tuple[str, ...]] = {
    "en": (
        "{b} casino gives every new player a {d}% welcome bonus!",
        "Play online slots at {b} and win the jackpot of ${d},000 today!",
        "No deposit needed: {d} free spins at {b} casino, click here now!",
        "Best online poker and betting site {b}, instant payout, 100% safe!",
        "Buy cheap pills online without prescription, {d}% off at {b} pharmacy!!!",
        "Viagra, cialis and more: order at {b} and get {d} pills free!",
        "Get a payday loan of ${d} in five minutes, no credit check, {b} loans!",
        "Make ${d} a day from home with {b}, limited offer, act now!",
        "Hot girls near you are waiting at {b}, click here, {d} members online!",
        "Replica watches and designer bags at {b}, {d}% discount, free shipping!",
    ),
    "zh": (
        "{b}娱乐城注册送彩金{d}元！",
        "{b}赌场百家乐真人荷官在线发牌，首存送{d}%！",
        "澳门{b}博彩网站，彩票投注返水{d}%，提款秒到账！",
        "{b}棋牌下载，老虎机爆大奖{d}万，点击注册！",
        "六合彩特码{d}期内部资料，{b}网免费公开！",
        "{b}时时彩计划群，加微信领取红包{d}元！",
        "代开发票，{b}公司，点数低，{d}元起，电话微信同号！",
        "{b}贷款，无抵押，当天放款{d}万，不看征信！",
        "办证刻章，{b}快速办理，{d}元一本，加QQ咨询！",
        "{b}美女直播，免费观看，点击下载APP，送{d}金币！",
    ),
}

KEYWORDS: dict[Language, str] = {
    "en": "online casino, free spins, casino bonus, slots, jackpot, poker, betting, cheap pills, payday loan, "
    "replica watches, no deposit bonus, sports betting, blackjack, roulette",
    "zh": "澳门赌场, 百家乐, 娱乐城, 博彩公司, 时时彩, 六合彩, 老虎机, 真人荷官, 彩票投注, 棋牌游戏, 代开发票, "
    "注册送彩金, 赌球网站, 无抵押贷款",
}

_BRANDS: dict[Language, tuple[str, ...]] = {
    "en": ("LuckyStar", "Bet{d}", "GoldenSpin", "Royal{d}", "WinBig", "Vegas{d}", "MegaPill", "CashNow"),
    "zh": ("金沙{d}", "皇冠{d}", "永利", "新葡京{d}", "大发{d}", "凤凰", "天天{d}", "太阳城"),
}


def spam_page(lang: Language, rng: random.Random) -> tuple[str, list[str]]:
    """Title and paragraphs: a few slogans for one brand over and over, keyword lists, or both."""
    brand = rng.choice(_BRANDS[lang]).format(d=rng.randint(11, 999))
    slogans = [text.replace("{b}", brand) for text in rng.sample(PHRASES[lang], 3)]
    keywords = rng.sample(KEYWORDS[lang].split(", "), 6)
    paragraphs = []
    for _ in range(rng.randint(4, 7)):
        if rng.random() < 0.6:
            lines = [rng.choice(slogans).format(d=rng.randint(1, 99) * 10) for _ in range(rng.randint(3, 5))]
        else:
            lines = [f"{brand}{' ' if lang == 'en' else ''}{rng.choice(keywords)}" for _ in range(rng.randint(10, 20))]
        paragraphs.append((" " if lang == "en" else "").join(lines) if rng.random() < 0.5 else "\n".join(lines))
    return f"{brand} {' '.join(keywords[:3])}", paragraphs


def _letters(rng: random.Random) -> str:
    words = ("".join(rng.choices("bcdfghjklmnpqrstvwxzaeiouy", k=rng.randint(2, 11))) for _ in range(40))
    return " ".join(words) + "."


def _characters(rng: random.Random) -> str:
    text = "".join(chr(rng.randint(0x4E00, 0x9FA5)) for _ in range(90))
    return "，".join(text[start : start + 15] for start in range(0, 90, 15)) + "。"


def _data(rng: random.Random) -> str:
    return base64.b64encode(rng.randbytes(240)).decode("ascii")


def _signs(rng: random.Random) -> str:
    return "".join(rng.choices("#$%&*+=/<>|~^_-.,:;!?()[]{}0123456789ab ", k=300))


GIBBERISH: dict[str, tuple[Language, Callable[[random.Random], str]]] = {
    "letters": ("en", _letters),
    "characters": ("zh", _characters),
    "data": ("en", _data),
    "signs": ("en", _signs),
}
"""Name -> language of its site, and a paragraph of it."""


def gibberish_page(name: str, rng: random.Random) -> tuple[str, list[str]]:
    """Title and paragraphs without sense."""
    paragraphs = [GIBBERISH[name][1](rng) for _ in range(4)]
    return paragraphs[0][:20], paragraphs


def mojibake(text: str, wrong: str) -> str:
    """`text` as it looks when its UTF-8 is read as `wrong` and the result stored."""
    return text.encode("utf-8").decode(wrong, "replace")


BOILERPLATE: dict[Language, tuple[str, ...]] = {
    "en": (
        "Log in",
        "Sign up",
        "Forgot your password?",
        "Accept all cookies",
        "Page not found",
        "Back to the start page",
        "Next page",
        "Share",
        "Contact",
    ),
    "zh": ("登录", "注册", "忘记密码？", "接受全部Cookie", "找不到页面", "回到首页", "下一页", "分享", "联系我们"),
}

NOTICES: dict[Language, str] = {
    "en": "Anyone may read this page, copy it by hand and give it to a friend, as long as not a word of it is changed.",
    "zh": "这一页谁都可以读，谁都可以写下来给朋友看，但是里面的话一个字也不要换，也不要说是自己写的。",
}
"""A paragraph that stands among a page's own, where no extractor can tell it from them."""


def boilerplate_page(lang: Language, rng: random.Random) -> tuple[str, list[str]]:
    """Title and paragraphs of a page that has nothing but what goes around pages."""
    lines = rng.sample(BOILERPLATE[lang], 5)
    return lines[0], lines[1:]
