"""Paragraphs: which lines count, in how many documents they are, and what is left of a text."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from zhen.data.minhash import COLUMNS, PARAGRAPH, measure, paragraph_hashes
from zhen.data.near import Part
from zhen.data.paragraphs import read_lines, repeated_paragraphs, to_leave_out, without_paragraphs

LONG = [f"Paragraph number {name} is long enough to be compared with the others." for name in ("one", "two", "three")]
SHORT = "A short line."
CHINESE = "这个网站在您的电脑上留下一个小文件，这样您再来的时候，它就认得您了。"


def test_lines_are_compared_from_a_width_on() -> None:
    han = "很" * (PARAGRAPH // 2 - 1)
    lines = ["x" * (PARAGRAPH - 1), "x" * PARAGRAPH, han, f"{han}。", "", "…" * 99]
    assert [value is not None for value in paragraph_hashes(lines)] == [False, True, False, True, False, False]


def test_case_punctuation_and_blanks_make_no_difference() -> None:
    one, two, three = paragraph_hashes([LONG[0], LONG[0].upper().replace(" ", "  ") + "!!", LONG[1]])
    assert one == two != three


@given(st.lists(st.sampled_from([*LONG, SHORT, CHINESE, ""]), max_size=8))
def test_a_text_has_the_paragraphs_of_its_lines(lines: list[str]) -> None:
    _, _, hashes, characters = (column.to_pylist()[0] for column in measure(["\n".join(lines)]))
    assert hashes == [value for value in paragraph_hashes(lines) if value is not None]
    assert characters == [len(line) for line in lines if line in (*LONG, CHINESE)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from([*LONG, SHORT, CHINESE]), max_size=5), min_size=1, max_size=8), st.data())
def test_all_but_the_first_of_many_documents_lose_a_paragraph(texts: list[list[str]], data: st.DataObject) -> None:
    most = data.draw(st.integers(1, 4))
    column = measure(["\n".join(lines) for lines in texts])
    target = pa.BufferOutputStream()
    pq.write_table(pa.table(dict(zip([name for name, _ in COLUMNS], column, strict=True))), target)
    part = Part(pa.BufferReader(target.getvalue()), 3, np.arange(len(texts)))
    lines = read_lines(part)
    out = to_leave_out(part, lines, repeated_paragraphs([part], most, None))
    counts = Counter(line for text in texts for line in set(text) if line != SHORT)
    flat = [(row, line) for row, text in enumerate(texts) for line in text if line != SHORT]
    first = {line: row for row, line in reversed(flat)}
    assert out.tolist() == [counts[line] > most and first[line] != row for row, line in flat]


def test_rows_that_are_gone_count_no_more(tmp_path: Path) -> None:
    column = measure([LONG[0], LONG[0], "\n".join(LONG), LONG[1]])
    pq.write_table(pa.table(dict(zip([name for name, _ in COLUMNS], column, strict=True))), tmp_path / "a")
    part = Part(tmp_path / "a", 0, np.array([1, 2, 3]))
    repeated = repeated_paragraphs([part], 1, None)
    assert sorted(repeated.hashes.tolist()) == sorted(paragraph_hashes(LONG[:2]))
    assert sorted(repeated.first.tolist()) == [1, 2]


def test_what_is_left_has_no_gaps() -> None:
    (hash_,) = paragraph_hashes([LONG[1]])
    assert without_paragraphs(f"{LONG[0]}\n\n{LONG[1]}\n\n{SHORT}\n{LONG[1]}", [hash_]) == f"{LONG[0]}\n\n{SHORT}"
    assert without_paragraphs(f"{LONG[1]}\n\n{SHORT}", [hash_]) == SHORT
