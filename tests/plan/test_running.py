"""A run as a whole and its serving: against simulated failures, published limits and sums by hand."""

from __future__ import annotations

import random

import pytest

from zhen.model.config import PRESETS
from zhen.plan.data import PAGE_BYTES, RATES, data_work
from zhen.plan.devices import DEVICES
from zhen.plan.running import best_interval, checkpoints, goodput, whole_run
from zhen.plan.serving import serving


def simulated(interval: float, save: float, between: float, recovery: float) -> float:
    """Share of the time that makes progress where failures come at random, one in `between` seconds on average."""
    draw = random.Random(5)
    clock = progress = 0.0
    for _ in range(4000):
        until = draw.expovariate(1 / between)
        progress += (until // interval) * (interval - save)
        clock += until + recovery
    return progress / clock


@pytest.mark.parametrize(
    ("save", "between", "recovery"), [(30.0, 10_000.0, 600.0), (5.0, 178_000.0, 605.0), (120.0, 9_000.0, 700.0)]
)
def test_the_closed_form_is_the_best_interval_of_simulated_failures(
    save: float, between: float, recovery: float
) -> None:
    interval = best_interval(save, between, recovery)
    got = simulated(interval, save, between, recovery)
    best = max(simulated(interval * factor, save, between, recovery) for factor in (0.25, 0.5, 0.7, 1.4, 2, 4))
    assert got > best - 0.005
    assert goodput(interval, save, between, recovery) == pytest.approx(got, abs=0.03)


def test_more_devices_fail_more_often_and_save_faster() -> None:
    few, many = (checkpoints(PRESETS["yi-34b"], count, 8, 5.0) for count in (64, 1024))
    assert few.bytes == pytest.approx(12 * 34.389e9, rel=1e-4)
    assert many.hours_between_failures == few.hours_between_failures / 16
    assert many.seconds == few.seconds / 16
    assert many.interval_steps < few.interval_steps


def test_failures_come_as_often_as_llama_3_saw_them() -> None:
    made = checkpoints(PRESETS["yi-34b"], 16_384, 8, 5.0)
    assert 54 * 24 / made.hours_between_failures == pytest.approx(419)


def test_a_run_is_its_steps_its_hours_and_their_price() -> None:
    run = whole_run(
        PRESETS["yi-6b"],
        DEVICES["H100"],
        64,
        steps=3600,
        tokens_per_step=10**6,
        sequence_length=4096,
        step_seconds=2.0,
        share=0.5,
    )
    assert run.days == pytest.approx(4 / 24)
    assert run.device_hours == pytest.approx(256)
    assert run.cost == pytest.approx(256 * 3.0)
    attention = 6 * 32 * 4096 * 4096
    assert run.flops == pytest.approx(3600e6 * (6 * (6.061e9 - 64_000 * 4096) + attention), rel=1e-3)


def test_work_on_data_grows_with_it_and_costs_what_the_rates_say() -> None:
    small, large = data_work(1e12), data_work(3e15)
    assert large.hours_of_cores == pytest.approx(3000 * small.hours_of_cores)
    assert small.core_hours["the gate"] == pytest.approx(1e12 / PAGE_BYTES / RATES["the gate"] / 3600)
    assert small.storage_bytes["kept"] < small.storage_bytes["documents"] < small.storage_bytes["raw"]
    assert 1e12 < large.tokens < 1e13


# what memory's bandwidth allows a 34B in 4 bits, by hand: 936, 1,008, 4,800 GB/s over 17.2 GiB
@pytest.mark.parametrize(("card", "limit"), [("3090", 51), ("4090", 55), ("H200", 264)])
def test_decoding_is_bound_by_bandwidth(card: str, limit: float) -> None:
    found = [one for one in serving(PRESETS["yi-34b"], DEVICES[card], (1024,)) if one.bits == 4 and one.batch == 1]
    assert found[0].devices == 1
    assert found[0].tokens_per_second == pytest.approx(limit, rel=0.05)


def test_a_larger_batch_is_the_largest_that_fits() -> None:
    card = DEVICES["4090"]
    for one in serving(PRESETS["yi-6b"], card, (4096,)):
        assert one.total_bytes <= one.devices * (card.memory - 1e9)
        if one.batch > 1:
            more = one.total_bytes + one.cache_bytes / one.batch
            assert more > one.devices * (card.memory - 1e9)
