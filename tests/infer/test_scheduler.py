"""The scheduler, on made-up requests: nobody starves, no limit is broken, prompts are cut the same in any company."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhen.infer.scheduler import Scheduler

BLOCK = 4
prompts = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 6)), min_size=1, max_size=12)
"""Of each request: tokens of its prompt, tokens of its answer."""


def run(
    scheduler: Scheduler, requests: list[tuple[int, int]], cancel: frozenset[int] = frozenset()
) -> tuple[dict[int, list[int]], list[int], list[dict[int, int]]]:
    """Drive to the end: a request's shares of prompt, in order; who was admitted when; what was fed, a step each."""
    for id, (prompt, answer) in enumerate(requests):
        scheduler.submit(id, prompt, prompt + answer)
    shares: dict[int, list[int]] = defaultdict(list)
    made: Counter[int] = Counter()
    admitted: list[int] = []
    steps = []
    for step in range(1000):
        if step == 2:
            for id in cancel:
                scheduler.end(id)
        admitted += scheduler.admit()
        feeds = scheduler.feeds()
        if not feeds and not scheduler.waiting:
            break
        steps.append(dict(feeds))
        for id, count in feeds:
            if count:
                shares[id].append(count)
            if sum(shares[id]) == requests[id][0]:
                made[id] += 1
                if made[id] == requests[id][1]:
                    scheduler.end(id)
    assert (scheduler.running, scheduler.waiting) == (0, 0)
    return shares, admitted, steps


@settings(deadline=None)
@given(prompts, st.integers(1, 5), st.integers(1, 17), st.none() | st.integers(1, 60))
def test_all_is_read_within_the_limits_and_first_come_is_first_served(
    requests: list[tuple[int, int]], slots: int, budget: int, room: int | None
) -> None:
    shares, admitted, steps = run(Scheduler(slots, budget, room, BLOCK), requests)
    assert admitted == list(range(len(requests)))
    assert {id: sum(counts) for id, counts in shares.items()} == {id: each[0] for id, each in enumerate(requests)}
    for fed in steps:
        assert 1 <= len(fed) <= slots
        assert sum(fed.values()) <= max(budget, BLOCK)
        if room is not None and len(fed) > 1:
            assert sum(sum(requests[id]) for id in fed) <= room


@settings(deadline=None)
@given(prompts, st.integers(1, 5), st.integers(1, 17))
def test_a_prompt_is_cut_at_multiples_of_the_block(requests: list[tuple[int, int]], slots: int, budget: int) -> None:
    shares, _, _ = run(Scheduler(slots, budget, None, BLOCK), requests)
    for counts in shares.values():
        assert all(count % BLOCK == 0 for count in counts[:-1])


@settings(deadline=None)
@given(prompts, st.integers(1, 5))
def test_an_answer_goes_on_in_every_step_once_begun(requests: list[tuple[int, int]], slots: int) -> None:
    _, _, steps = run(Scheduler(slots, BLOCK, None, BLOCK), requests)
    for id, (_, answer) in enumerate(requests):
        fed = [step for step, each in enumerate(steps) if id in each]
        # the last share of the prompt gives the first token, each step behind it one more
        assert fed[-answer:] == list(range(fed[-1] - answer + 1, fed[-1] + 1))


def test_a_short_prompt_is_not_held_up_by_a_long_one() -> None:
    scheduler = Scheduler(4, BLOCK, None, BLOCK)
    scheduler.submit(0, 1000, 1001)
    scheduler.submit(1, 2 * BLOCK, 20)
    scheduler.admit()
    order = [scheduler.feeds()[0].id for _ in range(5)]
    assert order[:4] == [0, 1, 0, 1]


@settings(deadline=None)
@given(prompts, st.sets(st.integers(0, 11)), st.integers(1, 4))
def test_what_is_given_up_gets_nothing_more(requests: list[tuple[int, int]], gone: set[int], slots: int) -> None:
    _, _, steps = run(Scheduler(slots, 8, None, BLOCK), requests, frozenset(gone))
    assert not any(id in gone for fed in steps[2:] for id in fed)


def test_the_same_block_is_read_once_and_reused() -> None:
    scheduler = Scheduler(4, 100, None, BLOCK)
    scheduler.submit(0, 10, 20, ["a", "b"])
    scheduler.submit(1, 11, 20, ["a", "c"])
    scheduler.admit()
    assert scheduler.feeds() == [(0, 10)]
    scheduler.reuse(1, BLOCK)
    assert scheduler.feeds() == [(0, 0), (1, 7)]
    with pytest.raises(ValueError, match="can't be reused"):
        scheduler.reuse(1, BLOCK)


def test_one_that_needs_more_room_than_there_is_runs_alone() -> None:
    scheduler = Scheduler(4, 100, 10, BLOCK)
    scheduler.submit(0, 50, 60)
    scheduler.submit(1, 1, 2)
    assert scheduler.admit() == [0]
    scheduler.end(0)
    assert scheduler.admit() == [1]
