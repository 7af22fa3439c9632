"""Near-duplicates against exact Jaccard similarities of shingle sets, and clusters against a plain search."""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from zhen.data.minhash import BANDS, COLUMNS, ROWS, SKETCH, measure
from zhen.data.near import LEADERS, PAIRWISE, Clusters, Part, near_duplicates

WORDS = {
    "en": ["".join(random.Random(seed).choices("abcdefghijklmnoprstuvwy", k=3 + seed % 6)) for seed in range(4000)],
    "zh": [chr(code) for code in range(0x4E00, 0x4E00 + 3000)],
}
Compare = Callable[..., Clusters]


def shingles(text: str) -> set[tuple[str, ...]]:
    """The oracle: lower case, no punctuation, each Han character a word, five words a shingle."""
    words = re.findall(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff_]+", text.lower())
    return {tuple(words[at : at + 5]) for at in range(max(1, len(words) - 4))}


def jaccard(one: str, two: str) -> float:
    a, b = shingles(one), shingles(two)
    return len(a & b) / len(a | b)


def write_text(lang: str, words: Sequence[str]) -> str:
    marks = random.Random(len(words))
    separators = [
        marks.choice([" ", " ", " ", ", ", ". ", "\n"] if lang == "en" else ["", "", "", "，", "。\n"]) for _ in words
    ]
    return "".join(word + separator for word, separator in zip(words, separators, strict=True))


def planted(lang: str, length: int, changed: int, rng: random.Random) -> tuple[str, str]:
    """A text of `length` words and a copy in which `changed` of them are others."""
    words = rng.choices(WORDS[lang], k=length)
    copy = list(words)
    for at in rng.sample(range(length), changed):
        copy[at] = rng.choice(WORDS[lang])
    return write_text(lang, words), write_text(lang, copy).upper()


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    """The clusters among texts; `split`: how many of them are in the first of two units."""

    def found(texts: Sequence[str], threshold: float = 0.7, split: int | None = None) -> Clusters:
        cuts = [0, len(texts) if split is None else split, len(texts)]
        parts = []
        for unit in range(2):
            path = tmp_path / f"{unit}.parquet"
            columns = measure(texts[cuts[unit] : cuts[unit + 1]])
            pq.write_table(pa.table(dict(zip([name for name, _ in COLUMNS], columns, strict=True))), path)
            parts.append(Part(path, unit, np.arange(cuts[unit + 1] - cuts[unit])))
        return near_duplicates(parts, threshold, None)

    return found


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_near_copies_are_found_by_their_exact_similarity(lang: str, compare: Compare) -> None:
    rng = random.Random(5)
    pairs = []
    for _ in range(1500):
        length = int(10 ** rng.uniform(1.6, 3.2))
        pairs.append(planted(lang, length, max(1, int(length * rng.uniform(0.0, 0.09))), rng))
    exact = np.array([jaccard(*pair) for pair in pairs])
    merged = np.diff(compare([text for pair in pairs for text in pair]).first.reshape(-1, 2))[:, 0] == 0
    for low in (0.8, 0.85, 0.9, 0.95):
        bin_ = (exact >= low) & (exact < low + 0.05)
        assert bin_.sum() > 50
        assert merged[bin_].mean() >= 0.98
    assert (exact[merged] >= 0.65).mean() >= 0.99
    assert not merged[exact < 0.55].any()


def test_documents_that_fit_a_sketch_are_compared_exactly(compare: Compare) -> None:
    rng = random.Random(6)
    pairs = [planted(lang, 60 + index, 2 + index % 5, rng) for index in range(60) for lang in ("en", "zh")]
    found = compare([text for pair in pairs for text in pair])
    merged = found.first[1::2] == found.first[::2]
    exact = np.array([jaccard(*pair) for pair in pairs])
    assert merged.tolist() == (exact >= 0.7).tolist()
    assert 0 < merged.sum() < len(pairs)
    assert found.similarity[1::2][merged] == pytest.approx(exact[merged])


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("changed", [10, 19, 30])
def test_bands_are_shared_as_often_as_the_curve_says(lang: str, changed: int) -> None:
    rng = random.Random(changed)
    pairs = [planted(lang, 200, changed, rng) for _ in range(600)]
    expected = np.array([1 - (1 - jaccard(*pair) ** ROWS) ** BANDS for pair in pairs])
    bands = measure([text for pair in pairs for text in pair])[0].flatten().to_numpy().reshape(-1, 2, BANDS)
    shared = (bands[:, 0] == bands[:, 1]).any(axis=1)
    deviation = np.sqrt((expected * (1 - expected)).sum())
    assert abs(shared.sum() - expected.sum()) < 4 * deviation


def test_estimates_of_long_documents_are_within_their_error() -> None:
    rng = random.Random(8)
    pairs = [planted("en", 3000, 75, rng) for _ in range(150)]
    exact = np.array([jaccard(*pair) for pair in pairs])
    sketches = [set(row) for row in measure([text for pair in pairs for text in pair])[1].to_pylist()]
    least = [sorted(one | two)[:SKETCH] for one, two in zip(sketches[::2], sketches[1::2], strict=True)]
    both = [one & two for one, two in zip(sketches[::2], sketches[1::2], strict=True)]
    errors = np.array([len(shared.intersection(low)) / SKETCH for low, shared in zip(least, both, strict=True)]) - exact
    assert abs(errors.mean()) < 4 * 0.03 / np.sqrt(len(pairs))
    assert errors.std() == pytest.approx(np.sqrt(exact.mean() * (1 - exact.mean()) / SKETCH), rel=0.25)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=6, max_size=14).map(" ".join), min_size=1, max_size=14))
def test_clusters_are_the_components_of_near_pairs(texts: list[str]) -> None:
    bands = measure(texts)[0].to_pylist()
    near = {
        (one, two)
        for one, two in combinations(range(len(texts)), 2)
        if set(bands[one]) & set(bands[two]) and jaccard(texts[one], texts[two]) >= 0.7
    }
    first = list(range(len(texts)))
    for _ in texts:
        for one, two in near:
            first[one] = first[two] = min(first[one], first[two])
    assert _clusters(texts) == first


def _clusters(texts: list[str]) -> list[int]:
    table = pa.table(dict(zip([name for name, _ in COLUMNS], measure(texts), strict=True)))
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    found = near_duplicates([Part(pa.BufferReader(buffer.getvalue()), 0, np.arange(len(texts)))], 0.7, None)
    return found.first.astype(int).tolist()


def test_many_alike_leave_one_and_are_counted(compare: Compare) -> None:
    rng = random.Random(9)
    words = rng.choices(WORDS["en"], k=120)
    alike = [write_text("en", [*words, f"number{index}"]) for index in range(PAIRWISE + LEADERS)]
    others = [write_text("en", rng.choices(WORDS["en"], k=120)) for _ in range(20)]
    found = compare([others[0], *alike, *others[1:]], split=40)
    rows = found.first & np.uint64(0xFFFF_FFFF)
    assert np.unique(found.first).size == 1 + len(others)
    assert rows[1 : 1 + len(alike)].tolist() == [1] * len(alike)
    assert len(alike) - 5 <= found.largest_band <= len(alike)


def test_texts_without_words_are_alone(compare: Compare) -> None:
    found = compare(["!!! ???", "...", "", "same words here", "same words here", "……"])
    assert (found.places.tolist(), found.first.tolist()) == ([3, 4], [3, 3])


def test_han_characters_and_words_are_told_apart() -> None:
    def sketch(text: str) -> list[int]:
        return measure([text])[1].to_pylist()[0]

    assert len(sketch("今天天气很好")) == 2
    assert len(sketch("one two three four five six")) == 2
    assert len(sketch("用Python写代码很快")) == 3
    assert sketch("用 python，写 代码。很快") == sketch("用Python写代码很快")
    assert sketch("One, two!  THREE\nfour") == sketch("one two three four")
    assert sketch("onetwo three four") != sketch("one two three four")


def test_real_versions_of_documents_are_found(shared_data: Path, compare: Compare) -> None:
    path = shared_data / "dirty" / "near-duplicates.jsonl.zst"
    with zstandard.ZstdDecompressor().stream_reader(path.open("rb"), closefd=True) as stream:
        pairs = [json.loads(line) for line in io.TextIOWrapper(stream, encoding="utf-8")]
    found = compare([text for pair in pairs for text in (pair["text_a"], pair["text_b"])])
    merged = found.first[::2] == found.first[1::2]
    similarity = np.array([float(pair["jaccard_char5"]) for pair in pairs])
    assert merged[similarity >= 0.8].mean() >= 0.98
    assert not merged[similarity < 0.6].any()
