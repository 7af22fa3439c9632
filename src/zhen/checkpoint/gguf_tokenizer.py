"""A tokenizer as GGUF's `tokenizer.…` keys, and files for transformers made from such keys."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from zhen.checkpoint import sentencepiece_model as spm
from zhen.checkpoint.gguf_metadata import IDS, Metadata, plain
from zhen.checkpoint.sentencepiece_model import Piece
from zhen.checkpoint.tokenizer_files import CUTS, ROLES, Tokenizer
from zhen.errors import ZhenError
from zhen.formats.files import json_bytes


def of_tokenizer(tokenizer: Tokenizer | None, vocab_size: int) -> Metadata:
    """The keys that say `tokenizer` for an embedding of `vocab_size` rows; rows without a token get one of no text.

    None says that there is none. Raises ZhenError for more tokens than rows.
    """
    if tokenizer is None:
        return {"tokenizer.ggml.model": "none"}
    pieces = list(tokenizer.pieces)
    if len(pieces) > vocab_size:
        expected = f"at most the {vocab_size} rows of the embedding"
        raise ZhenError(f"{len(pieces)} tokens", expected=expected, place="tokenizer")
    pieces += [Piece(f"[PAD{index}]", 0.0, spm.UNUSED) for index in range(len(pieces), vocab_size)]
    found: Metadata = {
        "tokenizer.ggml.model": tokenizer.model,
        "tokenizer.ggml.pre": tokenizer.pre,
        "tokenizer.ggml.tokens": [piece.text for piece in pieces],
        "tokenizer.ggml.token_type": [piece.kind for piece in pieces],
        "tokenizer.ggml.add_bos_token": tokenizer.add_bos,
        "tokenizer.ggml.add_eos_token": tokenizer.add_eos,
        "tokenizer.ggml.add_space_prefix": tokenizer.add_space_prefix,
    }
    if tokenizer.model == "llama":
        found["tokenizer.ggml.scores"] = [piece.score for piece in pieces]
        found["tokenizer.ggml.remove_extra_whitespaces"] = tokenizer.remove_extra_whitespaces
    elif tokenizer.merges:
        found["tokenizer.ggml.merges"] = tokenizer.merges
    found |= {IDS[role]: index for role, index in tokenizer.special.items()}
    for name, template in tokenizer.templates.items():
        if template:
            found["tokenizer.chat_template" if name == "default" else f"tokenizer.chat_template.{name}"] = template
    if others := [name for name in tokenizer.templates if name != "default"]:
        found["tokenizer.chat_templates"] = others
    return found


def to_files(metadata: Mapping[str, Any]) -> tuple[dict[str, bytes], list[str]]:
    """(tokenizer files made from the keys, notes on what they can't say).

    Raises ZhenError for keys that contradict each other, or hold something else than llama.cpp puts there.
    """
    try:
        return _files(metadata)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError, struct.error) as error:
        found = f"tokenizer keys that don't fit ({type(error).__name__}: {error})"
        raise ZhenError(found, expected="them as llama.cpp writes them", place="metadata") from error


def _files(metadata: Mapping[str, Any]) -> tuple[dict[str, bytes], list[str]]:
    model, texts = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.tokens")
    if model in (None, "none", "no_vocab") or not isinstance(texts, list):
        return {}, ["the file holds no tokenizer"]
    kinds = plain(metadata.get("tokenizer.ggml.token_type", [spm.NORMAL] * len(texts)))
    scores = plain(metadata.get("tokenizer.ggml.scores", [0.0] * len(texts)))
    if not len(texts) == len(kinds) == len(scores):
        found = f"{len(texts)} tokens, {len(kinds)} kinds, {len(scores)} scores"
        raise ZhenError(found, expected="as many of each", place="tokenizer.ggml.tokens")
    pieces = [Piece(*piece) for piece in zip(texts, scores, kinds, strict=True)]
    special = {role: plain(metadata[IDS[role]]) for role in ROLES if IDS[role] in metadata}
    if wrong := next((index for index in special.values() if not 0 <= index < len(pieces)), None):
        raise ZhenError(f"token {wrong}", expected=f"one of {len(pieces)}", place="tokenizer.ggml")
    settings = _settings(metadata, pieces, special, model)
    given = metadata.get("tokenizer.huggingface.json")
    if isinstance(given, str):
        return {"tokenizer.json": given.encode("utf-8"), "tokenizer_config.json": json_bytes(settings)}, []
    if model == "llama":
        data = spm.build(
            pieces,
            special,
            add_dummy_prefix=settings["add_prefix_space"],
            remove_extra_whitespaces=metadata.get("tokenizer.ggml.remove_extra_whitespaces", False),
        )
        note = "tokenizer.model was rebuilt from the file's tokens and scores: the same pieces, not the same bytes"
        return {"tokenizer.model": data, "tokenizer_config.json": json_bytes(settings)}, [note]
    pre = metadata.get("tokenizer.ggml.pre")
    if model != "gpt2" or pre not in _REGEX:
        return {}, [f"no tokenizer written: kind {model!r}, cut by {pre!r}, is none that can be said in tokenizer.json"]
    table = _byte_level(pieces, metadata.get("tokenizer.ggml.merges", []), pre)
    return {"tokenizer.json": json_bytes(table), "tokenizer_config.json": json_bytes(settings)}, [
        "tokenizer.json was rebuilt from the file's tokens and merges"
    ]


def _settings(
    metadata: Mapping[str, Any], pieces: list[Piece], special: Mapping[str, int], model: str
) -> dict[str, Any]:
    """A tokenizer_config.json; what the keys leave out is what llama.cpp takes it for."""
    sentencepiece = model == "llama"
    settings: dict[str, Any] = {
        "tokenizer_class": "LlamaTokenizer" if sentencepiece else "PreTrainedTokenizerFast",
        "add_bos_token": metadata.get("tokenizer.ggml.add_bos_token", sentencepiece),
        "add_eos_token": metadata.get("tokenizer.ggml.add_eos_token", False),
        "add_prefix_space": metadata.get("tokenizer.ggml.add_space_prefix", sentencepiece),
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {
            str(index): _added(piece)
            for index, piece in enumerate(pieces)
            if piece.kind in (spm.CONTROL, spm.UNKNOWN) or (piece.kind == spm.USER_DEFINED and not sentencepiece)
        },
        **{f"{role}_token": pieces[index].text for role, index in special.items()},
    }
    if sentencepiece:
        settings["legacy"] = False
    if template := metadata.get("tokenizer.chat_template"):
        settings["chat_template"] = template
    return settings


def _added(piece: Piece) -> dict[str, Any]:
    plain_text = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"content": piece.text, **plain_text, "special": piece.kind != spm.USER_DEFINED}


_REGEX = {name: steps[0][1] if steps[0][0] == "Split" else None for name, steps in CUTS.items() if name != "falcon"}


def _byte_level(pieces: list[Piece], merges: Any, pre: str) -> dict[str, Any]:
    """tokenizer.json of a byte-level BPE whose text is cut by `pre`."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": _REGEX[pre] is None}
    split = {"type": "Split", "pattern": {"Regex": _REGEX[pre]}, "behavior": "Isolated", "invert": False}
    added = (spm.CONTROL, spm.USER_DEFINED, spm.UNKNOWN)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": at, **_added(piece)} for at, piece in enumerate(pieces) if piece.kind in added],
        "normalizer": None,
        "pre_tokenizer": level if _REGEX[pre] is None else {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre == "llama-bpe",
            "vocab": {piece.text: at for at, piece in enumerate(pieces) if piece.kind != spm.UNUSED},
            "merges": [merge.split(" ") for merge in merges],
        },
    }
