"""The order of sequences: a permutation by epoch, sources spread by their shares, the same wherever one starts."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhen.errors import ZhenError
from zhen.train.order import Order, Quota, largest_remainder, permute, plan_phases, plan_quotas
from zhen.train.phases import Phase


def order_of(*quotas: tuple[str, int, int], seed: int = 1) -> Order:
    made = [Quota(name, have * 8 + 1, have, actual, actual) for name, have, actual in quotas]
    return Order([made], seed=seed, sequence_length=8)


@given(size=st.integers(1, 5000), key=st.binary(max_size=8))
@settings(deadline=None, max_examples=60)
def test_permute_is_a_bijection(size: int, key: bytes) -> None:
    out = permute(np.arange(size, dtype=np.uint64), size, key)
    assert sorted(out.tolist()) == list(range(size))


def test_permute_reaches_far_into_a_trillion_without_memory() -> None:
    size = 10**12 + 7
    index = np.arange(size - 1000, size, dtype=np.uint64)
    out = permute(index, size, b"key")
    assert len(set(out.tolist())) == 1000
    assert out.max() < size


def test_permute_looks_random() -> None:
    out = permute(np.arange(4096, dtype=np.uint64), 4096, b"key").astype(float)
    assert abs(np.corrcoef(out[:-1], out[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(np.arange(4096), out)[0, 1]) < 0.05


def test_other_seeds_and_epochs_give_other_permutations() -> None:
    first = order_of(("a", 100, 200)).sequences(0, 200)[1].tolist()
    other = order_of(("a", 100, 200), seed=2).sequences(0, 200)[1].tolist()
    assert first != other
    assert first[:100] != first[100:]


def test_every_epoch_holds_each_sequence_once() -> None:
    _, numbers = order_of(("a", 37, 100)).sequences(0, 100)
    counts = np.bincount(numbers[:74], minlength=37)
    assert counts.tolist() == [2] * 37
    assert len(set(numbers[74:].tolist())) == 26


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_behind_the_last_sequence_each_source_goes_on_where_it_was(data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=3).filter(any))
    order = order_of(*((f"source {n}", 7, count) for n, count in enumerate(counts)))
    sources, numbers = order.sequences(0, 3 * order.total)
    for source, count in enumerate(counts):
        seen = np.bincount(numbers[sources == source], minlength=7)
        assert seen.sum() == 3 * count
        assert seen.max() - seen.min() <= 1  # pass by pass, across the end
    start = data.draw(st.integers(0, 3 * order.total))
    assert order.sequences(start, 3 * order.total)[1].tolist() == numbers[start:].tolist()


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_any_part_is_a_part_of_the_whole(data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=4).filter(any))
    order = order_of(*((f"source {n}", 7, count) for n, count in enumerate(counts)))
    start = data.draw(st.integers(0, order.total - 1))
    stop = data.draw(st.integers(start + 1, order.total))
    whole, part = order.sequences(0, order.total), order.sequences(start, stop)
    assert part[0].tolist() == whole[0][start:stop].tolist()
    assert part[1].tolist() == whole[1][start:stop].tolist()
    assert np.bincount(whole[0], minlength=len(counts)).tolist() == counts


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=5), st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_every_window_holds_the_mixture_within_one_percent(counts: list[int], start: int) -> None:
    order = order_of(*((f"source {n}", 100, count) for n, count in enumerate(counts)))
    width = 100 * len(counts)
    start = min(start, max(0, order.total - width))
    sources, _ = order.sequences(start, min(order.total, start + width))
    found = np.bincount(sources, minlength=len(counts)) / len(sources)
    wanted = np.array(counts) / order.total
    assert np.abs(found - wanted).max() <= 0.01 or len(sources) < width


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_phases_stand_one_behind_the_other_and_share_the_passes_over_a_source(data: st.DataObject) -> None:
    phases = data.draw(
        st.lists(st.lists(st.integers(0, 30), min_size=2, max_size=2).filter(any), min_size=1, max_size=4)
    )
    made = [[Quota(name, 57, 7, n, n) for name, n in zip("ab", counts, strict=True)] for counts in phases]
    order = Order(made, seed=3, sequence_length=8)
    sources, numbers = order.sequences(0, order.total)
    ends = np.cumsum([sum(counts) for counts in phases])
    assert order.total == ends[-1]
    for counts, own in zip(phases, np.split(sources, ends[:-1]), strict=True):
        assert np.bincount(own, minlength=2).tolist() == counts
    for source in (0, 1):
        seen = numbers[sources == source]
        passes = [seen[at : at + 7].tolist() for at in range(0, len(seen), 7)]
        assert all(len(set(one)) == len(one) for one in passes)  # no sequence twice before all were there
    start = data.draw(st.integers(0, order.total))
    beyond = order.sequences(start, order.total + 3 * sum(phases[-1]))
    assert beyond[1][: order.total - start].tolist() == numbers[start:].tolist()
    assert np.bincount(beyond[0][order.total - start :], minlength=2).tolist() == [3 * n for n in phases[-1]]


def test_phases_are_whole_steps_and_together_keep_to_max_epochs() -> None:
    phases = [Phase(share=0.25, mixture={"a": 1.0}), Phase(share=0.75, mixture={"a": 0.5, "b": 0.5})]
    plan = partial(
        plan_phases, {"a": 101, "b": 1_001}, phases, sequence_length=10, sequences_per_step=2, section="pretrain"
    )
    first, second = plan(steps=10, max_epochs=2.0)
    assert [(q.source, q.actual) for q in first] == [("a", 6), ("b", 0)]  # two and a half steps: three
    assert [(q.source, q.actual) for q in second] == [("a", 7), ("b", 7)]
    first, second = plan(steps=40, max_epochs=2.5)
    assert [q.actual for q in first] == [20, 0]
    assert [q.actual for q in second] == [5, 55]  # 2.5 passes over ten sequences
    with pytest.raises(ZhenError, match=r"at most max_epochs = 1\b"):
        plan(steps=40, max_epochs=1.0)


def test_what_a_phase_can_not_have_is_said_with_its_place() -> None:
    phases = [Phase(share=0.5, mixture={"web": 1.0}), Phase(share=0.5, mixture={"wbe": 1.0})]
    with pytest.raises(ZhenError, match=r'phases\.1\.mixture: unknown source "wbe"'):
        plan_phases(
            {"web": 1_001},
            phases,
            sequence_length=10,
            steps=4,
            sequences_per_step=2,
            max_epochs=1.0,
            section="pretrain",
        )


def test_largest_remainder_adds_up_and_stays_within_one() -> None:
    assert largest_remainder([0.5, 0.3, 0.2], 11) == [6, 3, 2]
    assert largest_remainder([1.0, 1.0, 1.0], 5) == [2, 2, 1]


def test_without_mixture_sources_give_by_size() -> None:
    quotas = plan_quotas({"b": 301, "a": 101}, None, sequence_length=10, total=40, max_epochs=1.0, section="pretrain")
    assert [(q.source, q.actual) for q in quotas] == [("a", 10), ("b", 30)]


def test_a_small_source_is_capped_and_the_others_give_more() -> None:
    sizes = {"small": 101, "large": 10_001, "middle": 2_001}
    mixture = {"small": 0.5, "large": 0.25, "middle": 0.25}
    small = {
        q.source: q
        for q in plan_quotas(sizes, mixture, sequence_length=10, total=400, max_epochs=2.0, section="pretrain")
    }
    assert (small["small"].planned, small["small"].actual) == (200, 20)
    assert small["large"].actual == small["middle"].actual == 190


@pytest.mark.parametrize(
    ("mixture", "total", "said"),
    [
        ({"wbe": 1.0}, 5, 'unknown source "wbe"; expected one of tiny, web'),
        ({"tiny": 1.0}, 5, 'source "tiny" has 5 tokens'),
        ({"web": 1.0}, 41, "410 tokens are 4.10 times what the sources have; expected at most max_epochs = 4"),
    ],
)
def test_impossible_mixtures_are_refused(mixture: dict[str, float], total: int, said: str) -> None:
    with pytest.raises(ZhenError, match=said):
        plan_quotas(
            {"web": 101, "tiny": 5}, mixture, sequence_length=10, total=total, max_epochs=4.0, section="pretrain"
        )
