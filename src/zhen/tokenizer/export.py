"""Export: a SentencePiece model as the four files of the ecosystem, all of which give the same ids."""

from __future__ import annotations

import json
from typing import Any

import sentencepiece

from zhen.tokenizer.special import END_OF_TEXT, SPECIAL, START_OF_TEXT, UNKNOWN

MODEL = "tokenizer.model"
JSON = "tokenizer.json"
CONFIG = "tokenizer_config.json"
SPECIAL_MAP = "special_tokens_map.json"

SPACE = "▁"
"""U+2581, which SentencePiece writes for a space."""


def export_files(model: bytes) -> dict[str, bytes]:
    """The files of a tokenizer learnt here, name -> content, from the content of its `tokenizer.model`.

    `tokenizer_config.json` leaves out `model_max_length`: that is the model's, not the tokenizer's.
    """
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return {
        MODEL: model,
        JSON: _compact(tokenizer_json(processor)),
        CONFIG: _indented(tokenizer_config()),
        SPECIAL_MAP: _indented(_names()),
    }


def tokenizer_json(processor: Any) -> dict[str, Any]:
    """The model as `tokenizers` reads it.

    A merge is any split of a piece into two pieces, in the order of the pieces (SentencePiece joins the pair whose
    piece has the best score, and its scores fall with the id), then of the halves' ids. There is no pre-tokenizer:
    text is one sequence for both libraries. No prefix is put before text nor stripped behind it.
    """
    pieces = [processor.id_to_piece(index) for index in range(processor.get_piece_size())]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, **_added(piece)} for index, piece in enumerate(SPECIAL)],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": SPECIAL[UNKNOWN],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {piece: index for index, piece in enumerate(pieces)},
            "merges": _merges(processor, pieces),
        },
    }


def _merges(processor: Any, pieces: list[str]) -> list[list[str]]:
    """Every split of every text piece whose halves are text pieces."""
    text_pieces = {
        piece: index
        for index, piece in enumerate(pieces)
        if index >= len(SPECIAL) and not processor.is_byte(index) and not processor.is_control(index)
    }
    merges: list[list[str]] = []
    for piece in text_pieces:
        halves = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [(left, right) for left, right in halves if left in text_pieces and right in text_pieces]
        known.sort(key=lambda pair: (text_pieces[pair[0]], text_pieces[pair[1]]))
        merges += [list(pair) for pair in known]
    return merges


def tokenizer_config() -> dict[str, Any]:
    """The settings transformers reads: LLaMA's tokenizer, with no token and no space added to a text."""
    return {
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": False,
        "add_eos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "legacy": False,
        "sp_model_kwargs": {},
        "added_tokens_decoder": {str(index): _added(piece) for index, piece in enumerate(SPECIAL)},
        **_names(),
    }


def _names() -> dict[str, str]:
    """The role of each special token; as in Yi, `<unk>` is also the padding."""
    return {
        "bos_token": SPECIAL[START_OF_TEXT],
        "eos_token": SPECIAL[END_OF_TEXT],
        "unk_token": SPECIAL[UNKNOWN],
        "pad_token": SPECIAL[UNKNOWN],
    }


def _added(piece: str) -> dict[str, Any]:
    return {
        "content": piece,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def _compact(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8")


def _indented(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8")
