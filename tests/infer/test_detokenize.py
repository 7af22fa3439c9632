"""Text shown while it comes: the pieces together are the whole, and no piece shows half a character."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from zhen.infer.detokenize import BROKEN, Detokenizer


class Bytes:
    """A tokenizer of byte-fallback tokens only: id n is the byte n."""

    vocab_size = 256

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode("utf-8", errors="replace")


class Words:
    """A tokenizer that, like LLaMA's, drops the blank in front of the first word it decodes."""

    words = (" the", " town", "s", " 中", "文")
    vocab_size = 5

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.words[token] for token in ids).removeprefix(" ")


@given(prompt=st.text(max_size=9), text=st.text(max_size=40).filter(lambda text: BROKEN not in text))
def test_pieces_are_whole_characters_and_make_up_the_text(prompt: str, text: str) -> None:
    shown = Detokenizer(Bytes(), prompt.encode())
    pieces = [shown.add(token) for token in text.encode()]
    assert BROKEN not in "".join(pieces)
    assert "".join(pieces) == text
    assert shown.rest() == ""


def test_a_character_appears_with_its_last_byte() -> None:
    shown = Detokenizer(Bytes(), b"x")
    assert [shown.add(token) for token in "a中🙂".encode()] == ["a", "", "", "中", "", "", "", "🙂"]


def test_bytes_that_never_became_a_character_are_shown_at_the_end() -> None:
    shown = Detokenizer(Bytes(), b"x")
    assert [shown.add(token) for token in b"a\xe4\xb8"] == ["a", "", ""]
    assert set(shown.rest()) == {BROKEN}
    assert shown.rest() == ""


def test_blanks_between_words_are_kept() -> None:
    shown = Detokenizer(Words(), [0])
    assert [shown.add(token) for token in (1, 2, 3, 4)] == [" town", "s", " 中", "文"]


def test_ids_that_the_tokenizer_lacks_have_no_text() -> None:
    shown = Detokenizer(Bytes(), b"x")
    assert [shown.add(300), shown.add(ord("y"))] == ["", "y"]
