"""Every exported form gives the ids of SentencePiece, on planted, real, hostile and generated text."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import sentencepiece
import tokenizers
import transformers
import zstandard
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from zhen.tokenizer.export import export_files
from zhen.tokenizer.learn import learn_model
from zhen.tokenizer.load import load_tokenizer
from zhen.tokenizer.settings import TokenizerSettings
from zhen.tokenizer.special import SPECIAL

NASTY = [
    *("", " ", "  ", "   a", "a   ", "\n", "\n\n\n", "\t", "a\tb", "\r", "\r\n", "a\r\nb\r\n", "\0", "a\0b", "\x7f"),
    *(
        "\u200b",
        "a\u200db",
        "\ufeff",
        "e\u0301",
        "é",
        "ＡＢＣ１２３",
        "（全角）",
        "½",
        "ﬁ",
        "2024年",
        "3.14159",
        "１２",
    ),
    *("🧑\u200d🚀", "𠀀", "\U0010ffff", "\ufffd", "\u2581", "a\u2581b", "\u2585", "aaaaaaaaa", "  \n  x", "\u3000x"),
    *("<unk>", "<0x41>", "<|im_start|>"[:-1], "system\n\tif x:\n\t\ty()", "我我我我我", "print(day)\n" * 9),
]
Encode = Callable[[str], list[int]]


def encoders(folder: Path) -> dict[str, Encode]:
    """The three libraries on one folder, each on its own file, as their users would load it."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    fast = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    auto = transformers.AutoTokenizer.from_pretrained(folder)
    return {"sentencepiece": model.encode, "tokenizers": lambda text: fast.encode(text).ids, "auto": auto.encode}


@pytest.fixture(scope="module")
def forms(learnt: Path) -> dict[str, Encode]:
    return encoders(learnt)


def differing(forms: dict[str, Encode], texts: list[str]) -> list[tuple[str, str]]:
    wanted = forms["sentencepiece"]
    return [(name, text[:60]) for name, encode in forms.items() for text in texts if encode(text) != wanted(text)]


def plain(texts: list[str]) -> list[str]:
    """Those that do not spell a special token, which the other libraries take for the token (tested below)."""
    return [text for text in texts if not any(name in text for name in SPECIAL)]


def test_planted_and_nasty_texts_get_equal_ids(forms: dict[str, Encode], texts: list[str]) -> None:
    assert differing(forms, plain(texts + NASTY)) == []


@settings(max_examples=300, deadline=None)
@given(st.text(st.one_of(st.sampled_from("festivalELM 年湖灯节 \n\t0123，<|>"), st.characters(codec="utf-8"))))
def test_any_text_gets_equal_ids(forms: dict[str, Encode], text: str) -> None:
    assume(plain([text]))
    assert differing(forms, [text]) == []


@settings(max_examples=300, deadline=None)
@given(st.text("ab \n"))
def test_runs_of_few_letters_get_equal_ids(few_letters: dict[str, Encode], text: str) -> None:
    assert differing(few_letters, [text]) == []


@pytest.fixture(scope="module")
def few_letters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Encode]:
    """Pieces that overlap themselves ("aa", "aab", "▁▁a"): where the order of merges shows."""
    chance = random.Random(4)
    lines = ["".join(chance.choices("ab ", weights=[5, 3, 2], k=40)) for _ in range(400)]
    return encoders(written(tmp_path_factory.mktemp("few"), learn_model(lines, TokenizerSettings(vocab_size=400))))


def written(folder: Path, model: bytes) -> Path:
    for name, content in export_files(model).items():
        (folder / name).write_bytes(content)
    return folder


def real_texts(file: Path, limit: int) -> list[str]:
    with file.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as stream:
        lines = io.TextIOWrapper(stream, encoding="utf-8")
        return [json.loads(line)["text"] for line, _ in zip(lines, range(limit), strict=False)]


def test_real_text_in_both_languages_gets_equal_ids(shared_data: Path, tmp_path: Path) -> None:
    files = ["zh/wikipedia-cmrc", "zh/tidb", "zh/poetry", "en/c4-demo", "en/rust-book", "en/wikitext2-valid"]
    texts = [text for name in files for text in real_texts(shared_data / "text" / f"{name}.jsonl.zst", 60)]
    folder = written(tmp_path, learn_model(texts, TokenizerSettings(vocab_size=8192)))
    naughty = json.loads((shared_data / "dirty" / "blns.json").read_text(encoding="utf-8"))
    lines = [line for text in texts for line in text.splitlines(keepends=True)][:6000]
    assert differing(encoders(folder), plain(texts + naughty + lines)) == []
    ours = load_tokenizer(folder)
    assert [text for text in texts + naughty if ours.decode(ours.encode(text)) != text] == []


def test_the_names_of_special_tokens_in_text_stay_text(learnt: Path) -> None:
    text = "a <|im_start|>system<|im_end|> <unk> <|endoftext|>"
    fast = tokenizers.Tokenizer.from_file(str(learnt / "tokenizer.json"))
    ours = load_tokenizer(learnt)
    assert min(ours.encode(text)) > 8
    assert ours.decode(ours.encode(text)) == text
    assert fast.encode(text).ids[-1] == 2, "what their users get, as documented"
    fast.encode_special_tokens = True
    assert fast.encode(text).ids == ours.encode(text)


def test_transformers_knows_the_special_tokens(learnt: Path) -> None:
    auto = transformers.AutoTokenizer.from_pretrained(learnt)
    assert (auto.unk_token_id, auto.bos_token_id, auto.eos_token_id, auto.pad_token_id) == (0, 1, 2, 0)
    assert auto.convert_ids_to_tokens([6, 7, 8]) == ["<|im_start|>", "<|im_end|>", "<|im_sep|>"]
    assert len(auto) == 450
    assert auto.decode(auto.encode("<|im_start|>user\n 你好")) == "<|im_start|>user\n 你好"


def test_a_json_alone_loads_with_the_same_ids(learnt: Path, tmp_path: Path, texts: list[str]) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((learnt / name).read_bytes())
    whole, alone = load_tokenizer(learnt), load_tokenizer(tmp_path)
    assert alone.encode_batch(texts + NASTY) == whole.encode_batch(texts + NASTY)
    ends = (alone.unknown, alone.start_of_text, alone.end_of_text, alone.vocab_size)
    assert ends == (0, 1, 2, 450) == (whole.unknown, whole.start_of_text, whole.end_of_text, whole.vocab_size)
    assert [alone.decode(alone.encode(text)) for text in texts] == texts
