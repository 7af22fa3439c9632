"""Tokenizers in GGUF against sentencepiece and tokenizers, and files of any content."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from conversions import convert
from gguf_models import TEXTS, byte_level, elsewhere, field, learn
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Tokenizers
from tokenizers import pre_tokenizers, processors

from zhen.checkpoint.tokenizer_files import read_tokenizer
from zhen.errors import ZhenError


@pytest.mark.parametrize("stated", [False, True])
def test_a_start_token_is_added_just_where_the_tokenizers_config_says_so(
    stated: bool, save_llama: Callable[..., Path], tmp_path: Path
) -> None:
    source = save_llama(settings={"add_bos_token": stated, "add_eos_token": not stated})
    convert(source, tmp_path / "m.gguf", "gguf")
    assert field(tmp_path / "m.gguf", "tokenizer.ggml.add_bos_token") is stated
    assert field(tmp_path / "m.gguf", "tokenizer.ggml.add_eos_token") is not stated
    elsewhere(tmp_path / "m.gguf", tmp_path / "other.gguf")
    convert(tmp_path / "other.gguf", tmp_path / "back", "llama")
    back = json.loads((tmp_path / "back" / "tokenizer_config.json").read_text())
    assert (back["add_bos_token"], back["add_eos_token"]) == (stated, not stated)


def test_an_unstated_start_token_is_transformers_true_and_noted(
    save_llama: Callable[..., Path], tmp_path: Path
) -> None:
    done = convert(save_llama(settings={"add_bos_token": None}), tmp_path / "m.gguf", "gguf")
    assert field(tmp_path / "m.gguf", "tokenizer.ggml.add_bos_token") is True
    assert any("add_bos_token" in note for note in done.notes)


def test_tokens_are_sentencepieces_with_rows_to_spare_marked_unused(
    save_llama: Callable[..., Path], learned: bytes, tmp_path: Path
) -> None:
    convert(save_llama(), tmp_path / "m.gguf", "gguf")
    theirs = sentencepiece.SentencePieceProcessor(model_proto=learned)
    tokens, kinds = (field(tmp_path / "m.gguf", f"tokenizer.ggml.{key}") for key in ("tokens", "token_type"))
    scores = field(tmp_path / "m.gguf", "tokenizer.ggml.scores")
    count = theirs.get_piece_size()
    assert tokens[:count] == [theirs.id_to_piece(index) for index in range(count)]
    assert scores[:count] == [theirs.get_score(index) for index in range(count)]
    assert all((kind == 6) == theirs.is_byte(index) for index, kind in enumerate(kinds[:count]))
    assert all((kind == 3) == theirs.is_control(index) for index, kind in enumerate(kinds[:count]))
    assert (len(tokens), set(kinds[count:])) == (400, {5})
    assert [field(tmp_path / "m.gguf", f"tokenizer.ggml.{role}_token_id") for role in ("bos", "eos", "unknown")] == [
        1,
        2,
        0,
    ]


@pytest.mark.parametrize(("setting", "says"), [("nmt_nfkc", "charsmap"), ("identity", "joins spaces")])
def test_what_llama_cpp_does_not_do_to_a_text_is_noted(
    setting: str, says: str, save_llama: Callable[..., Path], tmp_path: Path
) -> None:
    source = save_llama()
    (source / "tokenizer.model").write_bytes(learn(normalization_rule_name=setting))
    assert any(says in note for note in convert(source, tmp_path / "m.gguf", "gguf").notes)


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "smaug-bpe", "qwen2"])
def test_byte_level_tokenizers_go_there_and_back(pre: str, save_llama: Callable[..., Path], tmp_path: Path) -> None:
    source = save_llama(tokenizer=False)
    theirs = byte_level(pre, source)
    convert(source, tmp_path / "m.gguf", "gguf")
    assert field(tmp_path / "m.gguf", "tokenizer.ggml.pre") == pre
    assert field(tmp_path / "m.gguf", "tokenizer.ggml.add_bos_token") is False
    convert(elsewhere(tmp_path / "m.gguf", tmp_path / "other.gguf"), tmp_path / "back", "llama")
    ours = Tokenizers.from_file(str(tmp_path / "back" / "tokenizer.json"))
    for text in [*TEXTS, "<s>1234567 it's</s>"]:
        assert ours.encode(text).ids == theirs.encode(text).ids
        assert ours.decode(ours.encode(text).ids) == theirs.decode(theirs.encode(text).ids)


def test_a_start_token_that_a_template_adds_is_added(save_llama: Callable[..., Path], tmp_path: Path) -> None:
    source = save_llama(tokenizer=False)
    made = byte_level("llama-bpe", source)
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made.save(str(source / "tokenizer.json"))
    convert(source, tmp_path / "m.gguf", "gguf")
    assert field(tmp_path / "m.gguf", "tokenizer.ggml.add_bos_token") is True


def test_a_tokenizer_that_gguf_has_no_words_for_is_refused(save_llama: Callable[..., Path], tmp_path: Path) -> None:
    source = save_llama(tokenizer=False)
    made = byte_level("gpt-2", source)
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(source / "tokenizer.json"))
    with pytest.raises(ZhenError, match="no name for"):
        convert(source, tmp_path / "m.gguf", "gguf")
    with pytest.raises(ZhenError, match="at most the 300 rows"):
        convert(save_llama(config={"vocab_size": 300}), tmp_path / "m.gguf", "gguf")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("01ab", max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)


KEYS = ("model", "added_tokens", "pre_tokenizer", "normalizer", "post_processor")


@settings(max_examples=150, deadline=None)
@given(
    table=st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, JSON)),
    model=st.fixed_dictionaries({}, optional=dict.fromkeys(("vocab", "merges", "byte_fallback", "unk_token"), JSON)),
    config=st.dictionaries(st.sampled_from(["added_tokens_decoder", "bos_token", "chat_template"]), JSON),
)
def test_tokenizer_files_of_any_content_are_read_or_refused(
    table: dict[str, Any], model: dict[str, Any], config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    made = {"model": {"type": "BPE", "vocab": {"a": 0}, **model}, **table}
    (folder / "tokenizer.json").write_text(json.dumps(made))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with contextlib.suppress(ZhenError):
        read_tokenizer(folder, {})
