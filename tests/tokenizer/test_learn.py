"""Learning: the same bytes on every run, the promised layout, errors that say what to change, no noise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

import zhen.tokenizer.learn
from zhen.errors import ZhenError
from zhen.tokenizer.learn import RESERVED, learn_model, learnable_lines
from zhen.tokenizer.settings import TokenizerSettings

SCRIPT = """
import hashlib, sys
from zhen.tokenizer.learn import learn_model
from zhen.tokenizer.settings import TokenizerSettings
texts = [f"line {n:b} 第{n}行\\n\\t{chr(97 + n % 26) * 9} {chr(97 + n % 7)}{chr(97 + n % 11)}" for n in range(300)]
print(hashlib.sha256(learn_model(texts, TokenizerSettings(vocab_size=350))).hexdigest())
"""


def pieces(model: bytes) -> list[str]:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [processor.id_to_piece(index) for index in range(processor.get_piece_size())]


def test_two_processes_learn_the_same_bytes() -> None:
    runs = [subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stderr == b"", "SentencePiece keeps quiet"


def test_pieces_do_not_depend_on_threads(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TokenizerSettings(vocab_size=450, character_coverage=1.0)
    four = pieces(learn_model(texts, settings))
    monkeypatch.setattr(zhen.tokenizer.learn, "THREADS", 1)
    assert pieces(learn_model(texts, settings)) == four


def test_the_model_holds_no_path_of_this_machine(learnt: Path) -> None:
    spec = sentencepiece_model_pb2.ModelProto.FromString((learnt / "tokenizer.model").read_bytes()).trainer_spec
    assert (list(spec.input), spec.model_prefix, spec.num_threads) == ([], "", 4)


def test_the_layout_is_yis_then_newline_then_bytes(learnt: Path) -> None:
    found = pieces((learnt / "tokenizer.model").read_bytes())
    yi = "<unk> <|startoftext|> <|endoftext|> <|Human|> <|Assistant|> <|System|> <|im_start|> <|im_end|> <|im_sep|>"
    assert found[:9] == yi.split()
    assert found[9] == "\n"
    assert found[10:266] == [f"<0x{byte:02X}>" for byte in range(256)]
    assert not any("\n" in piece for piece in found[10:])


def test_no_learnt_piece_holds_two_digits(learnt: Path) -> None:
    found = pieces((learnt / "tokenizer.model").read_bytes())[266:]
    assert {"0", "7"} <= set(found)
    assert not [piece for piece in found if len(piece) > 1 and any(letter.isdigit() for letter in piece)]


def test_names_of_special_pieces_in_the_text_do_no_harm() -> None:
    texts = ["<unk> <0x41> <|im_start|> <|endoftext|> word"] * 300
    found = pieces(learn_model(texts, TokenizerSettings(vocab_size=279)))
    assert len(set(found)) == 279
    assert found[:3] == ["<unk>", "<|startoftext|>", "<|endoftext|>"]


def test_nothing_is_left_out_that_sentencepiece_would_skip() -> None:
    text = f"rare{RESERVED}words\0here\n" + "长" * 70_000 + "\r\ttab"
    lines = list(learnable_lines([text]))
    assert "".join(lines) == text.replace(RESERVED, "").replace("\0", "").replace("\n", "")
    assert max(len(line.encode("utf-8")) for line in lines) < 1 << 16
    settings = TokenizerSettings(vocab_size=287, character_coverage=1.0)
    assert {"长", "\t", "\r", "w"} <= set(pieces(learn_model([text], settings)))


def test_too_few_pieces_for_the_characters_names_numbers_and_a_coverage_that_works() -> None:
    rare = "".join(chr(0x4E00 + number) for number in range(1500))
    texts = [rare, *["山川湖海日月" * 10_000] * 10]
    with pytest.raises(ZhenError, match=r"700 pieces are too few: the text has 1,50\d characters") as caught:
        learn_model(texts, TokenizerSettings(vocab_size=700, character_coverage=1.0))
    assert "8,192" in caught.value.hint
    coverage = float(re.search(r"character_coverage = ([0-9.]+)", caught.value.hint)[1])
    assert len(pieces(learn_model(texts, TokenizerSettings(vocab_size=280, character_coverage=coverage)))) == 280


def test_where_no_coverage_would_do_only_more_pieces_are_advised() -> None:
    rare = "".join(chr(0x4E00 + number) for number in range(1500))
    with pytest.raises(ZhenError) as caught:
        learn_model([rare], TokenizerSettings(vocab_size=700, character_coverage=1.0))
    assert "character_coverage" not in caught.value.hint


def test_too_many_pieces_for_the_text_names_the_most() -> None:
    with pytest.raises(ZhenError, match=r"5,000 pieces are too many.*expected at most 2\d\d"):
        learn_model(["hello world"], TokenizerSettings(vocab_size=5000))


@pytest.mark.parametrize("texts", [[], ["", "\n"]])
def test_no_text_is_an_error(texts: list[str]) -> None:
    with pytest.raises(ZhenError, match="no text"):
        learn_model(texts, TokenizerSettings(vocab_size=400))


@pytest.mark.parametrize(
    ("field", "value"),
    [("vocab_size", 266), ("character_coverage", 1.5), ("max_piece_length", 0), ("sample_bytes", 0)],
)
def test_impossible_settings_are_found(field: str, value: float) -> None:
    assert [problem[0] for problem in TokenizerSettings(**{field: value}).problems()] == [field]
    assert list(TokenizerSettings().problems()) == []
