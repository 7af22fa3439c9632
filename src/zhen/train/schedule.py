"""Learning rate by step: warm-up, then constant and linear decay (WSD) or half a cosine."""

from __future__ import annotations

import math

from zhen.train.settings import LoopSettings


def learning_rate(settings: LoopSettings, step: int) -> float:
    """The learning rate of update number `step` (0 is the first).

    Warm-up is linear and reaches the peak with update `warmup_steps`; the last update has the first learning
    rate above the final one, which would be reached one update later. WSD: Hu et al. 2024, section 4; cosine:
    Loshchilov and Hutter 2017, equation 5.
    """
    peak, total, warmup = settings.learning_rate, settings.steps, settings.warmup_steps
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if settings.schedule == "cosine":
        done = (step - warmup) / max(1, total - warmup)
        height = 0.5 * (1 + math.cos(math.pi * done))
    else:
        decay = min(max(1, round(settings.decay_share * total)), max(1, total - warmup))
        height = min(1.0, (total - step) / decay) if settings.decay_share else 1.0
    floor = settings.final_learning_rate_share
    return peak * (floor + (1 - floor) * height)
