"""Held-out documents: a pure function of seed and ids, by share and bytes, never over a fifth."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zhen.data.holdout import Cut, cut_language, ranks


def chosen(ids: list[bytes], sizes: list[int], cut: Cut | None, seed: int) -> set[bytes]:
    if cut is None:
        return set()
    held = (ranks(ids, seed) <= cut.rank) & (np.array(sizes) <= cut.most_bytes)
    return {each for each, is_held in zip(ids, held, strict=True) if is_held}


def identifiers(count: int) -> list[bytes]:
    return [hashlib.md5(str(number).encode()).digest() for number in range(count)]


@given(
    st.lists(st.integers(1, 10_000), min_size=1, max_size=200),
    st.floats(0.001, 0.2),
    st.integers(0, 50_000),
    st.integers(),
)
def test_held_out_is_enough_or_all_that_may_be(sizes: list[int], share: float, least: int, seed: int) -> None:
    seed %= 1 << 60
    ids = identifiers(len(sizes))
    cut = cut_language(ids, np.array(sizes), seed=seed, share=share, least_bytes=least)
    held = chosen(ids, sizes, cut, seed)
    size_of = dict(zip(ids, sizes, strict=True))
    total = sum(size_of[each] for each in held)
    assert (len(held), total) == ((cut.documents, cut.bytes) if cut else (0, 0))
    assert total <= sum(sizes) / 5
    if not (len(held) >= share * len(sizes) and total >= min(least, sum(sizes) // 5)):
        rest = [size for each, size in size_of.items() if each not in held and size <= sum(sizes) // 5]
        assert not rest or total + max(rest) > sum(sizes) // 5


@given(st.permutations(range(60)))
def test_the_order_of_documents_does_not_matter(order: list[int]) -> None:
    ids, sizes = identifiers(60), [100 + 7 * number for number in range(60)]
    plain = cut_language(ids, np.array(sizes), seed=5, share=0.1, least_bytes=0)
    mixed = cut_language(
        [ids[index] for index in order], np.array([sizes[index] for index in order]), seed=5, share=0.1, least_bytes=0
    )
    assert plain == mixed
    assert plain.documents == 6


def test_another_seed_holds_out_others() -> None:
    ids, sizes = identifiers(1000), np.full(1000, 100)
    held = [chosen(ids, sizes, cut_language(ids, sizes, seed=s, share=0.05, least_bytes=0), s) for s in (1, 2)]
    assert [len(each) for each in held] == [50, 50]
    assert len(held[0] & held[1]) < 15


def test_no_share_holds_out_nothing() -> None:
    assert cut_language(identifiers(9), np.full(9, 10), seed=1, share=0.0, least_bytes=100) is None
