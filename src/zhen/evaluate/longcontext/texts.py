"""Long texts to read and to hide keys in: files of one's own by language, or a run's held-out documents."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import zstandard

from zhen.errors import ZhenError
from zhen.evaluate.held_out import HELD_OUT, read_groups
from zhen.tokenizer.load import Tokenizer

FOLDER = "long-text"
"""Below the folder of benchmark files: a folder a language, `en/`, `zh/`, with texts in it."""

CHARACTERS = 1 << 23
"""Most characters taken of a language, as many of each file."""

ENDINGS = (".txt", ".jsonl", ".jsonl.gz", ".jsonl.zst")


class Texts(NamedTuple):
    """The texts of a language."""

    lang: str
    documents: list[str]
    files: dict[str, Path]
    """Where they come from: what the file is called -> the file."""


def texts_in(folder: Path) -> list[Texts]:
    """The texts of `folder`/<language>/…, by language: of a `.txt` the whole, of JSON lines each `text`.

    Files are taken by name, of each as many characters as all may have together (CHARACTERS). Raises ZhenError for a
    damaged file; an empty list where there are none.
    """
    found = []
    for place in sorted(path for path in folder.glob("*") if path.is_dir()):
        paths = sorted(path for path in place.rglob("*") if path.name.endswith(ENDINGS) and path.is_file())
        documents: list[str] = []
        for path in paths:
            left = CHARACTERS // len(paths)
            for text in _texts(path):
                documents.append(text[:left])
                left -= len(text)
                if left <= 0:
                    break
        if documents:
            names = {str(path.relative_to(folder.parent)): path for path in paths}
            found.append(Texts(place.name, documents, names))
    return found


def held_out_texts(shards: Path, tokenizer: Tokenizer) -> list[Texts]:
    """The held-out documents of a run, by language. Raises ZhenError where there are none, or they are another's."""
    by_language: dict[str, Texts] = {}
    for group in read_groups(shards, tokenizer.sha256):
        texts = by_language.setdefault(group.lang, Texts(group.lang, [], {}))
        texts.documents.extend(tokenizer.decode(ids) for ids in group.documents)
        paths = sorted((shards / HELD_OUT / group.name).glob("*.bin"))
        texts.files.update({str(path.relative_to(shards)): path for path in paths})
    return [by_language[lang] for lang in sorted(by_language)]


def _texts(path: Path) -> Iterator[str]:
    """The texts of a file that aren't empty."""
    if path.suffix == ".txt":
        yield from filter(str.strip, [_decoded(path.read_bytes(), path, "the file")])
        return
    for number, line in enumerate(_lines(path), start=1):
        place = f"line {number:,}"
        try:
            text = json.loads(_decoded(line, path, place))["text"]
        except (ValueError, KeyError, TypeError) as error:
            raise ZhenError("is no JSON with a `text`", file=path, place=place) from error
        if isinstance(text, str) and text.strip():
            yield text


def _decoded(content: bytes, path: Path, place: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ZhenError(f"is not UTF-8: {error}", file=path, place=place) from error


def _lines(path: Path) -> Iterator[bytes]:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        elif path.suffix == ".zst":
            content = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(content)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise ZhenError(f"cannot be read: {error}", file=path) from error
    yield from filter(bytes.strip, content.split(b"\n"))
