"""Our own short lists of words, in both languages: stop words, common words, words of spam, lures of gambling."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN201
from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from zhen.data.repetition import slot_of
from zhen.data.words import BASE, code_points, kernel, mixed

LONGEST = 5
"""Han characters of the longest term."""

COMMON, SPAM, STOP, LURE, NAME, FIELD, WAY, LIGHT, OFFER = (1 << bit for bit in range(9))
"""What a term is (LURE … LIGHT: see `LURES`; OFFER: see `OFFERS`)."""

STOP_SHIFT = 9
"""A stop word's number stands in the bits from here on, English ones first."""

STOP_WORDS = {
    "en": "the be to of and that have with",
    "zh": "的 年 在 月 是 和 日 了 於 有 被 人 中 为 他 與 後 也 而 由 為",
}
"""en: Gopher's (Rae et al. 2021, A.1.1); zh: FineWeb2's for `cmn_Hani` without the dot, which is no word here."""

ENGLISH_STOP_WORDS = len(STOP_WORDS["en"].split())

COMMON_WORDS = {
    "en": """the of and to a in that for is was it i as with on he his you by this at be from not but had have
        which are an all or were one they their my we there so when more your him if will been would no who
        has can what into her out new up some me then other its time now she about over only them said
        these also two than first do could like after upon very may any our well most such how before man
        did see us many where down should through people made use while must little way common those
        great just during back get day between three much long here against however both even make
        work still state own good being old years used same each last world part go know
        men because come off don't it's until few year""",
    "zh": """的一在为是有用以人数中和不个行时可于了国下大定法会上本能到年使据后们出我当第这对如分量他地理条应要来子作
        表过成其将部所生十同务入关之或度说通方公事设而文者进并自发与机实相多置计民学规开王经问性就间从前化制型复
        动位建集二管得及果主值任三小例政合区业等内现件查模加由被提参因列日道代式处单工向全输最题接算修都高新重保
        类变更门名存此信家该语示常长需意标物也面执情取元配引员请安体持种正认结天然层始外市样程线息点回期级器统军
        特产月导权构指四解改明目测版组两无没系运节起则支些立每步项五证序它调函次路里交水原群资预别称平利形求包去
        具但比服只院力网连练你义况令选图训像字责注状受场给么议备依见确词照车西太索码报施國為於後時學軍會與發南北
        區斯東來世個對這經戰並動海亞教開美爾長內統德業共過現機馬進州城稱至將聯府羅產間治當球拉電體山克華島界權種
        帝義總關史朝灣約兩數議基古著設省領士員紀心族從曰何花知又春今君老江风好玉已云看未东言白金清头酒夜千無着那
        夫先她还想手身把声己话儿女几很什打便走电口再真听气少却万眼总才师书住九笑华马命张活难神叫死感反放做司光亲
        京各台象记边战干许八觉望直毛林色爱让论百吃科怎社术六功思非流青远队跟带快""",
}
"""Words and characters that prose is full of, whatever it is about: the most frequent ones of encyclopaedias, novels,
laws and manuals, in simplified and traditional script."""

SPAM_WORDS = {
    "en": """casino casinos jackpot jackpots slots poker blackjack roulette betting bets sportsbook bookmaker
        payout payouts viagra cialis levitra pills pharmacy prescription payday loans replica rolex porn xxx
        escort escorts webcam bonus spins deposit deposits gambling gamble lottery discount cheap online
        bitcoin forex dating""",
    "zh": """赌场 赌博 赌球 博彩 娱乐城 百家乐 真人荷官 荷官 老虎机 六合彩 时时彩 彩票 投注 下注 返水 彩金 首存
        棋牌 特码 提款 爆大奖 大奖 外围 盘口 赔率 网投 菠菜 送彩 代开 发票 办证 刻章 无抵押 抵押 放款 贷款
        征信 裸聊 美女 约炮 成人 情色 援交 加微信 微信 客服 红包 点击 注册 下载 免费 直播 金币 开户 秒到
        賭場 賭博 博弈 娛樂城 百家樂 老虎機""",
}
"""Words of gambling, medicine, loans, forged papers and sex as spam sells them; one alone says nothing, their density
does."""

OFFERS = {
    "en": """payout payouts viagra cialis levitra pills payday replica porn xxx escort escorts webcam bonus spins
        discount cheap online""",
    "zh": """返水 彩金 首存 特码 提款 爆大奖 大奖 网投 菠菜 送彩 代开 办证 刻章 无抵押 放款 裸聊 美女 约炮 援交
        加微信 微信 客服 红包 点击 注册 下载 免费 直播 金币 开户 秒到""",
}
"""Of these the ones that offer something: a law, the news, an encyclopaedia name the others."""

OFFERED = 4.0
"""So many spam words count in full for each that is part of an offer."""

UNOFFERED = 1 / 3
"""What a spam word counts beyond these."""

LURES = {
    LURE: """yabo bt365 manbetx 华体会 亚博体育 万博体育 必威体育 爱游戏体育 开云体育 云开体育 乐鱼体育 半岛体育
        九游体育 火狐体育 天博体育 博鱼体育 贝博体育 江南体育 星空体育 皇冠体育 沙巴体育 欧宝体育 千亿体育 牛宝体育
        雷火电竞 泛亚电竞 利来国际 乐虎国际 同升国际 优发国际 环亚娱乐 凯发娱乐 尊龙凯时 腾博会 博天堂 大发快三""",
    NAME: """bet365 betway 188bet 1xbet 22bet fun88 w88 m88 bwin sbobet dafabet 必威 立博 威廉希尔 伟德国际
        现金网 娱乐城 棋牌 百家乐 老虎机 时时彩 六合彩 电玩城 真人视讯 真人娱乐 幸运飞艇 現金網 娛樂城 百家樂 老虎機""",
    FIELD: "体育 国际 娱乐 电竞 彩票 體育 國際 娛樂",
    WAY: """官网 官方网 网址 登录 登陆 登入 手机版 网页版 中文版 最新版 安卓版 手机下载 入口 直营 返水 送彩金
        官網 網址 登錄 手機版""",
    LIGHT: "app apk 官方 注册 下载 註冊 下載",
}
"""How pages that stand in for gambling sites name them, whatever else is on the page. LURE: a name that is used for
nothing else. NAME: a bookmaker or a game, which the news name too, until a WAY in follows directly (`老虎机官网`).
FIELD: a common word, until two ways follow, of which one may be LIGHT (`体育app官网`)."""


@functools.cache
def term_table() -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
    """Hash table of all terms: keys, rounds (1: taken), what the term is."""
    kinds: dict[str, int] = {}
    for kind, lists in ((COMMON, COMMON_WORDS), (SPAM, SPAM_WORDS), (OFFER, OFFERS)):
        for lang, text in lists.items():
            terms = "".join(text.split()) if lang == "zh" and kind == COMMON else text.split()
            for term in terms:
                kinds[term] = kinds.get(term, 0) | kind
    for kind, text in LURES.items():
        for term in text.split():
            kinds[term] = kinds.get(term, 0) | kind
    number = 0
    for text in STOP_WORDS.values():
        for term in text.split():
            kinds[term] = kinds.get(term, 0) | STOP | number << STOP_SHIFT
            number += 1
    size = 4096
    keys, rounds, values = np.zeros(size, np.uint64), np.zeros(size, np.int64), np.zeros(size, np.int64)
    for term, kind in sorted(kinds.items()):
        codes, _ = code_points([term])
        key = np.uint64(term_key(codes, 0, len(codes)))
        slot = slot_of((keys, rounds), 1, key)
        keys[slot], rounds[slot], values[slot] = key, 1, kind
    return keys, rounds, values


@kernel
def term_key(codes, begin, end):
    """Hash of the characters between two places as prefix sums give it (`repetition.joined_key`)."""
    power, total = np.uint64(1), np.uint64(0)
    for place in range(begin, end):
        total += mixed(np.uint64(codes[place]) + np.uint64(1)) * power
        power *= BASE
    return mixed(total)
