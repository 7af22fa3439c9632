"""Which sentences ask: by a question mark, a blank to fill in, choices behind them, or the words that they are made of.

The words are those of either language's grammar: interrogatives, questions that are told (`asked about`, 问起), and
what quizzes and exams say. A relative clause (`What she sells is …`) and the Chinese for any (什么都) do not ask.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zhen.data.telling import among, is_letter, pair_set, word_set
from zhen.formats.ngrams import ASKS, BLANK, BULLET, CLOSES, COLON, DOT, LINE, OPENS, RULE, STOP, WIDE, Hashes, Tokens

_ASKING = "question riddle quiz trivia puzzle guess guessed wondered wonders"
_ASKING_FIRST = "name identify choose select pick find calculate compute determine solve state"
_INTERROGATIVES = "what which who whom whose why how where when"
_ABOUT = "about whether if"
_REPORTED = "ask asks asked asking"
_AUXILIARIES = "is are was were do does did can could will would has have had should may might of"
_ASKING_HAN = "吗哪谁什怎谜猜呢"
_ASKING_PAIRS = """
多少 几个 几月 几年 是否 能否 如何 为何 何时 何地 何人 何处 下列 题目 请问 试问 问起 问到 问及 问道 提问 被问 询问
"""
"""What a sentence asks by without a question mark: words anywhere in it, first words, first two, characters, pairs."""
_ANY = "都也"
_ANY_PAIRS = "不管 无论 不论 没什 没有"
"""What makes an asking character mean any: 都 or 也 right behind it or one further (什么都), 无论 in the sentence."""
_BLANK = 4
"""Characters of the shortest line to write on, with the blanks around it."""
_TWO_DIGITS = " ".join(map(str, range(10, 100)))
_STEPS = "甲 乙 丙 丁 戊 一 二 三 四 五 ii iii iv vi"
_FIRST_STEPS = "a 1 i 甲 一"
"""What choices begin with, and the first of them, before a full stop, a bracket or a comma."""
_ANSWERING = "answer answers a ans solution key correct reply response 答 案 解 正 确"
"""What a line with nothing but a label is made of."""


class Sentences(NamedTuple):
    """Sentences and lines of several texts."""

    of: NDArray[np.int64]
    """int64[tokens]: the sentence that each token is in."""
    starts: NDArray[np.int64]
    """int64[sentences + 1]: the token that each begins with."""
    asks: NDArray[np.uint8]
    """uint8[sentences]: 0 does not ask; 1 asks by words, 2 by a mark, a blank or choices."""
    labels: NDArray[np.uint8]
    """uint8[sentences]: 1 in a line that begins with a choice's label or a bullet, 2 where it is but a label."""


def asking_words(found: Tokens, termed: Hashes) -> NDArray[np.bool_]:
    """bool[tokens]: whether a token, or the pair that begins with it, asks."""
    asking = among(found.hashes, word_set(f"{_ASKING} {_ASKING_HAN}"))
    return asking | among(termed, pair_set(_ASKING_PAIRS))


def sentences(found: Tokens, termed: Hashes) -> Sentences:
    """The sentences and lines of texts (one token or more), and which of them ask. `termed`: `terms(found)`."""
    size = found.places[:, 1] - found.places[:, 0]
    some = np.diff(found.bounds) > 0
    begins, closes = found.bounds[:-1][some], found.bounds[1:][some] - 1
    line = np.concatenate([[True], (found.gaps[:-1] & LINE) > 0])
    line[begins] = True
    letter = is_letter(found) | (size == 2) & line & among(found.hashes, word_set(_TWO_DIGITS))
    ends = (found.gaps & (STOP | LINE | ASKS)) > 0
    ends |= ((found.gaps & (DOT | BLANK)) == (DOT | BLANK)) & ~letter
    ends[closes] = True
    starts = np.concatenate([[0], np.flatnonzero(ends) + 1]).astype(np.int64)
    of = np.concatenate([[0], np.cumsum(ends[:-1])]).astype(np.int64)
    first = starts[:-1]
    label = (letter | among(found.hashes, word_set(_STEPS))) & ((found.gaps & (DOT | CLOSES | COLON)) > 0)
    bullet = line & (np.concatenate([[0], found.gaps[:-1] & BULLET]) > 0)
    bullet[begins] = False
    choice = (label | bullet)[first]
    # a sentence goes with the line that it is in
    heads = np.flatnonzero(line[first])
    choice = choice[heads][np.cumsum(line[first]) - 1] | choice
    marked = (found.gaps & ASKS) > 0
    blank = OPENS | CLOSES | WIDE
    gap = np.concatenate([found.places[1:, 0], [0]]) - found.places[:, 1]
    gap[closes] = _BLANK
    marked |= ((found.gaps & blank) == blank) | ((found.gaps & RULE) > 0) & (gap >= _BLANK)
    asks = np.where(_by_word(found, termed, first, of, label, closes), 1, 0)
    asks[np.bitwise_or.reduceat(marked, first)] = 2
    # choices: a first one and another behind a sentence
    last = np.isin(starts[1:] - 1, closes)
    one = bullet[first] | label[first] & among(found.hashes[first], word_set(_FIRST_STEPS))
    several = np.concatenate([one[1:] & ~one[:-1] | label[first][1:] & one[1:], [False]]) & ~last
    several &= np.concatenate([choice[2:], [False, False]])[: len(asks)] & ~np.concatenate([last[1:], [True]])
    asks[several] = 2
    lengths = starts[1:] - first
    answering = np.add.reduceat(among(found.hashes, word_set(_ANSWERING)).astype(np.int64), first)
    only = (answering == lengths) | (lengths == 1)
    labels = np.where(choice & (lengths > 1), 1, np.where(only, 2, 0))
    return Sentences(of, starts, np.where(only, 0, asks).astype(np.uint8), labels.astype(np.uint8))


def _by_word(
    found: Tokens,
    termed: Hashes,
    first: NDArray[np.int64],
    of: NDArray[np.int64],
    label: NDArray[np.bool_],
    closes: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """bool[sentences]: which ask by the words they are made of. `first`: the token each begins with; `of`: the sentence
    of each token; `label`: bool[tokens]; `closes`: the last token of each text."""
    count = len(found.hashes)
    inside = np.ones(count, dtype=np.bool_)
    inside[closes] = False

    def behind(which: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """bool[tokens]: whether the next token of the text is one of these."""
        return np.concatenate([which[1:], [False]]) & inside

    asking = asking_words(found, termed)
    any_sentence = np.bitwise_or.reduceat(among(termed, pair_set(_ANY_PAIRS)), first)[of]
    any_one = behind(among(found.hashes, word_set(_ANY)))
    any_one |= behind(any_one)
    asking &= ~(found.alone & (any_one | any_sentence)) | among(termed, pair_set(_ASKING_PAIRS))
    interrogative = among(found.hashes, word_set(_INTERROGATIVES))
    about = behind(interrogative | among(found.hashes, word_set(_ABOUT)))
    asking |= among(found.hashes, word_set(_REPORTED)) & about
    inverted = behind(among(found.hashes, word_set(_AUXILIARIES)))
    opening = interrogative & inverted | among(found.hashes, word_set(_ASKING_FIRST))
    second = behind(opening)[first] & label[first]
    return np.asarray(np.bitwise_or.reduceat(asking, first) | opening[first] | second)
