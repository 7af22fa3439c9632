"""Calibration text: documents of both languages as token sequences, and the hash that names them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from zhen.errors import ZhenError
from zhen.formats.document import read_documents
from zhen.tokenizer.load import Tokenizer

ENDINGS = (".parquet", ".jsonl", ".txt")
"""Files that are read: documents as the run keeps them, JSON objects with `text` a line, a text."""

LONGEST = 2048
"""Tokens of a sequence, if nothing else is said and the model takes as many."""

_CHINESE = re.compile(r"[\u3400-\u9fff]")
_CHINESE_SHARE = 0.2
_MOST_CHARACTERS = 1 << 26
"""Text that is read at most while a language is still looked for."""


class Calibration(NamedTuple):
    """Token ids [sequences, length] int64; tokens by language; the SHA-256 (hex) of the ids as int32."""

    tokens: Tensor
    languages: dict[str, int]
    sha256: str


def calibrate(path: Path, tokenizer: Tokenizer, sequences: int, length: int) -> Calibration:
    """The first text of `path`, a file or folder, half of it Chinese and half other as far as there is enough of both.

    Documents stand one behind the other, an end of text before each. Files are read in an order that their names'
    hashes give, so that it isn't all of one source. Raises ZhenError for too little text and unreadable files.
    """
    full = sequences * length
    found: dict[str, list[int]] = {"en": [], "zh": []}
    characters = 0
    for text in _texts(path):
        characters += len(text)
        language = "zh" if len(_CHINESE.findall(text)) >= _CHINESE_SHARE * len(text) else "en"
        if len(found[language]) < full:
            found[language] += [tokenizer.end_of_text, *tokenizer.encode(text)]
        if all(2 * len(ids) >= full for ids in found.values()) or characters > _MOST_CHARACTERS:
            break
    windows = {name: torch.tensor(ids[: len(ids) // length * length]).view(-1, length) for name, ids in found.items()}
    half, available = sequences // 2, {name: len(rows) for name, rows in windows.items()}
    chinese = min(available["zh"], max(half, sequences - available["en"]))
    rows = {"en": windows["en"][: sequences - chinese], "zh": windows["zh"][:chinese]}
    tokens = torch.cat([rows["en"], rows["zh"]])
    if not len(tokens):
        raise ZhenError(f"{characters:,} characters of text", expected=f"at least {length:,} tokens", file=path)
    sha256 = hashlib.sha256(tokens.to(torch.int32).numpy().astype("<i4").tobytes()).hexdigest()
    return Calibration(tokens, {name: some.numel() for name, some in rows.items()}, sha256)


def _texts(path: Path) -> Iterator[str]:
    """The documents of a file, or of all files below a folder."""
    if not path.exists():
        raise ZhenError("not found", expected=f"text: a folder, or a file ({', '.join(ENDINGS)})", file=path)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.suffix in ENDINGS]
    if not files:
        raise ZhenError(f"no files of text ({', '.join(ENDINGS)})", file=path)
    for file in sorted(files, key=lambda file: hashlib.blake2b(file.name.encode()).digest()):
        yield from _documents(file)


def _documents(file: Path) -> Iterable[str]:
    if file.suffix == ".parquet":
        return (str(text) for batch in read_documents(file, ["text"]) for text in batch.column(0).to_pylist())
    try:
        if file.suffix != ".jsonl":
            return [file.read_text(encoding="utf-8")]
        return _lines(file)
    except (OSError, UnicodeDecodeError) as error:
        raise ZhenError(f"can't be read: {error}", expected="text in UTF-8", file=file) from error


def _lines(file: Path) -> Iterator[str]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                value = json.loads(line)
            except ValueError as error:
                raise ZhenError("no JSON", expected="an object a line", file=file, place=f"line {number}") from error
            text = value.get("text") if isinstance(value, dict) else None
            if not isinstance(text, str):
                raise ZhenError('no "text"', expected="an object with a text", file=file, place=f"line {number}")
            yield text
