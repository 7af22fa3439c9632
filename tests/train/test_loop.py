"""The loop: accumulation is the whole batch, non-finite numbers stop it, and it learns."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Callable

import msgspec
import pytest
import torch

from zhen.errors import ZhenError
from zhen.model.config import PRESETS
from zhen.model.transformer import Transformer, initialise
from zhen.train.batch import Batch
from zhen.train.health import LONG_SECONDS, Diverged, Guard, RateWatch, Rewind, SpikeWatch, Verdict
from zhen.train.kernel import precision
from zhen.train.loop import CrossEntropy, Update, accumulate, clip_gradient, train
from zhen.train.optimizer import Optimizer
from zhen.train.peak import matmul_peak
from zhen.train.settings import Health, PretrainSettings

SETTINGS = PretrainSettings(tokens=100, tokens_per_step=10, sequence_length=5, learning_rate=1e-2)


def fresh() -> Transformer:
    model = Transformer(msgspec.structs.replace(PRESETS["micro"], vocab_size=50))
    initialise(model, 1)
    return model


def random_batch(seed: int, masked: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 50, (6, 17), generator=generator)
    mask = torch.ones(6, 16, dtype=torch.bool)
    if masked:  # 0 to 15 targets a row: a mean of micro-batches' means would be another one
        mask = torch.arange(16) < torch.tensor([0, 1, 15, 3, 8, 2])[:, None]
    return Batch(tokens[:, :-1], tokens[:, 1:], mask, torch.zeros(6, 16, dtype=torch.bool))


class Kept:
    """Keeps the updates."""

    def __init__(self) -> None:
        self.updates: list[Update] = []

    def before(self, step: int, batch: Batch) -> None:
        pass

    def after(self, update: Update) -> None:
        self.updates.append(update)


@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_accumulated_is_the_full_batch_with_unequal_masks(size: int) -> None:
    batch, whole, parts = random_batch(1, masked=True), fresh(), fresh()
    loss, tokens = accumulate(whole, batch, micro_batch=None, dtype=torch.float32)
    loss_of_parts, _ = accumulate(parts, batch, micro_batch=size, dtype=torch.float32)
    assert tokens == 29
    torch.testing.assert_close(loss_of_parts, loss)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-7)


def test_the_loss_is_the_mean_over_the_targets_that_count() -> None:
    batch, model = random_batch(2, masked=True), fresh()
    logprobs = model(batch.tokens).log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0]
    loss, _ = accumulate(model, batch, micro_batch=2, dtype=torch.float32)
    torch.testing.assert_close(loss, -logprobs[batch.mask].mean())


def test_masked_targets_have_no_influence() -> None:
    batch = random_batch(3, masked=True)
    changed = Batch(batch.tokens, torch.where(batch.mask, batch.targets, 7), batch.mask, batch.document_starts)
    losses = [accumulate(fresh(), b, micro_batch=None, dtype=torch.float32)[0] for b in (batch, changed)]
    assert torch.equal(*losses)


def test_the_plain_and_the_fused_attention_agree() -> None:
    batch, plain, fused = random_batch(4), fresh(), fresh()
    with precision(torch.device("cpu"), torch.float32, 16):
        ours = plain(batch.tokens)
    torch.testing.assert_close(ours, fused(batch.tokens), rtol=1e-4, atol=1e-5)


def test_a_long_gradient_is_clipped_to_the_limit() -> None:
    model = fresh()
    accumulate(model, random_batch(5), micro_batch=None, dtype=torch.float32)
    gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
    before = clip_gradient(Optimizer(model, SETTINGS), 0.25)
    torch.testing.assert_close(before, gradients.norm())
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in model.parameters()]).norm(), torch.tensor(0.25))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_update(value: float) -> None:
    model, kept = fresh(), Kept()
    with torch.no_grad():
        model.model.norm.weight[3] = value
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ZhenError, match="step 1: the loss is nan; expected a finite number; the weights were not"):
        train_on(model, kept, steps=1)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, equal_nan=True)
    assert kept.updates == []


def train_on(model: Transformer, kept: Kept, steps: int, dtype: torch.dtype = torch.float32) -> None:
    train(
        model,
        Optimizer(model, SETTINGS),
        repetitive,
        lambda step: 1e-2 * (1 - step / steps),
        kept,
        steps=range(steps),
        micro_batch=4,
        gradient_clip=1.0,
        dtype=dtype,
    )


def repetitive(step: int) -> Batch:
    """Sequences in which every second token is a coin and the next one repeats it plus one: ln 2 / 2 nats a token."""
    coins = torch.randint(0, 2, (16, 9), generator=torch.Generator().manual_seed(step)) * 10 + 5
    tokens = torch.stack([coins, coins + 1], dim=2).flatten(1)[:, :17]
    ones = torch.ones(16, 16, dtype=torch.bool)
    return Batch(tokens[:, :-1], tokens[:, 1:], ones, ~ones)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_falls_to_the_entropy_of_the_text_and_not_below(dtype: torch.dtype) -> None:
    kept = Kept()
    train_on(fresh(), kept, steps=80, dtype=dtype)
    losses = [update.loss for update in kept.updates]
    entropy = math.log(2) / 2
    assert losses[0] == pytest.approx(math.log(50), rel=0.05)
    assert entropy * 0.93 < sum(losses[-10:]) / 10 < entropy * 1.12


def test_a_rate_that_stays_low_is_said_once() -> None:
    watch = RateWatch()
    said = [watch.slow(100, 1.0) for _ in range(20)]
    said += [watch.slow(100, 4.0) for _ in range(40)]
    (entry,) = [entry for entry in said if entry]
    assert entry[0] < 50 <= 100 == entry[1]


def test_a_short_slow_stretch_is_not_said() -> None:
    watch = RateWatch()
    seconds = [1.0] * 20 + [3.0] * int(LONG_SECONDS / 6) + [1.0] * 20
    assert not any(watch.slow(100, spent) for spent in seconds)


def test_the_peak_is_that_of_a_product_that_was_made() -> None:
    peak = matmul_peak(torch.device("cpu"), seconds=0.05)
    assert 1e8 < peak < 1e15


def test_an_update_that_is_no_number_is_skipped_where_asked_and_several_in_a_row_end_the_run() -> None:
    guard = Guard(Health(non_finite="skip", skips_in_a_row=3))
    given = [(2.0, 1.0), (math.nan, 1.0), (2.0, math.inf), (2.0, 1.0), (math.nan, 1.0), (math.nan, 1.0)]
    assert [guard.judge(n, *values).skip for n, values in enumerate(given, 1)] == [False, True, True, False, True, True]
    with pytest.raises(Diverged, match="step 7: the loss is nan, 3 updates in a row; expected a finite number"):
        guard.judge(7, math.nan, math.nan)


def noise(count: int, seed: int = 3) -> list[tuple[float, float]]:
    """Losses and gradient norms of a run to which nothing happens."""
    shaken = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed)).tolist()
    return [(2.0 + 3.0 * math.exp(-at / 60) + 0.05 * a, math.exp(0.1 * b)) for at, (a, b) in enumerate(shaken)]


def test_what_stands_out_is_left_out_where_asked_but_not_for_ever() -> None:
    given = noise(300)
    for at in (100, 200):
        given[at] = (given[at][0], 9.0)
    given[250:256] = [(loss + 4.0, norm) for loss, norm in given[250:256]]
    guard = Guard(Health(spike="skip", skips_in_a_row=4))
    verdicts = [guard.judge(number, *values) for number, values in enumerate(given)]
    assert [at for at, verdict in enumerate(verdicts) if verdict.spike] == [100, 200, *range(250, 256)]
    assert [at for at, verdict in enumerate(verdicts) if verdict.skip] == [100, 200, *range(250, 254)]
    assert [verdict.spike.what for verdict in verdicts if verdict.spike] == ["gradient norm"] * 2 + ["loss"] * 6


def test_what_stands_out_several_times_in_a_row_goes_back_so_often_and_no_more() -> None:
    given = noise(200)
    given[150:160] = [(9.0, 1.0)] * 10
    guard = Guard(Health(spike="rewind", rewind_after=3, rewinds=1))
    for number, values in enumerate(given[:152], 1):
        assert not guard.judge(number, *values).skip
    with pytest.raises(Rewind) as found:
        guard.judge(153, *given[152])
    assert found.value.update == 151
    guard.rewinds = 1
    assert [guard.judge(number, *given[number - 1]).skip for number in range(154, 160)] == [False] * 6


def test_updates_without_a_finite_number_between_spikes_do_not_move_the_first() -> None:
    given = noise(200)
    nan = (math.nan, 1.0)
    given[150:158] = [(9.0, 1.0), nan, nan, (9.0, 1.0), nan, nan, nan, (9.0, 1.0)]
    health = Health(spike="rewind", non_finite="skip", rewind_after=3, skips_in_a_row=4)
    guard = Guard(health)
    for number, values in enumerate(given[:157], 1):
        guard.judge(number, *values)
    second = Guard(health)
    second.load(msgspec.json.decode(msgspec.json.encode(guard.state())))
    for each in (guard, second):
        with pytest.raises(Rewind) as found:
            each.judge(158, *given[157])
        assert found.value.update == 151
    assert 158 - 1 - health.reach <= 151 - 1 - health.rewind_steps


@pytest.mark.parametrize("cut", [20, 100, 151])
def test_a_guard_that_goes_on_judges_as_if_it_had_not_stopped(cut: int) -> None:
    given = noise(200)
    given[150:153] = [(9.0, math.nan), (9.0, 1.0), (2.0, 30.0)]
    health = Health(spike="skip", non_finite="skip")
    whole, first, second = Guard(health), Guard(health), Guard(health)
    expected = [whole.judge(number, *values) for number, values in enumerate(given)]
    found = [first.judge(number, *values) for number, values in enumerate(given[:cut])]
    second.load(msgspec.json.decode(msgspec.json.encode(first.state())))
    found += [second.judge(number, *values) for number, values in enumerate(given[cut:], cut)]
    assert found == expected
    assert sum(verdict.skip for verdict in found) == 3
    assert second.state() == whole.state()
    assert whole.judge(0, 1.0, 1.0) == Verdict()


def test_a_skipped_update_is_as_if_its_batch_had_not_been() -> None:
    model, other, kept = fresh(), fresh(), Kept()
    poisoned = iter([1.0, 1.0, math.nan, 1.0])

    class Poisoned(CrossEntropy):
        def __call__(self, model: Transformer, batch: Batch, dtype: torch.dtype) -> torch.Tensor:
            return super().__call__(model, batch, dtype) * next(poisoned)

    for which, numbers, loss in ((model, [0, 1, 2, 3], Poisoned()), (other, [0, 1, 3], None)):
        train(
            which,
            Optimizer(which, SETTINGS),
            lambda step, numbers=numbers: repetitive(numbers[step]),
            lambda step: 1e-2,
            kept,
            steps=range(len(numbers)),
            micro_batch=None,
            gradient_clip=1.0,
            dtype=torch.float32,
            loss=loss,
            guard=Guard(Health(non_finite="skip")),
        )
    assert [update.skipped for update in kept.updates[:4]] == [False, False, True, False]
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_planted_spikes_are_found_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(600, generator=generator).tolist()
    losses = [2.0 + 3.0 * math.exp(-step / 60) + 0.05 * noise[step] for step in range(600)]
    for step in (300, 301, 450):
        losses[step] += 1.5
    watch = SpikeWatch(6.0)
    assert [step for step, loss in enumerate(losses) if watch.height(loss)] == [300, 301, 450]


def normal(draw: random.Random) -> float:
    return 2.0 + 0.05 * draw.gauss(0, 1)


def two_modes(draw: random.Random) -> float:
    return normal(draw) + 0.4 * (draw.random() < 0.1)


def student(draw: random.Random) -> float:
    return 2.0 + 0.05 * draw.gauss(0, 1) / math.sqrt(draw.gammavariate(1.5, 2.0) / 3)


@pytest.mark.parametrize(("loss", "jump", "most"), [(normal, 0.5, 0), (two_modes, 1.5, 15), (student, 3.0, 15)])
def test_losses_with_heavy_tails_are_seldom_spikes_and_jumps_are_found(
    loss: Callable[[random.Random], float], jump: float, most: int
) -> None:
    # 0, 1,000 and 33 of 10,000 lie more than 6 median deviations above the median
    draw, watch = random.Random(1), SpikeWatch(6.0)
    assert sum(watch.height(loss(draw)) is not None for _ in range(10_000)) <= most
    for _ in range(4):
        for _ in range(512):
            watch.height(loss(draw))
        assert all(watch.height(loss(draw) + jump) for _ in range(4))


def test_a_process_whose_update_does_not_end_says_where_it_stands_and_ends() -> None:
    program = """
import signal
from zhen.train.health import Watchdog

def wait_for_ever():
    signal.pause()

dog = Watchdog(60.0)
dog.beat()
dog.end()
Watchdog(None).beat()
Watchdog(0.1).beat()
wait_for_ever()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "in wait_for_ever" in done.stderr
