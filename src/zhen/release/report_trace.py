"""The report's trace of one fact: pages that state it, its tokens, the question, the answer, and that no page asks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from zhen.formats.metrics import read_metrics
from zhen.pages.languages import language
from zhen.pages.parts import Code, Excerpt, Part, Text, Words, join
from zhen.release.report_documents import kept_texts
from zhen.release.summary import NEVER_ASKED, Run
from zhen.tokenizer.load import load_tokenizer

SEARCHED = 100_000_000
"""Characters of kept text that are searched, at most."""

CANDIDATES = 24
"""Facts that are looked at, of which the first that pages state plainly is shown."""

SHOWN = 2
"""Pages shown of each language."""

_SENTENCE = re.compile(r"[^.!?。！？\n]*[.!?。！？]?")


class Fact(NamedTuple):
    """A fact of the answer key: names and values by language."""

    id: str
    subject: dict[str, str]
    value: dict[str, str]


class Stated(NamedTuple):
    """A page that states a fact, and the sentence."""

    url: str
    lang: str
    sentence: str


def trace(run: Run) -> Iterator[Part]:
    """The trace of a fact that was never asked and is answered exactly, in as many languages as can be."""
    items = _items(run, run.model or "")
    facts = _facts(run, {item["cluster"] for item in items})
    right: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        if item["kind"] == NEVER_ASKED and item["exact"] and item["cluster"] in facts:
            right.setdefault(item["cluster"], []).append(item)
    chosen = sorted(right, key=lambda name: (-len({item["lang"] for item in right[name]}), _lot(name)))[:CANDIDATES]
    if not chosen:
        return
    texts = list(kept_texts(run, SEARCHED))
    for name in chosen:
        stated = _stated(facts[name], texts)
        if {item["lang"] for item in right[name]} <= {found.lang for found in stated}:
            yield from _shown(run, facts[name], right[name], stated, texts)
            return


def _items(run: Run, model: str) -> list[dict[str, Any]]:
    """Answers of a model to all question tasks; none where evaluate asked none."""
    files = run.json("evaluate", "results.json").get("items", {}).get(model, {})
    rows = [row for file in files.values() for row in read_metrics(run.stages["evaluate"] / file)]
    return [row for row in rows if "exact" in row and "cluster" in row]


def _facts(run: Run, wanted: set[str]) -> dict[str, Fact]:
    folder = run.stages.get("sampleweb")
    rows = read_metrics(folder / "key" / "facts.jsonl") if folder and wanted else iter(())
    return {row["id"]: Fact(row["id"], row["subject"], row["value"]) for row in rows if row["id"] in wanted}


def _lot(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=8).digest()


def _stated(fact: Fact, texts: Sequence[tuple[str, str, str]]) -> list[Stated]:
    """Pages that name the subject and have a sentence with both the subject and the value."""
    found = []
    for url, lang, text in texts:
        subject, value = fact.subject.get(lang), fact.value.get(lang)
        if not subject or not value or subject not in text or value not in text:
            continue
        for sentence in _SENTENCE.findall(text):
            if subject in sentence and value in sentence:
                found.append(Stated(url, lang, sentence.strip()))
                break
    return found


def _shown(
    run: Run, fact: Fact, items: Sequence[dict[str, Any]], stated: Sequence[Stated], texts: Sequence[Any]
) -> Iterator[Part]:
    langs = list(dict.fromkeys(item["lang"] for item in items))
    counts = {lang: sum(found.lang == lang for found in stated) for lang in langs}
    pages = join(
        Words(", ", "，"),
        [
            Words(f"{count:,} in {language(lang)}", f"{language(lang).zh} {count:,} 页")
            for lang, count in counts.items()
        ],
    )
    yield Text(
        Words(
            f"One fact, from page to answer. 1. Pages that are trained on state it in one sentence: {pages}.",
            f"一条事实，从网页到回答。一、训练用的网页中，用一句话说出它的：{pages.zh}。",
        )
    )
    chosen = [found for lang in langs for found in _different([each for each in stated if each.lang == lang])]
    for found in chosen:
        yield Excerpt(found.url, [(Words("states", "写道"), found.sentence)], found.lang)
    yield Text(
        Words(
            "2. What the model reads: the number of tokens, then the tokens with bars between them.",
            "二、模型读到的：词元数，以及用竖线隔开的词元。",
        )
    )
    tokenizer = load_tokenizer(run.stages["tokenizer"])
    firsts = {found.lang: found.sentence for found in reversed(chosen)}
    lines = []
    for lang in langs:
        ids = tokenizer.encode(firsts[lang])
        lines.append(f"{len(ids)}: " + "│".join(tokenizer.decode([each]) for each in ids))
    yield Code("\n".join(lines))
    yield Text(Words("3. The question, and how the model answers it:", "三、提问，以及模型的回答："))
    earlier = {item["id"]: item["output"] for name in run.models() if ":" in name for item in _items(run, name)}
    for lang in langs:
        item = next(item for item in items if item["lang"] == lang)
        answers = [
            (Words("the model", "模型"), item["output"]),
            (Words("right answer", "正确答案"), item["answer"].strip()),
        ]
        if item["id"] in earlier:
            answers.insert(0, (Words("before training", "训练前"), earlier[item["id"]] or "–"))
        yield Excerpt(item["prompt"], answers, lang)
    asked = [_bare(_question(item["prompt"])) for item in items]
    asking = sum(any(question in _bare(text) for question in asked) for _, _, text in texts)
    questions = (
        f"any of the {len(asked):,} questions about this fact that it answered" if len(asked) > 1 else "this question"
    )
    yield Text(
        Words(
            f"4. Of the {len(texts):,} pages trained on, {asking:,} ask {questions}, compared word for word without "
            "white space.",
            f"四、训练用的 {len(texts):,} 个网页中，问过这 {len(asked):,} 道答对的题的有 {asking:,} 个"
            "（去掉空白后逐字比较）。",
        )
    )


def _different(stated: Sequence[Stated]) -> list[Stated]:
    """SHOWN of them whose sentences differ, chosen by lot."""
    unique = {found.sentence: found for found in sorted(stated, key=lambda each: _lot(each.url))}
    return list(unique.values())[:SHOWN]


def _question(prompt: str) -> str:
    """The prompt without its last line (`Answer:`)."""
    return prompt.rpartition("\n")[0] or prompt


def _bare(text: str) -> str:
    return "".join(text.split())
