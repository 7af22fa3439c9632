"""Loading a tokenizer from a folder: SentencePiece where there is a `tokenizer.model`, else `tokenizer.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from zhen.errors import ZhenError, missing_extra
from zhen.tokenizer.special import END_OF_TEXT, SPECIAL

MODEL = "tokenizer.model"
JSON = "tokenizer.json"
NONE = -1
"""Stands for a special token that a tokenizer does not have."""

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class Backend(Protocol):
    """The library that does the work."""

    vocab_size: int

    def encode(self, texts: list[str], threads: int) -> list[list[int]]:
        """Ids of each text, nothing added."""

    def decode(self, ids: list[int]) -> str:
        """The text of `ids`; special tokens give nothing."""

    def id_of(self, piece: str) -> int:
        """The id of a piece, or NONE."""

    def pieces(self) -> list[bytes] | None:
        """What each id stands for; nothing for special ones. None where only the library knows."""


class Tokenizer:
    """Text to ids and back. Nothing is ever added to a text, and text is text: the names of special tokens in it are
    not taken for the tokens (with a `tokenizer.json` alone: those marked special there).

    `decode(encode(text)) == text` for every text without U+2581, which stands for the space inside SentencePiece and
    comes back as one; a tokenizer that others made may put a space before the text or normalise it.
    """

    def __init__(self, folder: Path, backend: Backend, sha256: str, ends: tuple[int, int, int]) -> None:
        """Use `load_tokenizer`. `ends`: the ids of unknown, start and end of text."""
        self.folder = folder
        self.sha256 = sha256
        """Hex, of `tokenizer.model`, or of `tokenizer.json` where there is no other."""
        self.vocab_size = backend.vocab_size
        """One more than the largest id."""
        self.unknown, self.start_of_text, self.end_of_text = ends
        """Ids; `unknown` is -1 where there is none, `start_of_text` then is `end_of_text`."""
        self._backend = backend

    def encode(self, text: str) -> list[int]:
        """The ids of `text`. Raises ZhenError for text that is not valid Unicode (lone surrogates)."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str], threads: int = 1) -> list[list[int]]:
        """The ids of each text, the same whatever the number of `threads`. Raises ZhenError as `encode` does."""
        for text in texts:
            try:
                text.encode("utf-8")
            except UnicodeEncodeError as error:
                raise ZhenError(
                    f"text holds U+{ord(text[error.start]):04X}, half of a surrogate pair",
                    expected="valid Unicode",
                    place=f"character {error.start + 1:,}",
                ) from error
        return self._backend.encode(list(texts), threads)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; special tokens give nothing. Raises ZhenError for an id outside the vocabulary."""
        for index in ids:
            if not 0 <= index < self.vocab_size:
                raise ZhenError(f"token id {index}", expected=f"0 to {self.vocab_size - 1:,}", file=self.folder)
        return self._backend.decode([int(index) for index in ids])

    def pieces(self) -> list[bytes] | None:
        """The bytes that each id stands for, none for special ones; None with a `tokenizer.json` alone."""
        return self._backend.pieces()


class _SentencePiece:
    """`tokenizer.model`."""

    def __init__(self, path: Path, content: bytes) -> None:
        try:
            import sentencepiece
        except ImportError as error:
            raise missing_extra("sentencepiece", "make", f"reading {path}") from error
        sentencepiece.set_min_log_level(3)
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=content)
            self.vocab_size = int(self._processor.get_piece_size())
        except (RuntimeError, ValueError) as error:
            raise _garbage(path, "a SentencePiece model", "its parts do not fit together") from error
        if self.vocab_size == 0:
            raise _garbage(path, "a SentencePiece model", "it has no pieces")

    def encode(self, texts: list[str], threads: int) -> list[list[int]]:
        ids: list[list[int]] = self._processor.encode(texts, out_type=int, num_threads=threads)
        return ids

    def decode(self, ids: list[int]) -> str:
        return str(self._processor.decode(ids))

    def id_of(self, piece: str) -> int:
        index = int(self._processor.piece_to_id(piece))
        return index if self._processor.id_to_piece(index) == piece else NONE

    def pieces(self) -> list[bytes] | None:
        processor = self._processor
        return [
            b""
            if processor.is_control(index) or processor.is_unknown(index)
            else bytes([int(piece[1:-1], 16)])
            if processor.is_byte(index)
            else piece.replace("\u2581", " ").encode()
            for index, piece in enumerate(map(processor.id_to_piece, range(self.vocab_size)))
        ]

    def ends(self) -> tuple[int, int, int]:
        """The ids of unknown, start and end, each NONE where the model has none."""
        processor = self._processor
        return processor.unk_id(), processor.bos_id(), processor.eos_id()


class _TokenizersJson:
    """`tokenizer.json`."""

    def __init__(self, path: Path, content: bytes) -> None:
        try:
            import tokenizers
        except ImportError as error:
            raise missing_extra("tokenizers", "make", f"reading {path}") from error
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(content)
        # the library raises bare Exception
        except Exception as error:
            raise _garbage(path, "a tokenizer.json", error) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        if not vocabulary:
            raise _garbage(path, "a tokenizer.json", "it has no vocabulary")
        self.vocab_size = max(vocabulary.values()) + 1

    def encode(self, texts: list[str], threads: int) -> list[list[int]]:
        encoded = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [item.ids for item in encoded]

    def decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def id_of(self, piece: str) -> int:
        index = self._tokenizer.token_to_id(piece)
        return NONE if index is None else int(index)

    def pieces(self) -> list[bytes] | None:
        return None


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer in `folder`, from its `tokenizer.model`, or its `tokenizer.json` where there is no other.

    Special ids are the model's own; what it lacks is looked up by the names in `tokenizer_config.json` or
    `special_tokens_map.json`, but for the end of text, which is `<|endoftext|>` where that is a piece (chat models
    name the end of a turn instead). No code of the folder is run. Raises ZhenError for a missing, damaged or
    unfetched (Git LFS pointer) file, and where no end of text can be found.
    """
    folder = Path(folder)
    if (path := folder / MODEL).exists():
        content = _content(path)
        sentencepiece = _SentencePiece(path, content)
        backend: Backend = sentencepiece
        ends = sentencepiece.ends()
    elif (path := folder / JSON).exists():
        content = _content(path)
        backend = _TokenizersJson(path, content)
        ends = NONE, NONE, backend.id_of(SPECIAL[END_OF_TEXT])
    else:
        raise ZhenError(
            f"no tokenizer in this folder (looked for {MODEL} and {JSON})" if folder.is_dir() else "no such folder",
            file=folder,
            hint="give the folder of a checkpoint or of the stage `tokenizer`",
        )
    unknown, start, end = (
        index if index != NONE else _named(folder, backend, role)
        for index, role in zip(ends, ("unk_token", "bos_token", "eos_token"), strict=True)
    )
    if end == NONE:
        raise ZhenError(
            "has no end-of-text token",
            expected='"eos_token" in tokenizer_config.json or special_tokens_map.json',
            file=path,
        )
    return Tokenizer(
        folder, backend, hashlib.sha256(content).hexdigest(), (unknown, end if start == NONE else start, end)
    )


def _named(folder: Path, backend: Backend, role: str) -> int:
    """The id of the token that the folder's settings name for `role`, or NONE."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / name
        if not path.exists():
            continue
        try:
            settings = json.loads(_content(path))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise _garbage(path, "JSON", error) from error
        value: Any = settings.get(role) if isinstance(settings, dict) else None
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str) and (index := backend.id_of(value)) != NONE:
            return index
    return NONE


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ZhenError(f"cannot be read: {error.strerror}", file=path) from error
    if content.startswith(LFS_POINTER):
        raise ZhenError(
            "is a Git LFS pointer, not the file itself",
            file=path,
            hint="fetch it with `git lfs pull`, or download the file",
        )
    return content


def _garbage(path: Path, expected: str, error: Exception | str) -> ZhenError:
    reason = (str(error).splitlines() or [""])[0]
    return ZhenError(f"cannot be read: {reason}", expected=expected, file=path, hint="download or write it again")
