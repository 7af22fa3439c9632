"""Bytes to characters, cleaning, and the extractors in their process."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhen.data.gate import clean, decode
from zhen.data.sandbox import Extractor

TELLS = {"utf-8", "utf-8-sig", "Big5", "GB2312", "KOI8-R", "SHIFT_JIS", "UTF-16", "UTF-32", "windows-1251-russian"}
CODECS = {"Big5": "big5hkscs", "GB2312": "gb18030", "windows-1251-russian": "cp1251", "SHIFT_JIS": "cp932"}
UNHEARD = {"UTF-16BE", "UTF-16LE", "UTF-32BE", "UTF-32LE"}


def test_real_files_are_decoded_as_their_folder_says(shared_data: Path) -> None:
    for folder in sorted((shared_data / "dirty" / "encodings").iterdir()):
        for path in sorted(folder.iterdir()):
            data = path.read_bytes()
            if folder.name in TELLS:
                expected = data.decode(CODECS.get(folder.name, folder.name), "replace").lstrip("\ufeff")
                assert decode(data, None)[0] == expected, path


def test_text_that_no_encoding_fits_is_refused(shared_data: Path) -> None:
    for name in UNHEARD:
        for path in (shared_data / "dirty" / "encodings" / name).iterdir():
            assert decode(path.read_bytes(), None) is None, path
    assert decode(bytes(range(256)) * 20, None) is None


def test_a_wrong_charset_label_does_not_win(shared_data: Path) -> None:
    folder = shared_data / "dirty" / "reencoded-pages"
    for entry in json.loads((folder / "manifest.json").read_text()):
        data = (folder / entry["file"]).read_bytes()
        assert decode(data, "utf-8") == (data.decode("gb18030"), "gb18030")


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cn", "Co"]), min_size=1))
def test_valid_utf8_is_utf8(text: str) -> None:
    found = decode(text.encode("utf-8"), "gb18030")
    if not text.startswith("\ufeff") and "\ufffd" not in text:
        assert found == (text, "utf-8")


@given(st.text())
def test_cleaning_is_done_once_and_for_all(text: str) -> None:
    cleaned, _ = clean(text)
    assert clean(cleaned)[0] == cleaned
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not set(cleaned) & {"\r", "\0", "\x1b", "\ufeff", "\u2028"}
    cleaned.encode("utf-8")


def test_full_width_punctuation_stays() -> None:
    assert clean("你好，世界！（１２）\r\n\r\n\r\n\r\n再见  ") == ("你好，世界！（１２）\n\n再见", False)
    assert clean("Cafe\u0301") == ("Café", True)


@pytest.fixture
def extractor() -> Extractor:
    made = Extractor()
    yield made
    made.close()


@pytest.mark.parametrize("language", ["english", "chinese"])
def test_a_page_gives_its_paragraphs(extractor: Extractor, data_run: ModuleType, language: str) -> None:
    text = getattr(data_run, language)("x")
    html = data_run.page(text).decode()
    for found in (extractor.quick(html, 10), extractor.good(10)):
        assert [line for line in found.split("\n") if line.strip()][-4:] == text.split("\n")


def test_a_page_that_takes_too_long_costs_itself_alone(extractor: Extractor, data_run: ModuleType) -> None:
    endless = "<div>" * 200 + "<p>word <b>and</b> word</p>" * 200_000
    assert extractor.quick(endless, 0.05) is None
    assert extractor.good(10) is None
    assert "known for its bread" in extractor.quick(data_run.page(data_run.english("x")).decode(), 10)


def test_real_pages_hold_the_segments_that_people_marked(extractor: Extractor, shared_data: Path) -> None:
    import pyarrow.parquet as pq

    found = wanted = 0
    for row in pq.read_table(shared_data / "web" / "chinese-news-pages.parquet").to_pylist():
        segments = ["".join(segment.split()) for segment in row["with"] or []]
        quick = extractor.quick(row["html"].decode("utf-8", "replace"), 10)
        text = "".join((extractor.good(10) or quick or "").split())
        wanted += len(segments)
        found += sum(segment in text for segment in segments)
    assert found >= 0.8 * wanted
