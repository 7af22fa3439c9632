"""Rules and near-duplicates beside datatrove's, in one run: documents per second, and the same decisions.

`python benchmarks/data.py [FOLDER]`: FOLDER holds `en/*.jsonl.zst` and `zh/*.jsonl.zst` (`../shared/data/text`).
Needs `pip install datatrove==0.10.1 spacy jieba`. Decisions are compared on the same words, by giving datatrove
ours; its speed is taken with its own.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from corpora import of_language
from near_duplicates import near_table
from zhen.console import out, table
from zhen.data.gate import clean
from zhen.data.rules import RULES
from zhen.data.settings import RulesSettings
from zhen.data.statistics import measure
from zhen.data.terms import STOP_WORDS
from zhen.data.words import code_points, sentences, words

GROUPS = {
    "Gopher repetition": ("duplicate-", "duplicated-", "top-"),
    "Gopher quality": (
        *("words", "greatest-words", "least-word", "greatest-word", "hashes", "ellipses", "bullet", "ellipsis", "stop"),
    ),
    "C4": ("c4-banned", "c4-sentences"),
    "FineWeb": ("ended-lines", "short-lines", "line-ends", "duplicate-line-characters"),
}
"""datatrove's filters, and how the names of our rules for each begin."""

PRESETS = {
    "en": {
        "Gopher repetition": RulesSettings(preset="gopher"),
        "Gopher quality": RulesSettings(preset="gopher"),
        "C4": RulesSettings(preset="c4"),
        "FineWeb": RulesSettings(preset="fineweb-en"),
    },
    "zh": dict.fromkeys(("Gopher repetition", "Gopher quality", "FineWeb"), RulesSettings(preset="fineweb2-zh")),
}

LIMIT = 3_000
"""Documents of a language that decisions are compared on, evenly drawn."""

SPEED_CHARACTERS = 1_500_000
"""Of each language, for datatrove's own speed."""


def documents(folder: Path, lang: str) -> list[str]:
    """Every text of a language, cleaned as the pass `data.scan` does."""
    texts = [text for each in of_language(folder, lang) if (text := clean(each)[0].strip())]
    return [texts[round(place)] for place in np.linspace(0, len(texts) - 1, min(LIMIT, len(texts)))]


def theirs(lang: str) -> dict[str, Any]:
    """datatrove's filters with the thresholds of the preset."""
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    if lang == "en":
        return {
            "Gopher repetition": GopherRepetitionFilter(),
            "Gopher quality": GopherQualityFilter(),
            "C4": C4QualityFilter(),
            "FineWeb": FineWebQualityFilter(),
        }
    duplicated = tuple(zip(range(5, 11), (0.198, 0.182, 0.167, 0.154, 0.140, 0.127), strict=True))
    return {
        "Gopher repetition": GopherRepetitionFilter(
            dup_line_frac=0.287,
            dup_line_char_frac=0.1,
            dup_para_frac=None,
            dup_para_char_frac=None,
            top_n_grams=((2, 0.256), (3, 0.201), (4, 0.171)),
            dup_n_grams=duplicated,
            language="zh",
        ),
        "Gopher quality": GopherQualityFilter(
            min_avg_word_length=None,
            max_avg_word_length=None,
            max_non_alpha_words_ratio=0.735,
            stop_words=STOP_WORDS["zh"].split(),
            language="zh",
        ),
        "FineWeb": FineWebQualityFilter(
            line_punct_thr=0.106, short_line_thr=999, char_duplicates_ratio=0.1, new_line_ratio=0.178, language="zh"
        ),
    }


def with_our_words(split: Callable[[str], Sequence[str]]) -> Callable[[], None]:
    """Give datatrove's filters our words and sentences; the answer takes them back."""
    from datatrove.pipeline.filters import (
        c4_filters,
        fineweb_quality_filter,
        gopher_quality_filter,
        gopher_repetition_filter,
    )

    changed = [
        (module, "split_into_words", module.split_into_words)
        for module in (gopher_repetition_filter, gopher_quality_filter, fineweb_quality_filter)
    ] + [(c4_filters, "split_into_sentences", c4_filters.split_into_sentences)]
    for module, name, _ in changed:
        own = (lambda text, _: split(text)) if name == "split_into_words" else (lambda text, _: range(sentences(text)))
        setattr(module, name, own)

    def restore() -> None:
        for module, name, original in changed:
            setattr(module, name, original)

    return restore


def our_verdicts(texts: Sequence[str], lang: str) -> dict[str, list[str | None]]:
    """datatrove's filter -> the first of our rules that removes each text, or None."""
    columns: dict[str, Any] = {"lang": np.full(len(texts), lang), **measure(*code_points(texts))}
    found = {}
    for group, settings in PRESETS[lang].items():
        first: list[str | None] = [None] * len(texts)
        for rule in RULES:
            if rule.name.startswith(GROUPS[group]) and rule.thresholds(settings.preset):
                kept, _ = rule.verdict(columns, settings)
                for row in np.flatnonzero(~kept):
                    first[row] = first[row] or rule.name
        found[group] = first
    return found


def their_verdicts(texts: Sequence[str], lang: str) -> dict[str, list[str | None]]:
    """datatrove's filter -> its reason to remove each text, or None."""
    from datatrove.data import Document

    found = {}
    for group, each in theirs(lang).items():
        answers = [each.filter(Document(text=text, id="")) for text in texts]
        found[group] = [None if answer is True else answer[1] for answer in answers]
    return found


def compare(texts: Sequence[str], lang: str) -> list[list[str]]:
    """A row for each filter: documents, removed by each, the same decision, what the differences are."""
    split = {text: words(text) for text in texts}
    restore = with_our_words(lambda text: split.get(text) or words(text))
    try:
        reference = their_verdicts(texts, lang)
    finally:
        restore()
    rows = []
    for group, own in our_verdicts(texts, lang).items():
        pairs = list(zip(own, reference[group], strict=True))
        same = sum((mine is None) == (other is None) for mine, other in pairs)
        apart = Counter(f"{mine}/{other}" for mine, other in pairs if (mine is None) != (other is None))
        removed = [sum(side is not None for side in sides) for sides in zip(*pairs, strict=True)]
        shown = ", ".join(f"{count} {pair}" for pair, count in apart.most_common(3))
        rows.append(
            [lang, group, f"{len(texts):,}", f"{removed[0]:,}", f"{removed[1]:,}", f"{same / len(texts):.2%}", shown]
        )
    return rows


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def speed(texts: Sequence[str], lang: str) -> list[str]:
    """Documents per second and core: ours, and datatrove's as shipped, on the same documents."""
    part, size = [], 0
    for text in texts[:: max(1, len(texts) // 400)]:
        if size < SPEED_CHARACTERS:
            part.append(text)
            size += len(text)
    their_verdicts(part[:3], lang)
    our_verdicts(part[:3], lang)
    own = min(seconds(lambda: our_verdicts(part, lang)) for _ in range(3))
    other = seconds(lambda: their_verdicts(part, lang))
    mean = size // len(part)
    return [lang, f"{mean:,}", f"{len(part) / own:,.0f}", f"{len(part) / other:,.0f}", f"{other / own:.0f}x"]


def main() -> None:
    """Print the three tables."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2] / "shared/data/text")
    texts = {lang: documents(folder, lang) for lang in ("en", "zh")}
    rows = [row for lang in texts for row in compare(texts[lang], lang)]
    out.print(table(["lang", "filter", "documents", "removed", "theirs", "same", "differences"], rows))
    rates = [speed(texts[lang], lang) for lang in texts]
    out.print(table(["lang", "characters", "documents/s/core", "datatrove 0.10", "ratio"], rates))
    out.print(near_table(folder))


if __name__ == "__main__":
    main()
