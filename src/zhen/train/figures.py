"""What may be quoted of a training run: figures from its metrics, and its last word on the console."""

from __future__ import annotations

import statistics
from pathlib import Path

from zhen.console import amount
from zhen.formats.metrics import read_metrics
from zhen.formats.record import Figure
from zhen.formats.stage import Figures
from zhen.model.config import ModelConfig
from zhen.model.size import flops_per_token, parameters
from zhen.train.settings import ShardTraining

_AVERAGED = 20
"""Updates over which the final training loss is taken."""

_END, _START = "bits_per_byte.", "bits_per_byte_at_start."


def run_figures(metrics: Path, settings: ShardTraining, config: ModelConfig) -> Figures:
    """Figures of a finished run. Rates are medians over its updates, whichever attempts made them."""
    rows = list(read_metrics(metrics))
    starts = [row for row in rows if row["kind"] == "start"]
    peak = max(row["peak_flops"] for row in starts)
    figures = {
        "parameters": Figure(parameters(config)),
        "tokens": Figure(settings.steps * settings.tokens_per_step, "tokens"),
        "steps": Figure(settings.steps, "steps"),
        "dtype": Figure(starts[-1]["dtype"]),
        "peak_flops": Figure(peak, "FLOP/s"),
    }
    updates = [row for row in rows if row["kind"] == "train"]
    if not updates:  # the log was lost; what follows is read from it
        return figures
    last = [row["loss"] for row in updates[-_AVERAGED:]]
    seconds = statistics.median(row["seconds"] for row in updates)
    rate = settings.tokens_per_step / seconds
    figures["train_loss"] = Figure(statistics.fmean(last), "nats/token", n=len(last))
    figures["seconds_per_step"] = Figure(seconds, "s", n=len(updates))
    figures["tokens_per_second"] = Figure(rate, "tokens/s", n=len(updates))
    for name, causal in (("mfu", True), ("mfu_full_attention", False)):
        flops = flops_per_token(config, settings.sequence_length, causal=causal)
        figures[name] = Figure(rate * flops / peak, n=len(updates))
    for row in rows:
        if row["kind"] == "held-out" and row["step"] in (0, settings.steps):
            prefix = _END if row["step"] else _START
            figures |= {prefix + lang: Figure(value, "bits/byte") for lang, value in row["bits_per_byte"].items()}
    return figures


def last_word(figures: Figures) -> str:
    """`0.94 M parameters on 2,400,256 tokens; held-out bits a byte: en 2.41 -> 0.33, zh 1.62 -> 0.26`."""
    count, tokens = figures["parameters"].value, figures["tokens"].value
    words = f"{float(count or 0) / 1e6:,.2f} M parameters on {amount(float(tokens or 0))} tokens"
    parts = []
    for name, end in figures.items():
        start = figures.get(_START + name.removeprefix(_END)) if name.startswith(_END) else None
        if start is not None:
            parts.append(f"{name.removeprefix(_END)} {start.value:.2f} → {end.value:.2f}")
    return f"{words}; held-out bits a byte: {', '.join(parts)}" if parts else words
