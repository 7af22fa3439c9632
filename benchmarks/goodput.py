"""How much of a cluster's time becomes training, against the time between checkpoints: simulated failures and formulas.

Failures come at Llama 3's published rate (Grattafiori et al. 2024, section 3.3.4): 419 unexpected stops in 54 days on
16,384 GPUs, one in 50,676 GPU-hours; the time between two is exponential. After each a restart takes RESTART seconds,
and what was done since the last checkpoint is done again. A checkpoint halts training for STALL seconds.

Prints, for each number of GPUs, the best interval of the simulation beside the closed forms. No timing: a few seconds.
"""

from __future__ import annotations

import math

import numpy as np

GPU_HOURS = 54 * 24 * 16_384 / 419
"""Between two stops, by GPU."""

RESTART = 300.0
"""Seconds from a failure to the first step after it."""

STALLS = (1.0, 30.0)
"""Seconds that a checkpoint halts training: copied aside and written by a thread; and written while all wait."""

GPUS = (128, 1_024, 4_096, 16_384)
FAILURES = 200_000
"""Drawn for each point, the same ones for all intervals."""

INTERVALS = [2.0 ** (power / 4) for power in range(16, 66)]
"""Seconds of training between checkpoints: 16 s to 20 hours, four to an octave."""


def simulated(mtbf: float, stall: float, interval: float, failures: np.ndarray) -> tuple[float, float]:
    """(goodput, standard error): share of the time that is training which lasts. `failures`: exponential, mean 1."""
    lived = failures * mtbf
    useful = np.floor(np.maximum(lived - RESTART, 0) / (interval + stall)) * interval
    ratio = useful.sum() / lived.sum()
    error = float(np.std(useful - ratio * lived)) / math.sqrt(len(lived)) / float(lived.mean())
    return float(ratio), error


def expected(mtbf: float, stall: float, interval: float) -> float:
    """The mean of what `simulated` draws: a geometric series over the checkpoints reached (Daly 2006, section 2)."""
    return interval * math.exp(-RESTART / mtbf) / (mtbf * math.expm1((interval + stall) / mtbf))


def young(mtbf: float, stall: float) -> float:
    """Seconds between checkpoints by Young 1974: √(2 · stall · MTBF)."""
    return math.sqrt(2 * stall * mtbf)


def with_recovery(mtbf: float, stall: float) -> float:
    """The same with stall and restart kept (arXiv 2410.18124): √(2 (MTBF + R) s + s²), checkpoint to checkpoint."""
    return math.sqrt(2 * (mtbf + RESTART) * stall + stall**2)


def main() -> None:
    """Print the table."""
    failures = np.random.default_rng(1).exponential(size=FAILURES)
    print("goodput: simulated (± standard error) | expected; intervals in seconds\n")
    print(
        "| GPUs | MTBF h | stall s | best simulated | goodput | Young | goodput there | with recovery | goodput there |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for gpus in GPUS:
        mtbf = GPU_HOURS / gpus * 3600
        for stall in STALLS:
            best = max(INTERVALS, key=lambda each: simulated(mtbf, stall, each, failures)[0])
            cells = [f"{gpus:,}", f"{mtbf / 3600:.1f}", f"{stall:.0f}", f"{best:,.0f}"]
            for interval in (best, young(mtbf, stall), with_recovery(mtbf, stall)):
                ratio, error = simulated(mtbf, stall, interval, failures)
                if interval != best:
                    cells.append(f"{interval:,.0f}")
                cells.append(f"{ratio:.2%} ± {error:.2%} \\| {expected(mtbf, stall, interval):.2%}")
            print(f"| {' | '.join(cells)} |")
    print("\n16,384 GPUs, stall 30 s: goodput against the interval\n")
    print("| interval s | simulated | expected |\n| --- | --- | --- |")
    mtbf = GPU_HOURS / 16_384 * 3600
    for interval in INTERVALS[8:44:4]:
        ratio, error = simulated(mtbf, 30.0, interval, failures)
        print(f"| {interval:,.0f} | {ratio:.2%} ± {error:.2%} | {expected(mtbf, 30.0, interval):.2%} |")


if __name__ == "__main__":
    main()
