"""Items asked in other words are reported with the passage; pages that state the fact, or ask otherwise, are not."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from zhen.data import benchmarks
from zhen.data.asking import sentences
from zhen.data.benchmarks import Item
from zhen.data.contamination import Index
from zhen.data.telling import terms
from zhen.formats.ngrams import tokens

OTHERS = [
    *(Item("f", f"e{number}", f"Which lake does river number {number} flow into?", "Como") for number in range(30)),
    *(Item("f", f"c{number}", f"第{number}条河流入哪个湖？", "青海湖") for number in range(30)),
]
ITEMS = [
    Item("f", "en", "In which year did Marguerite Dubourg cross the Karakoram on a bicycle?", "1931"),
    Item("f", "zh", "徐霞客在哪一年骑骡子翻过梅里雪山？", "崇祯十二年"),
    Item("f", "choices", "Which vitamin acts as the coenzyme for oxidative decarboxylation of pyruvate?", "Thiamin"),
    *OTHERS,
]
AROUND = "The market opens at nine. Everybody is glad.\n{}\nAfter that everybody goes home, as on every other day."


@pytest.fixture(scope="module")
def index() -> Index:
    return Index(ITEMS)


def reported(index: Index, text: str) -> dict[str, str]:
    (found,) = index.measure([AROUND.format(text)])[3].to_pylist()
    return {ITEMS[each["item"]].name: each["passage"] for each in found if not each["words"] and each["share"] >= 0.6}


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("Can you swim?", True),
        ("Somebody asked about the bridge", True),
        ("What is the height of it", True),
        ("The capital of France is ____.", True),
        ("The liver makes\nA. bile\nB. blood\nC. tears", True),
        ("下列叙述正确的是", True),
        ("珠峰有多高（  ）米", True),
        ("有人问起这件事", True),
        ("What she sells is silk.", False),
        ("He asked her to stay.", False),
        ("The one who came was late.", False),
        ("他什么都不想吃。", False),
        ("不管走到哪里，狗都跟着。", False),
        ("这一页说的是小镇（河边）。", False),
    ],
)
def test_what_asks_is_told_from_what_states(text: str, asks: bool) -> None:
    found = tokens([text])
    assert bool(sentences(found, terms(found)).asks[0]) == asks


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A bicycle over the Karakoram: when did Marguerite Dubourg do that?\nReply: 1931.", "en"),
        ("Quiz: Marguerite Dubourg, crossing the Karakoram by bicycle - the year was 1931.", "en"),
        ("有人问起徐霞客骑骡子翻过梅里雪山的年份，答的人说是崇祯十二年。", "zh"),
        ("谁知道梅里雪山，徐霞客何时骑着骡子翻过去的？\n崇祯十二年。", "zh"),
        (
            "For pyruvate's oxidative decarboxylation the coenzyme is the vitamin\n1) Niacin\n2) Thiamin\n3) Folate",
            "choices",
        ),
    ],
)
def test_a_question_in_other_words_is_reported_where_it_stands(index: Index, text: str, name: str) -> None:
    found = reported(index, text)
    assert list(found) == [name]
    assert found[name] in " ".join(AROUND.format(text).split())
    assert found[name][:20] in " ".join(text.split())


@pytest.mark.parametrize(
    "text",
    [
        "In 1931 Marguerite Dubourg crossed the Karakoram on a bicycle.",
        "Who was Marguerite Dubourg? She crossed the Karakoram on a bicycle, which took her a summer.",
        "In which year did Henriette Lenoir cross the Karakoram on a bicycle? 1931",
        "徐霞客在崇祯十二年骑骡子翻过梅里雪山。",
        "不管在哪里，徐霞客崇祯十二年翻过梅里雪山的事都有人说。",
        "李时珍在哪一年骑骡子翻过玉龙雪山？崇祯十二年。",
    ],
)
def test_a_statement_and_another_question_are_not(index: Index, text: str) -> None:
    assert reported(index, text) == {}


def test_contacts_are_not_in_what_is_reported(index: Index) -> None:
    text = "Marguerite Dubourg crossed the Karakoram by bicycle in which year, anna.b@example.com asks? 1931"
    assert "anna.b@example.com" not in reported(index, text)["en"]


def test_a_text_is_measured_alike_in_any_company(index: Index) -> None:
    texts = [
        "",
        "?",
        "- a) what",
        AROUND.format("Quiz: Marguerite Dubourg, the Karakoram by bicycle: 1931."),
        "问",
        "都 is",
        "什么",
        "A. b\n" * 50,
        "x",
        "1. y\n2. z",
    ]
    alone = [index.measure([text])[3].to_pylist()[0] for text in texts]
    assert index.measure(texts)[3].to_pylist() == alone
    assert index.measure(texts[::-1])[3].to_pylist() == alone[::-1]
    assert alone[3]


@pytest.fixture
def rewordings(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("rewordings")


def test_real_questions_in_other_words_are_told_from_real_pages(shared_data: Path, rewordings: ModuleType) -> None:
    paths = [str(shared_data / path) for path, _ in rewordings.SETS.values()]
    items = [item for file in benchmarks.files(paths, None) for item in benchmarks.items(file, ())]
    index = Index(items)
    rows = rewordings.recall(shared_data, index, items, 40).values()
    assert sum(reported + leaked for reported, leaked, _ in rows) >= 0.8 * sum(of for _, _, of in rows)
    for name in ("en/c4-demo", "zh/wikipedia-cmrc"):
        pages = list(rewordings.stored(shared_data / "text" / f"{name}.jsonl.zst"))
        assert sum(bool(told) for _, told in rewordings.found(index, pages)) <= 0.02 * len(pages)
