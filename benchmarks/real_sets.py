"""Extraction, decoding, languages and junk on real sets with known answers, printed as Markdown.

`python benchmarks/real_sets.py FOLDER`: FOLDER holds `web/`, `dirty/` and `text/` (`../shared/data`). Pages go
through `scan_unit`, the pass that `data.scan` makes; trafilatura alone is given the same bytes.
"""

from __future__ import annotations

import hashlib
import html
import json
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import trafilatura

from corpora import stored
from zhen.data.gate import clean, decode
from zhen.data.language import character_counts, identify
from zhen.data.rules import RULES
from zhen.data.scan import ScanJob, scan_unit
from zhen.data.settings import Columns, ExtractSettings, RulesSettings, Source
from zhen.data.signals import Batch
from zhen.data.units import Part, Unit

SEED = 20231
COUNT = 300
"""Documents, and pieces, of a row of the confusion matrix; documents fewer where there are fewer."""

CODECS = {"windows-1251-russian": "cp1251", "GB2312": "gb18030", "EUC-KR": "cp949", "SHIFT_JIS": "cp932"}
"""Python's codec for a folder: where its strict one has not all characters of the files, the wider one."""

ENCODED = {
    "ja": ("SHIFT_JIS",),
    "ko": ("EUC-KR",),
    "ru": ("KOI8-R", "windows-1251-russian"),
    "zh-Hant (Big5)": ("Big5",),
}
TEXTS = {
    "zh-Hans": ("zh/laws", "zh/wikipedia-cmrc"),
    "zh-Hant": ("zh/wikipedia-drcd",),
    "en": ("en/brown", "en/c4-demo", "en/state-of-the-union", "en/wikipedia-demo"),
}
JUNK = {
    "chinese-web-text-sample: names a gambling site": """
        38a67a36a883 3df857116405 453b086a467e 4aaa019353ff 584ca433cc18 74872c325cfa 8372629fbbe2
        ef5878fbb7a9
    """,
    "chinese-web-text-sample: other junk": """
        227ff7601eea 64af9c21acc6 9425b735e861 95eb67d7743a b3489956c55b eca1a0cda6dc
    """,
    "c4-demo: gambling, dating, pills": """
        4479461b3e2d 484e61a59ac2 b019adbd0c39 e64f28c95128
    """,
    "c4-demo: other junk": """
        12fabda914db 18901b9996b5 29cbc38bb701 3347fb86694d 67c07f6cfe2a 85fd7e4a91b3 a31c8cfd1df4
        a700c4abafad aae1ad6525d1 b5c242d2ece0 d16226d95cf9 e8db266f2bec edc59bc51a5c f40308df2e66
        fb79a501fbe8 fd5956bd1f03
    """,
}
"""SHA-256 (12 digits) of documents that are junk, as read: pages that sell, texts shuffled or spun around a trade's
names, scraps and lists of keywords. Advertisements and dull pages are none."""
PROSE = {
    "Chinese prose": """zh/laws zh/wikipedia-cmrc zh/wikipedia-drcd zh/classics zh/classics-modern-translation zh/poetry
        zh/cncf-glossary""",
    "English prose": """en/brown en/wikipedia-demo en/wikitext2-valid en/moby-dick-or-the-whale en/sherlock-holmes
        en/state-of-the-union en/openstax-us-history en/peps en/cncf-glossary""",
    "Chinese manuals": "zh/kubernetes zh/react zh/d2l zh/rust-book zh/tidb",
    "English manuals": "en/kubernetes en/react en/d2l en/rust-book en/eips",
}
FINDERS = ("spam-words", "lures", "bare-lines")
"""Rules that look for junk."""

LABELLED = ("de", "en", "es", "fr", "pl")  # by the `lang` attribute of pages of trafilatura's set

_GAMBLING = re.compile(r"赌|賭|博彩|彩票|\b(?:casino|gambl|lotter|betting|poker)", re.IGNORECASE)
_LANG = re.compile(rb"<html[^>]*?\slang\s*=\s*[\"']?([A-Za-z]{2})", re.IGNORECASE)
_LABEL = re.compile(r"(?:charset|encoding)\s*=\s*[\"']?\s*[\w.:-]+[\"']?", re.IGNORECASE)
_TAGS = re.compile(r"<(script|style)\b.*?</\1>|<!\[CDATA\[|\]\]>|<[^<>]*>", re.DOTALL | re.IGNORECASE)

Texts = dict[str, str]


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table."""
    print("\n| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")


def scanned(path: Path) -> Texts:
    """Each page's text by its id, through the pass of `data.scan`; pages that were lost are not in it."""
    source = Source(name="pages", path=str(path), columns=Columns(html="html", url="id"))
    unit = Unit(0, [Part(0, path.name, str(path), path.stat().st_size)])
    with tempfile.TemporaryDirectory() as folder:
        for name in ("documents", "signals", "units"):
            (Path(folder) / name).mkdir()
        job = ScanJob(unit, (source,), folder, ExtractSettings(), [])
        answer = json.loads(scan_unit(msgspec.json.encode(job).decode()))
        documents = pq.read_table(Path(folder) / answer["temporary"]["documents/unit-00000.parquet"])
    return dict(zip(documents["url"].to_pylist(), documents["text"].to_pylist(), strict=True))


def alone(pages: Sequence[Mapping[str, Any]]) -> Texts:
    """Each page's text by its id, by trafilatura as it comes, from the same bytes."""
    return {page["id"]: trafilatura.extract(page["html"], fast=True, include_comments=False) or "" for page in pages}


def shingles(text: str) -> Counter[tuple[str, ...]]:
    """Word 4-grams and how often each occurs (the measure of the article-extraction benchmark)."""
    words = re.findall(r"\w+", text)
    return Counter(tuple(words[at : at + 4]) for at in range(max(len(words) - 3, min(len(words), 1))))


def shingle_scores(pages: Sequence[Mapping[str, Any]], texts: Texts) -> tuple[float, float, float]:
    """F1, precision and recall of the 4-grams: precision and recall are means over pages, F1 is of these two."""
    precision, recall = [], []
    for page in pages:
        truth, found = shingles(page["article_body"] or ""), shingles(texts.get(page["id"], ""))
        shared = (truth & found).total()
        precision.append(shared / found.total() if found else 0.0 if truth else 1.0)
        recall.append(shared / truth.total() if truth else 1.0)
    one, other = sum(precision) / len(pages), sum(recall) / len(pages)
    return 2 * one * other / (one + other), one, other


def segment_scores(pages: Sequence[Mapping[str, Any]], texts: Texts, space: str) -> list[str]:
    """Of the segments that must be there those found, of those that must not those absent."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for page in pages:
        text = re.sub(r"\s+", space, texts.get(page["id"], ""))
        for key in ("with", "without"):
            for segment in page[key] or ():
                present = re.sub(r"\s+", space, segment).strip() in text
                total[key] += 1
                right[key] += present == (key == "with")
    return [f"{right[key]:,}/{total[key]:,} ({right[key] / total[key]:.1%})" for key in ("with", "without")]


def extraction(web: Path) -> None:
    """Two tables: shingles against whole articles, segments."""
    rows: list[list[object]] = []
    for name in ("article-extraction-benchmark", "news-articles-2023"):
        path = web / f"{name}.parquet"
        pages = pq.read_table(path).to_pylist()
        for who, texts in (("zhen", scanned(path)), ("trafilatura alone", alone(pages))):
            scores = (f"{score:.3f}" for score in shingle_scores(pages, texts))
            rows.append([name, who, len(pages), sum(not texts.get(page["id"]) for page in pages), *scores])
    markdown(["set", "extraction", "pages", "without text", "F1", "precision", "recall"], rows)
    rows = []
    for name, space in (("trafilatura-eval", " "), ("chinese-news-pages", "")):
        path = web / f"{name}.parquet"
        everything = pq.read_table(path).to_pylist()
        pages = [page for page in everything if page["with"] or page["without"]]
        for who, texts in (("zhen", scanned(path)), ("trafilatura alone", alone(pages))):
            empty = sum(not texts.get(page["id"]) for page in pages)
            rows.append([name, who, len(pages), empty, *segment_scores(pages, texts, space)])
    markdown(["set", "extraction", "annotated pages", "without text", "`with` found", "`without` absent"], rows)


def alike(found: str, truth: str) -> float:
    """Share of equal characters, the lesser of that of all and that of those beyond ASCII, order aside."""
    one, other = (re.sub(r"[\0-\x7f]", "", text) for text in (found, truth))
    pairs = [(left, right) for left, right in ((found, truth), (one, other)) if left or right]
    return min((Counter(left) & Counter(right)).total() / max(len(left), len(right)) for left, right in pairs)


def encodings(folder: Path) -> None:
    """A row for each folder of real files: files decoded as Python's codec of that name does it."""
    rows: list[list[object]] = []
    for path in sorted(each for each in folder.iterdir() if each.is_dir()):
        right, failures, files = 0, [], sorted(path.iterdir())
        for file in files:
            data = file.read_bytes()
            decoded = decode(data, None)
            try:
                truth = data.decode(CODECS.get(path.name, path.name), "replace").removeprefix("\ufeff")
            except LookupError:
                failures.append(f"{file.name}: Python has no such codec; {decoded[1] if decoded else 'lost'}")
                continue
            share = alike(decoded[0], truth) if decoded else 0.0
            right += share >= 0.99
            if share < 0.99:
                failures.append(f"{file.name}: {f'{decoded[1]}, {share:.1%} equal' if decoded else 'lost'}")
        rows.append([path.name, f"{right}/{len(files)}", "; ".join(failures)])
    total = [sum(int(str(row[1]).split("/")[side]) for row in rows) for side in (0, 1)]
    markdown(["folder", "right", "not right"], [*rows, ["all", f"{total[0]}/{total[1]}", ""]])


def reencoded(dirty: Path, web: Path) -> None:
    """Pages re-encoded with a right or wrong label: all characters equal to the original's, the label aside."""
    pages = pq.read_table(web / "chinese-news-pages.parquet").to_pylist()
    originals = {page["id"]: page["html"].decode("utf-8", "replace") for page in pages}
    found: dict[str, list[str]] = {"right": [], "wrong": []}
    for entry in json.loads((dirty / "manifest.json").read_text("utf-8")):
        text, name = decode((dirty / entry["file"]).read_bytes(), None) or ("", "lost")
        one, truth = (html.unescape(_LABEL.sub("", clean(t)[0])) for t in (text, originals[entry["source_id"]]))
        problem = "" if one == truth else f"{entry['file']}: {name}, {alike(one, truth):.2%} equal"
        found["wrong" if "wrong" in entry["meta_charset_says"] else "right"].append(problem)
    rows = [[label, f"{each.count('')}/{len(each)}", "; ".join(filter(None, each))] for label, each in found.items()]
    markdown(["label", "right", "not right"], rows)


def plain(text: str) -> str:
    """Text of a feed or page without its markup; words in ASCII go, for they are addresses and names of tags."""
    return re.sub(r"[!-~]+", " ", _TAGS.sub(" ", html.unescape(_TAGS.sub(" ", text))))


def languages(folder: Path) -> dict[str, list[str]]:
    """Documents of at least 200 characters for each row, white space folded."""
    texts = {
        name: [t for file in files for t in stored(folder / f"text/{file}.jsonl.zst")] for name, files in TEXTS.items()
    }
    for name, folders in ENCODED.items():
        paths = [path for each in folders for path in sorted((folder / "dirty/encodings" / each).iterdir())]
        whole = [
            plain(path.read_bytes().decode(CODECS.get(path.parent.name, path.parent.name), "replace")) for path in paths
        ]
        joined = [" ".join(text.replace("\ufffd", "").split()) for text in whole]
        texts[name] = [text[at : at + 300] for text in joined for at in range(0, len(text), 300)]
    pages: dict[str, list[str]] = {lang: [] for lang in LABELLED}
    for page in pq.read_table(folder / "web/trafilatura-eval.parquet").to_pylist():
        match = _LANG.search(page["html"], 0, 20_000)
        if match and (lang := match.group(1).decode().lower()) in pages:
            pages[lang].append((trafilatura.extract(page["html"], fast=True, include_comments=False) or "")[:2000])
    texts |= {f"{lang} (pages)": found for lang, found in pages.items()}
    folded = {name: [" ".join(text.split()) for text in found] for name, found in texts.items()}
    return {name: [text for text in found if len(text) >= 200] for name, found in folded.items()}


def piece(text: str, dice: random.Random) -> str:
    """20 to 50 characters from anywhere in the text, from the beginning of a word where one is near."""
    length = dice.randint(20, 50)
    begin = dice.randint(0, len(text) - 70)
    space = text.find(" ", begin, begin + 20)
    return text[space + 1 :][:length] if space >= 0 else text[begin : begin + length]


def confusion(texts: Mapping[str, Sequence[str]], draw: Callable[[Sequence[str], random.Random], list[str]]) -> None:
    """Rows: what a text is; columns: what `identify` says."""
    columns = ["zh", "en", "ja", "ko", "ru", "de", "es", "fr", "pl"]
    rows: list[list[object]] = []
    for name, found in texts.items():
        chosen = draw(found, random.Random(SEED))
        said = Counter(identify(text, character_counts([text])[0])[0] for text in chosen)
        others = Counter({lang: count for lang, count in said.items() if lang not in columns})
        shown = ", ".join(f"{lang} {count}" for lang, count in others.most_common(4))
        cells = [said[lang] or "" for lang in columns]
        rows.append([name, len(chosen), *cells, shown, f"{said[name[:2]] / max(len(chosen), 1):.1%}"])
    markdown(["is", "texts", *columns, "others (first four)", "right"], rows)


def removing(texts: Sequence[str]) -> list[str]:
    """For each text the first rule of `bilingual` that removes it, or nothing."""
    batch = Batch(texts)
    columns = {"lang": np.array(batch.langs), **batch.signals}
    named = [""] * len(texts)
    for rule in reversed(RULES):
        for at in np.flatnonzero(~rule.verdict(columns, RulesSettings())[0]):
            named[at] = rule.name
    return named


def junk(folder: Path) -> None:
    """Two tables: junk as labelled, in two halves by the first digit of its hash; what else the rules remove."""
    texts = [
        clean(text)[0]
        for path, key in (("dirty/chinese-web-text-sample", "raw_content"), ("text/en/c4-demo", "text"))
        for text in stored(folder / f"{path}.jsonl.zst", key)
    ]
    rules = {hashlib.sha256(t.encode()).hexdigest()[:12]: rule for t, rule in zip(texts, removing(texts), strict=True)}
    rows: list[list[object]] = []
    for name, listed in JUNK.items():
        halves = [[rules.pop(digits) for digits in listed.split() if int(digits[0], 16) % 2 == odd] for odd in (0, 1)]
        cells = [f"{sum(map(bool, half))}/{len(half)}" for half in halves]
        by = Counter(rule for half in halves for rule in half if rule)
        rows.append([name, *cells, ", ".join(f"{rule} {count}" for rule, count in by.most_common())])
    rest = Counter(filter(None, rules.values()))
    listed = ", ".join(f"{rule} {count}" for rule, count in rest.most_common())
    rows.append(["both: the other documents", f"{rest.total()}/{len(rules)}", "", listed])
    markdown(["documents", "removed of half A", "removed of half B", "by"], rows)
    rows = []
    for name, files in PROSE.items():
        found = [clean(t)[0] for file in files.split() for t in stored(folder / f"text/{file}.jsonl.zst")]
        removed = removing([text for text in found if text])
        named = Counter(filter(None, removed))
        at = [
            rule in FINDERS for text, rule in zip(filter(None, found), removed, strict=True) if _GAMBLING.search(text)
        ]
        finders = [f"{named[rule]:,} ({named[rule] / len(removed):.2%})" for rule in FINDERS]
        rows.append(
            [name, f"{len(removed):,}", *finders, f"{sum(at)}/{len(at)}", f"{named.total() / len(removed):.1%}"]
        )
    markdown(["texts", "documents", *FINDERS, "by these, of texts that mention gambling", "removed by all rules"], rows)


def main() -> None:
    """Print all tables."""
    folder = Path(sys.argv[1])
    extraction(folder / "web")
    encodings(folder / "dirty/encodings")
    reencoded(folder / "dirty/reencoded-pages", folder / "web")
    junk(folder)
    texts = languages(folder)
    confusion(texts, lambda found, dice: dice.sample(found, min(COUNT, len(found))))
    confusion(texts, lambda found, dice: [piece(dice.choice(found), dice) for _ in range(COUNT)])


if __name__ == "__main__":
    main()
