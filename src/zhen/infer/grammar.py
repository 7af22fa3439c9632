"""Answers that keep to a form: JSON schemas, regular expressions and grammars, through llguidance."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zhen.errors import ZhenError, missing_extra
from zhen.infer.requests import Grammar
from zhen.tokenizer.load import JSON, Tokenizer


class Matcher:
    """Where an answer is in its grammar."""

    def __init__(self, matcher: Any, vocab_size: int, end_of_text: int) -> None:
        self._matcher, self._vocab_size, self._end = matcher, vocab_size, end_of_text

    def allowed(self, stop_ids: frozenset[int]) -> Tensor:
        """bool[vocab]: tokens that may come next; those that end the answer where it may end here."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        mask = np.zeros(self._vocab_size, np.bool_)
        known = np.unpackbits(bits, bitorder="little")[: self._vocab_size]
        mask[: len(known)] = known
        mask[sorted(stop_ids | {self._end})] = self._matcher.is_accepting()
        if not mask.any():  # cannot go on: the answer ends as it is
            mask[sorted(stop_ids)] = True
        return torch.from_numpy(mask)

    def ended(self, token: int) -> bool:
        """Take a token in; whether nothing can follow it."""
        return not self._matcher.consume_token(token) or self._matcher.is_stopped()


class Grammars:
    """Makes the matchers of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        """`vocab_size`: the model's, which may be larger than the tokenizer's."""
        self._tokenizer, self._vocab_size = tokenizer, vocab_size

    def matcher(self, grammar: Grammar) -> Matcher:
        """A matcher at its beginning. Raises ZhenError for a grammar that is none, and without llguidance."""
        words = self._words
        llguidance = _library()
        made = llguidance.LLMatcher(words, self._text(grammar), log_level=0)
        if made.is_error():
            raise _wrong(grammar, made.get_error())
        return Matcher(made, self._vocab_size, self._tokenizer.end_of_text)

    @cached_property
    def _words(self) -> Any:
        llguidance = _library()
        tokenizer = self._tokenizer
        file = tokenizer.folder / JSON
        pieces = tokenizer.pieces()
        made = llguidance.TokenizerWrapper(_Pieces(tokenizer, pieces)) if pieces else file.read_text(encoding="utf-8")
        return llguidance.LLTokenizer(made, n_vocab=self._vocab_size, eos_token=tokenizer.end_of_text)

    @staticmethod
    def _text(grammar: Grammar) -> str:
        matcher = _library().LLMatcher
        try:
            if grammar.kind == "json":
                return str(matcher.grammar_from_json_schema(json.loads(grammar.text)))
            if grammar.kind == "regex":
                return str(matcher.grammar_from_regex(grammar.text))
            return str(matcher.grammar_from_lark(grammar.text))
        except (ValueError, RecursionError) as error:
            raise _wrong(grammar, str(error)) from error


class _Pieces:
    """A tokenizer as llguidance wants it."""

    def __init__(self, tokenizer: Tokenizer, pieces: list[bytes]) -> None:
        self.eos_token_id, self.bos_token_id = tokenizer.end_of_text, tokenizer.start_of_text
        self.tokens = pieces
        self.special_token_ids = [id for id, piece in enumerate(pieces) if not piece]
        self._encode = tokenizer.encode

    def __call__(self, text: str) -> list[int]:
        return self._encode(text)


def _library() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise missing_extra("llguidance", "serve", "answers in a given form") from error
    return llguidance


def _wrong(grammar: Grammar, message: str) -> ZhenError:
    lines = message.strip().splitlines() or ["it is refused"]
    return ZhenError(f"not a {_NAMES[grammar.kind]} that can be kept to: {lines[0]}")


_NAMES = {"json": "JSON schema", "regex": "regular expression", "lark": "grammar"}
