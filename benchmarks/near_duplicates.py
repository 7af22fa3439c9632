"""Near-duplicates beside datatrove's MinHash: seconds from raw text to the list of what goes, on all cores.

A part of `data.py`. The texts are cut to about 3,000 bytes; one in ten has a copy in which some words are others, so
that its exact Jaccard similarity is known.
"""

from __future__ import annotations

import json
import os
import random
import re
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpora import of_language
from zhen.console import table
from zhen.data import engine, minhash
from zhen.data.near import Part, near_duplicates

BYTES = 3_000
DOCUMENTS = 12_000
"""Of a language, at most."""
FILES = 4
THRESHOLD = 0.7


def pieces(folder: Path, lang: str) -> list[str]:
    """Texts of a language, cut at line ends."""
    found = []
    for text in of_language(folder, lang):
        part: list[str] = []
        for line in text.split("\n"):
            part.append(line)
            if sum(map(len, part)) * (1 if lang == "en" else 3) >= BYTES:
                found.append("\n".join(part))
                part = []
    random.Random(1).shuffle(found)
    return found[:DOCUMENTS]


def shingles(text: str) -> set[tuple[str, ...]]:
    """Runs of five words, of which a Han character is one."""
    words = re.findall(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+", text.lower())
    return {tuple(words[at : at + 5]) for at in range(max(1, len(words) - 4))}


def corpus(texts: Sequence[str], lang: str) -> tuple[list[str], list[tuple[int, int, float]]]:
    """The texts with copies behind every tenth, and (text, copy, Jaccard similarity)."""
    rng, found, copies = random.Random(2), list(texts), []
    for index in range(0, len(texts), 10):
        words = texts[index].split(" ") if lang == "en" else list(texts[index])
        for _ in range(int(len(words) * rng.uniform(0, 0.025))):
            words[rng.randrange(len(words))] = rng.choice(("other", "words", "here") if lang == "en" else "甲乙丙丁")
        copy = (" " if lang == "en" else "").join(words)
        one, two = shingles(texts[index]), shingles(copy)
        copies.append((index, len(found), len(one & two) / len(one | two)))
        found.append(copy)
    return found, copies


def write(texts: Sequence[str], folder: Path) -> None:
    """The texts in FILES files of JSON lines, text i in file i % FILES."""
    folder.mkdir(parents=True)
    for number in range(FILES):
        lines = [json.dumps({"text": text, "id": str(index)}) for index, text in list(enumerate(texts))[number::FILES]]
        (folder / f"{number:05d}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def sign(path: str) -> str:
    """A worker's job: signals of a file of JSON lines."""
    with Path(path).open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    parts = [minhash.measure(texts[at : at + 1000]) for at in range(0, len(texts), 1000)]
    columns = {
        name: pa.chunked_array(each) for (name, _), each in zip(minhash.COLUMNS, zip(*parts, strict=True), strict=True)
    }
    target = Path(path).with_suffix(".parquet")
    pq.write_table(pa.table(columns), target)
    return str(target)


def ours(folder: Path) -> set[int]:
    """Which texts go."""
    jobs = [str(path) for path in sorted(folder.glob("*.jsonl"))]
    paths = sorted(engine.map_units(sign, jobs, workers=os.cpu_count() or 1))
    parts = [Part(Path(path), unit, np.arange(pq.read_metadata(path).num_rows)) for unit, path in enumerate(paths)]
    found = near_duplicates(parts, THRESHOLD, None)
    gone = found.places[found.places != found.first].astype(int).tolist()
    return {(place & 0xFFFF_FFFF) * FILES + (place >> 32) for place in gone}


def theirs(folder: Path, lang: str) -> set[int]:
    """datatrove's three steps with FineWeb's parameters; which texts go."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader

    cores = os.cpu_count() or 1
    config, work = MinhashConfig(), folder.with_name(f"{folder.name}-datatrove")
    language = {"en": "eng", "zh": "zho"}[lang]

    def run(steps: list[Any], tasks: int, name: str) -> None:
        LocalPipelineExecutor(steps, tasks=tasks, workers=cores, logging_dir=str(work / f"log-{name}")).run()

    reader = JsonlReader(str(folder), glob_pattern="*.jsonl")
    run([reader, MinhashDedupSignature(str(work / "signatures"), config, language)], FILES, "signatures")
    run([MinhashDedupBuckets(str(work / "signatures"), str(work / "buckets"), config=config)], config.num_buckets, "b")
    run([MinhashDedupCluster(str(work / "buckets"), str(work / "remove"), config=config)], 1, "cluster")
    gone = set()
    for path in (work / "remove").glob("*.remove"):
        gone |= {int(row) * FILES + int(path.stem) for row in np.fromfile(path, "<u4")}
    return gone


def rows(folder: Path) -> list[list[str]]:
    """A row for each language: documents, seconds of both, how many times faster, and what each finds."""
    found = []
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as name:
        for lang in ("en", "zh"):
            texts, copies = corpus(pieces(folder, lang), lang)
            write(texts, Path(name) / lang)
            write(texts[:100], Path(name) / f"{lang}-first")
            ours(Path(name) / f"{lang}-first")
            seconds, answers = [], []
            for work in (partial(ours, Path(name) / lang), partial(theirs, Path(name) / lang, lang)):
                begin = time.perf_counter()
                answers.append(work())
                seconds.append(time.perf_counter() - begin)
            alike = [(one, two) for one, two, jaccard in copies if jaccard >= 0.8]
            shares = [sum(one in gone or two in gone for one, two in alike) / len(alike) for gone in answers]
            found.append(
                [
                    *(lang, f"{len(texts):,}", f"{seconds[0]:.1f} s", f"{seconds[1]:.1f} s"),
                    *(f"{seconds[1] / seconds[0]:.0f}x", f"{len(alike):,}", f"{shares[0]:.1%}", f"{shares[1]:.1%}"),
                ]
            )
    return found


def near_table(folder: Path) -> Any:
    """The rows with their heads."""
    speed = ("lang", "documents", "zhen", "datatrove", "times")
    return table((*speed, "copies at 0.8 and over", "zhen finds", "datatrove finds"), rows(folder))
