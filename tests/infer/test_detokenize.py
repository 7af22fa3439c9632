"""Text shown while it comes: the pieces together are the whole, and no piece shows half a character."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from zhen.infer.detokenize import BROKEN, Detokenizer, Stops


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


ENDS = st.lists(st.text("ab🙂中", min_size=1, max_size=4), max_size=3)


@given(text=st.text("ab🙂中", max_size=30), stops=ENDS)
def test_a_stop_text_is_never_shown_and_nothing_before_it_is_lost(text: str, stops: list[str]) -> None:
    shown, ends, pieces, stopped = Detokenizer(Bytes(), b"x"), Stops(stops), [], False
    for token in text.encode():  # characters of up to four tokens
        piece, stopped = ends.add(shown.add(token))
        pieces.append(piece)
        if stopped:
            break
    else:
        pieces.append(ends.rest())
    # each token may end the text: the first stop text that is whole, and of several the one that begins first
    wholes = [end for end in range(len(text) + 1) if any(text[:end].endswith(stop) for stop in stops)]
    wanted = text
    if wholes:
        so_far = text[: wholes[0]]
        wanted = so_far[: min(so_far.index(stop) for stop in stops if stop in so_far)]
    assert stopped == bool(wholes)
    assert "".join(pieces) == wanted


@given(text=st.text("ab", max_size=30), stop=st.text("ab", min_size=1, max_size=4))
def test_no_more_is_held_back_than_may_begin_a_stop_text(text: str, stop: str) -> None:
    ends, shown = Stops([stop]), ""
    for place, letter in enumerate(text, start=1):
        piece, stopped = ends.add(letter)
        shown += piece
        if stopped:
            return
        held = text[len(shown) : place]
        assert stop.startswith(held)
        assert len(held) < len(stop)
