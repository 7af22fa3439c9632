"""How many benchmark items asked in other words are reported in real pages, and how many pages that have none.

`python benchmarks/rewordings.py FOLDER [COUNT]`: FOLDER holds `eval/` and `text/` (`../shared/data`). COUNT items of
each of eight benchmarks are put otherwise by rules (clauses in another order, synonyms, some function words
left out, choices in another order under other labels, another lead-in and answer line) and set into real pages; the
same pages as they are, and others, must not be reported. Prints Markdown.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from corpora import stored
from zhen.data import benchmarks
from zhen.data.benchmarks import Item
from zhen.data.contamination import Index
from zhen.data.settings import ContaminationSettings

SEED = 20251
COUNT = 250
"""Items of each benchmark."""
REPORT = ContaminationSettings().report
THRESHOLD = ContaminationSettings().threshold
CHARACTERS = 3_000
"""Of a page that an item is set into; pages are compared whole where nothing is set in."""

SETS = {
    "MMLU": ("eval/mmlu/test", "en"),
    "ARC challenge": ("eval/arc-challenge", "en"),
    "OpenBookQA": ("eval/openbookqa", "en"),
    "SciQ": ("eval/sciq", "en"),
    "CommonsenseQA": ("eval/commonsenseqa", "en"),
    "CMMLU": ("eval/cmmlu/test", "zh"),
    "gaokao history": ("eval/agieval/gaokao-history.jsonl", "zh"),
    "gaokao chemistry": ("eval/agieval/gaokao-chemistry.jsonl", "zh"),
}
PAGES = {
    "en": ("en/c4-demo", "en/wikipedia-demo", "en/brown"),
    "zh": ("zh/wikipedia-cmrc", "zh/wikipedia-drcd", "zh/kubernetes"),
}
CLEAN = (
    "en/c4-demo", "en/wikipedia-demo", "en/brown", "en/kubernetes", "en/moby-dick-or-the-whale",
    "en/openstax-us-history", "zh/wikipedia-cmrc", "zh/wikipedia-drcd", "zh/kubernetes", "zh/laws",
    "zh/classics-modern-translation",
)  # fmt: skip

ENGLISH = """
best/most probable/likely rarely/seldom often/frequently usually/normally main/chief primary/principal large/big
important/essential larger/bigger small/little many/numerous use/employ used/employed uses/employs make/produce
makes/produces made/produced show/demonstrate shows/demonstrates help/assist helps/assists need/require needs/requires
cause/bring caused/brought causes/brings happen/occur happens/occurs find/discover begin/start begins/starts end/finish
increase/rise increases/rises decrease/drop decreases/drops describe/outline describes/outlines people/persons
person/individual man/guy woman/lady child/kid children/kids student/pupil students/pupils scientist/researcher
scientists/researchers difference/distinction result/outcome reason/cause part/portion type/kind types/kinds
example/instance method/way area/region place/spot object/thing objects/things statement/claim correct/right true/right
"""
CHINESE = """
正确/对 错误/不对 主要/首要 重要/关键 说法/讲法 表述/讲法 叙述/讲法 描述/讲法 原因/缘由 目的/用意 作用/功用 方法/办法
使用/运用 采用/运用 包括/含有 属于/算作 产生/带来 导致/引起 认为/觉得 反映/体现 表明/说明 能够/可以 应该/应当 因为/由于
所以/因此 但是/不过 如果/要是 按照/依照 根据/依据 需要/要求 最早/最先 第一/首个 著名/有名 开始/着手 提出/给出 形成/构成
"""
SYNONYMS = {lang: dict(pair.split("/") for pair in pairs.split()) for lang, pairs in (("en", ENGLISH), ("zh", CHINESE))}
ARTICLES = "the a an of to in on at for and or is are was were be that this these those with as by from it its"
DROPPED = {"en": set(ARTICLES.split(" ")), "zh": set("的了着之所")}
FRAMES = {
    "en": (
        ("Here is one for the pub quiz: ", "{c}", "\nThe right one is {a}."),
        ("12) ", "{c}", "\nKey: {a}"),
        ("", "{c}", " Solution - {a}."),
        ("Somebody sent us this: ", "{c}", "\nOur reply: {a}"),
    ),
    "zh": (
        ("有读者来信：", "{c}", "\n应选：{a}。"),
        ("第12题 ", "{c}", "\n参考答案：{a}"),
        ("", "{c}", "（{a}）"),
        ("考考你：", "{c}", "\n解：{a}。"),
    ),
}
LABELS = {"en": ("1. ", "a) ", "[A] ", "- ", "(i) "), "zh": ("1．", "甲、", "Ａ．", "（一）", "·")}
STEPS = {"1. ": "123456789", "a) ": "abcdefgh", "[A] ": "ABCDEFGH", "(i) ": ("i", "ii", "iii", "iv", "v", "vi"),
         "1．": "123456789", "甲、": "甲乙丙丁戊己", "Ａ．": "ＡＢＣＤＥＦ", "（一）": "一二三四五六"}  # fmt: skip


class Asked(NamedTuple):
    """A question of a benchmark with its choices; `item` is what the index holds."""

    item: Item
    question: str
    choices: list[str]
    answer: str


def asked(files: list[benchmarks.File]) -> Iterator[Asked]:
    """The questions of files whose rows have choices."""
    for file in files:
        text = Path(file.location).read_text("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text))) if file.location.endswith("csv") else _lines(text)
        items = benchmarks.items(file, ())
        if len(rows) != len(items):
            raise ValueError(f"{file.location}: {len(rows)} rows, {len(items)} items")
        for row, item in zip(rows, items, strict=True):
            keys = {str(key).lower(): value for key, value in row.items()}
            listed = keys.get("choices") or keys.get("options")
            choices = listed or [keys[key] for key in sorted(keys) if re.fullmatch(r"choice\d|[a-e]|distractor\d", key)]
            choices = [re.sub(r"^\(?[A-E][).．、]\s*", "", str(choice)) for choice in choices]
            answer = re.sub(r"^\(?[A-E][).．、]\s*", "", item.answer)
            if answer and 2 <= len(choices) <= 6:
                yield Asked(item, item.question, choices, answer)


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def put_otherwise(one: Asked, lang: str, rng: random.Random) -> str:
    """The question in other words, with its choices and its answer."""
    sentences = [each for each in re.split(r"(?<=[.!?。！？；;])\s*", one.question.strip()) if each]
    before, last = sentences[:-1], sentences[-1]
    if len(before) > 1 and rng.random() < 0.5:
        before[0], before[1] = before[1], before[0]
    clauses = re.split(r"[,，、]\s*", last)
    if len(clauses) > 1:
        mark = last[-1] if last[-1] in "?？.。" else ""
        moved = [*clauses[1:], clauses[0]] if len(clauses) == 2 else [clauses[1], clauses[0], *clauses[2:]]
        last = ("，" if lang == "zh" else ", ").join(each.strip("?？.。") for each in moved) + mark
    text = (_chinese if lang == "zh" else _english)([*before, last], rng)
    front, middle, back = rng.choice(FRAMES[lang])
    label = rng.choice(LABELS[lang])
    choices = rng.sample(one.choices, len(one.choices))
    steps = STEPS.get(label)
    marks = [label.replace(steps[0], steps[place], 1) if steps else label for place in range(len(choices))]
    listed = "".join(f"\n{mark}{choice}" for mark, choice in zip(marks, choices, strict=True))
    return front + text + middle.format(c=listed) + back.format(a=one.answer)


def _english(sentences: list[str], rng: random.Random) -> str:
    kept = []
    for word in " ".join(sentences).split():
        bare = re.sub(r"\W", "", word).lower()
        if bare in DROPPED["en"] and rng.random() < 0.5:
            continue
        if bare in SYNONYMS["en"]:
            word = re.sub(r"\w+", SYNONYMS["en"][bare], word, count=1)
        kept.append(word)
    return " ".join(kept)


def _chinese(sentences: list[str], rng: random.Random) -> str:
    text = "".join(sentences)
    for word, other in SYNONYMS["zh"].items():
        text = text.replace(word, other)
    return "".join(each for each in text if each not in DROPPED["zh"] or rng.random() < 0.5)


def set_in(page: str, passage: str) -> str:
    """The page, cut at CHARACTERS, with the passage as a paragraph in its middle."""
    page = page[:CHARACTERS]
    middle = page.find("\n", len(page) // 2)
    middle = len(page) // 2 if middle < 0 else middle
    return f"{page[:middle]}\n{passage}\n{page[middle:]}"


def found(index: Index, pages: list[str]) -> list[tuple[float, list[dict[str, Any]]]]:
    """Of each page the greatest share word for word, and what is reported in it."""
    answers: list[tuple[float, list[dict[str, Any]]]] = []
    for begin in range(0, len(pages), 100):
        shares, _, _, overlaps = index.measure(pages[begin : begin + 100])
        for share, each in zip(shares.to_pylist(), overlaps.to_pylist(), strict=True):
            answers.append((share, [one for one in each if not one["words"] and one["share"] >= REPORT]))
    return answers


def recall(folder: Path, index: Index, items: list[Item], count: int) -> dict[str, tuple[int, int, int]]:
    """Benchmark -> its items reported, left out as word for word, and all. `items`: what the index was made of."""
    numbers: dict[tuple[str, str], set[int]] = {}
    for number, item in enumerate(items):
        numbers.setdefault((item.question, item.answer), set()).add(number)
    rng = random.Random(SEED)
    pages = {
        lang: [page for name in names for page in stored(folder / "text" / f"{name}.jsonl.zst")]
        for lang, names in PAGES.items()
    }
    rows = {}
    for name, (path, lang) in SETS.items():
        every = list(asked(benchmarks.files([str(folder / path)], None)))
        chosen = [one for one in rng.sample(every, min(count, len(every))) if len(one.question) >= 8]
        passages = [put_otherwise(one, lang, rng) for one in chosen]
        results = found(index, [set_in(rng.choice(pages[lang]), passage) for passage in passages])
        reported = leaked = 0
        for one, (share, told) in zip(chosen, results, strict=True):
            hit = any(each["item"] in numbers[one.item.question, one.item.answer] for each in told)
            reported += hit
            leaked += share >= THRESHOLD and not hit
        rows[name] = reported, leaked, len(chosen)
    return rows


def main() -> int:
    """Print both tables."""
    if len(sys.argv) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    folder, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else COUNT
    items = [item for file in benchmarks.files([str(folder / "eval")], None) for item in benchmarks.items(file, ())]
    index = Index(items)
    print("| benchmark | items put otherwise | reported | left out as word for word | neither |\n|---|---|---|---|---|")
    rows = recall(folder, index, items, count)
    every = [sum(column) for column in zip(*rows.values(), strict=True)]
    for name, (reported, leaked, of) in [*rows.items(), ("all", every)]:
        print(f"| {name} | {of} | {reported} ({reported / of:.1%}) | {leaked} | {of - reported - leaked} |")
    print("\n| pages as they are | documents | MB | reported |\n|---|---|---|---|")
    for name in CLEAN:
        pages = list(stored(folder / "text" / f"{name}.jsonl.zst"))
        told = sum(bool(each) for _, each in found(index, pages))
        size = sum(len(page.encode()) for page in pages) / 1e6
        print(f"| {name} | {len(pages):,} | {size:.1f} | {told} ({told / len(pages):.2%}) |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
