"""Bytes to characters, cleaning, and the extractors in their process."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import data_run
import msgspec
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from zhen.data import sandbox
from zhen.data.gate import clean, decode, why_not
from zhen.data.sandbox import Extractor
from zhen.data.scan import ScanJob, scan_unit
from zhen.data.settings import ExtractSettings, Source
from zhen.data.units import Part, Unit

CODECS = {"GB2312": "gb18030", "EUC-KR": "cp949", "windows-1251-russian": "cp1251", "SHIFT_JIS": "cp932"}
"""Python's codec for a folder, where its strict one has not all characters of the files."""

TEXTS = {
    "en": """The café on the corner opens at seven, and the people of the town drink their coffee there.
        “Nobody knows,” she said, “how long the naïve old man will keep walking to the river every morning.”
        Prices rose by £2 – or €3 – last year; the façade has been repaired since then, piece by piece.
        We have read the whole résumé twice, and we still don’t know what it says about the years before 1990.""",
    "zh-Hans": """老城里的面包师因为面包而出名，山里的人每天早上都到这里来买。
        冬天河水结冰，孩子们从冰上走到对岸的学校去，老师在门口等着他们。
        没有人记得这座桥是什么时候建成的，但是大家都说它已经有三百多年的历史了。
        他打开窗户，看见远处的火车正慢慢地开过平原，于是想起了自己的家乡。
        研究人员认为，气温的变化与海洋表面的温度有关，这个问题还需要进一步观察。
        第二天，我们一起去了市场，买了苹果、土豆、豆腐，还有两斤新鲜的鱼。""",
    "zh-Hant": """老城裡的麵包師因為麵包而出名，山裡的人每天早上都到這裡來買。
        冬天河水結冰，孩子們從冰上走到對岸的學校去，老師在門口等著他們。
        沒有人記得這座橋是什麼時候建成的，但是大家都說它已經有三百多年的歷史了。
        他打開窗戶，看見遠處的火車正慢慢地開過平原，於是想起了自己的家鄉。
        研究人員認為，氣溫的變化與海洋表面的溫度有關，這個問題還需要進一步觀察。
        第二天，我們一起去了市場，買了蘋果、馬鈴薯、豆腐，還有兩斤新鮮的魚。""",
    "ja": """町のパン屋はおいしいパンで知られていて、毎朝たくさんの人が買いに来ます。
        冬になると川が凍って、子どもたちは氷の上を歩いて向こう岸の学校へ通います。
        この橋がいつ建てられたのかは誰も覚えていませんが、三百年以上前だと言われています。
        窓を開けると、遠くの平野をゆっくり走る電車が見えて、彼は故郷を思い出した。
        研究者によると、気温の変化は海の表面の温度と関係があり、さらに観察が必要だという。
        次の日、私たちは市場へ行って、りんごとジャガイモと新しい魚を買いました。""",
    "ko": """마을의 빵집은 맛있는 빵으로 유명해서 아침마다 많은 사람들이 빵을 사러 온다.
        겨울이 되면 강이 얼고, 아이들은 얼음 위를 걸어서 건너편에 있는 학교에 간다.
        이 다리가 언제 세워졌는지 아무도 기억하지 못하지만 삼백 년이 넘었다고 한다.
        창문을 열자 멀리 들판을 천천히 지나가는 기차가 보였고 그는 고향을 생각했다.
        연구자들은 기온의 변화가 바다 표면의 온도와 관계가 있으며 더 관찰해야 한다고 말했다.
        다음 날 우리는 시장에 가서 사과와 감자와 신선한 생선을 샀습니다.""",
}
WIDE = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
NARROW = {
    "en": ("cp1252",),
    "zh-Hans": ("gb18030", "gbk", "gb2312"),
    "zh-Hant": ("big5", "big5hkscs", "gb18030"),
    "ja": ("shift_jis", "cp932", "euc_jp"),
    "ko": ("euc_kr", "cp949"),
}
LABELS = (
    None,
    "utf-8",
    "gb2312",
    "big5",
    "euc-kr",
    "shift_jis",
    "euc-jp",
    "iso-8859-1",
    "koi8-r",
    "utf-16",
    "nonsense",
)


@pytest.mark.parametrize("lang", TEXTS)
@given(st.data(), st.sampled_from(LABELS), st.sampled_from(["", "<meta charset=%s>\n"]))
@settings(max_examples=120, deadline=None)
def test_text_comes_back_whatever_its_label_says(lang: str, data: st.DataObject, label: str, head: str) -> None:
    lines = data.draw(st.permutations([line.strip() for line in TEXTS[lang].splitlines()]))
    text = "\n".join(lines)[data.draw(st.integers(0, 15)) :]
    if lang == "en":
        text += "\n" + text.swapcase()
    encoding = data.draw(st.sampled_from((*WIDE, *NARROW[lang])))
    text = (head % label if head else "") + text.encode(encoding, "ignore").decode(encoding)
    assert len(text) >= 180
    found = decode(text.encode(encoding), label)
    assert found is not None
    assert found[0] == text


@pytest.mark.parametrize("n", [0, 1])
def test_real_prose_comes_back_from_every_encoding_it_fits(shared_data: Path, n: int) -> None:
    file, encodings = (("wikipedia-cmrc", ("gb18030", "utf-16-le")), ("wikipedia-drcd", ("big5hkscs", "utf-16-be")))[n]
    with zstandard.open(shared_data / f"text/zh/{file}.jsonl.zst", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"][:200] for line in lines]
    for text in texts:
        for encoding in encodings:
            whole = text.encode(encoding, "ignore").decode(encoding)
            if len(whole) == 200:
                assert decode(whole.encode(encoding), "utf-8")[0] == whole


def test_real_files_are_decoded_as_their_folder_says(shared_data: Path) -> None:
    for folder in sorted((shared_data / "dirty" / "encodings").iterdir()):
        for path in sorted(folder.iterdir()):
            data = path.read_bytes()
            if folder.name != "EUC-TW":
                expected = data.decode(CODECS.get(folder.name, folder.name), "replace").lstrip("\ufeff")
                assert decode(data, None)[0] == expected, path


def test_text_that_no_encoding_fits_is_refused(shared_data: Path) -> None:
    for path in (shared_data / "dirty" / "encodings" / "EUC-TW").iterdir():
        for label in LABELS:
            assert decode(path.read_bytes(), label) is None
        assert "EUC-TW, which is not read" in why_not(path.read_bytes())
    assert decode(bytes(range(256)) * 20, None) is None
    assert why_not(bytes(range(256)) * 20) == "in no encoding that fits it"


def test_a_few_damaged_bytes_do_not_change_the_encoding() -> None:
    damaged = TEXTS["zh-Hans"].encode().replace("河".encode(), b"\xe6\xb2")
    assert decode(damaged, "gb2312") == (TEXTS["zh-Hans"].replace("河", "\ufffd"), "utf-8")


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
def test_a_page_gives_its_paragraphs(extractor: Extractor, language: str) -> None:
    text = getattr(data_run, language)("x")
    html = data_run.page(text).decode()
    for found in (extractor.quick(html, 10), extractor.good(html, 10)):
        assert [line for line in found.split("\n") if line.strip()][-4:] == text.split("\n")


def test_an_empty_page_has_no_text(extractor: Extractor) -> None:
    assert extractor.good(data_run.page(data_run.english("x")).decode(), 10)
    assert extractor.good("", 10) == extractor.quick("", 10) == ""


@pytest.mark.parametrize(("languages", "first"), [(None, "trafilatura"), (("zh",), "resiliparse")])
def test_only_pages_in_the_languages_listed_get_the_good_extractor(
    tmp_path: Path, languages: tuple[str, ...] | None, first: str
) -> None:
    for name in ("documents", "signals", "units"):
        (tmp_path / name).mkdir()
    parts = [Part(0, f"{name}.html", str(tmp_path / f"{name}.html"), 9) for name in ("en", "zh")]
    for part, text in zip(parts, (data_run.english("x"), data_run.chinese("x")), strict=True):
        Path(part.location).write_bytes(data_run.page(text))
    source = Source(name="pages", path=str(tmp_path))
    job = ScanJob(Unit(0, parts), (source,), str(tmp_path), ExtractSettings(languages=languages), [])
    answer = json.loads(scan_unit(msgspec.json.encode(job).decode()))
    documents = pq.read_table(tmp_path / answer["temporary"]["documents/unit-00000.parquet"])
    assert [json.loads(meta)["extractor"] for meta in documents["meta"].to_pylist()] == [first, "trafilatura"]
    sandbox.extractor().close()


def test_a_page_that_takes_too_long_costs_itself_alone(extractor: Extractor) -> None:
    endless = "<div>" * 200 + "<p>word <b>and</b> word</p>" * 200_000
    assert extractor.quick(endless, 0.05) is None
    assert extractor.good(endless, 0.05) is None
    assert "known for its bread" in extractor.quick(data_run.page(data_run.english("x")).decode(), 10)


def test_real_pages_hold_the_segments_that_people_marked(extractor: Extractor, shared_data: Path) -> None:
    found = wanted = 0
    for row in pq.read_table(shared_data / "web" / "chinese-news-pages.parquet").to_pylist():
        segments = ["".join(segment.split()) for segment in row["with"] or []]
        text = "".join((extractor.good(row["html"].decode("utf-8", "replace"), 10) or "").split())
        wanted += len(segments)
        found += sum(segment in text for segment in segments)
    assert found >= 0.8 * wanted
