"""Loading: text comes back, real tokenizers load, what is missing or damaged is an error of ours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zhen.errors import ZhenError
from zhen.tokenizer.load import Tokenizer, load_tokenizer

VALID = st.text(st.characters(codec="utf-8"))


@pytest.fixture(scope="module")
def tokenizer(learnt: Path) -> Tokenizer:
    return load_tokenizer(learnt)


@settings(max_examples=400, deadline=None)
@given(VALID)
@example(" leading and trailing ")
@example("\r\n\t\0\x0b\u2028\u200b\u200d\ufeff")
@example("ＡＢＣ１２３（全角）ﬁ½é e\u0301")
def test_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text.replace("\u2581", " ")


@settings(max_examples=100, deadline=None)
@given(st.lists(VALID))
def test_batches_and_threads_change_nothing(tokenizer: Tokenizer, texts: list[str]) -> None:
    alone = [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch(texts) == alone == tokenizer.encode_batch(texts, threads=3)


def test_newlines_and_digits_are_single_pieces(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("\n\n") == [9, 9]
    assert len(tokenizer.encode("1234567")) == 7


def test_a_rare_character_becomes_its_bytes(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("𠀀") == [10 + byte for byte in "𠀀".encode()]


def test_special_ids_decode_to_nothing(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([1, 6, *tokenizer.encode("湖灯节"), 7, 0, 2]) == "湖灯节"


@pytest.mark.parametrize("index", [-1, 450])
def test_an_id_outside_the_vocabulary_is_refused(tokenizer: Tokenizer, index: int) -> None:
    with pytest.raises(ZhenError, match=f"token id {index}; expected 0 to 449"):
        tokenizer.decode([5, index])


def test_half_a_surrogate_pair_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ZhenError, match=r"character 3: text holds U\+D800"):
        tokenizer.encode("ab\ud800")


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json"])
@pytest.mark.parametrize(
    "content", [b"", b"hello", b"{}", b"\0" * 999, b'{"version": "1.0", "model": {"type": "BPE"}}']
)
def test_garbage_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ZhenError, match=f"{name}: cannot be read"):
        load_tokenizer(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_every_cut_of_a_model_is_refused_or_loads(learnt: Path, tmp_path: Path) -> None:
    content = (learnt / "tokenizer.model").read_bytes()
    for length in range(1, len(content), len(content) // 40):
        (tmp_path / "tokenizer.model").write_bytes(content[:length])
        with pytest.raises(ZhenError, match=r"tokenizer\.model: cannot be read"):
            load_tokenizer(tmp_path)


def test_an_lfs_pointer_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(ZhenError, match="Git LFS pointer") as caught:
        load_tokenizer(tmp_path)
    assert "git lfs pull" in caught.value.hint


def test_missing_folder_and_missing_files_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ZhenError, match=r"looked for tokenizer\.model and tokenizer\.json"):
        load_tokenizer(tmp_path)
    with pytest.raises(ZhenError, match="no such folder"):
        load_tokenizer(tmp_path / "nowhere")


def test_a_json_without_end_of_text_is_refused_until_named(tmp_path: Path) -> None:
    model = tokenizers.models.BPE({"a": 0, "</s>": 1}, [])
    tokenizers.Tokenizer(model).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ZhenError, match="no end-of-text token"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "</s>"}}))
    assert load_tokenizer(tmp_path).end_of_text == 1


@pytest.mark.parametrize(
    ("name", "size", "ends"),
    [
        ("llama", 32_000, (0, 1, 2)),
        ("mistral-v1", 32_000, (0, 1, 2)),
        ("mistral-v3", 32_768, (0, 1, 2)),
        ("yi-1.5", 64_000, (0, 1, 2)),
        ("falcon", 65_024, (-1, 11, 11)),
    ],
)
def test_real_tokenizers_load(shared_data: Path, name: str, size: int, ends: tuple[int, int, int]) -> None:
    tokenizer = load_tokenizer(shared_data / "tokenizers" / name)
    assert tokenizer.vocab_size == size
    assert (tokenizer.unknown, tokenizer.start_of_text, tokenizer.end_of_text) == ends
    texts = ["A town by the lake.", "溪桥镇的湖灯节始于二〇二四年。", "In 2024.", "def f(x):\n    return x\n"]
    # this Yi-1.5 puts a space before the text behind each added token, and digits and blanks are such
    for text in texts[: 2 if name == "yi-1.5" else None]:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_real_model_and_json_of_one_tokenizer_agree(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "tokenizers" / "llama"
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(folder / name, tmp_path / name)
    texts = json.loads((shared_data / "dirty" / "blns.json").read_text(encoding="utf-8"))
    texts = [text for text in texts if text and "<s>" not in text]
    assert load_tokenizer(tmp_path).encode_batch(texts) == load_tokenizer(folder).encode_batch(texts)
