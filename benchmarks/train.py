"""Training speed beside transformers' LLaMA: same shape, optimizer, batch and number format, in turns, in one run."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import msgspec
import torch
import transformers

from zhen.cli.launch import relaunch
from zhen.console import out, table
from zhen.model.config import PRESETS, ModelConfig, to_config_json
from zhen.model.size import flops_per_token
from zhen.model.transformer import Transformer, initialise
from zhen.train.batch import Batch
from zhen.train.kernel import same_bits
from zhen.train.loop import accumulate, clip_gradient
from zhen.train.optimizer import Optimizer
from zhen.train.peak import matmul_peak
from zhen.train.settings import PretrainSettings

ROUNDS, STEPS, WARM = 3, 12, 3
SETTINGS = PretrainSettings(
    tokens=2_048_000, tokens_per_step=2_048, sequence_length=128, learning_rate=4e-3, optimizer="adamw"
)


def ours(config: ModelConfig, batch: Batch) -> Callable[[], None]:
    """One update by Zhen's own loop."""
    model = Transformer(config)
    initialise(model, seed=1)
    optimizer = Optimizer(model, SETTINGS)

    def step() -> None:
        with same_bits():
            accumulate(model, batch, micro_batch=None, dtype=torch.bfloat16)
            clip_gradient(optimizer, SETTINGS.gradient_clip)
            optimizer.step(SETTINGS.learning_rate)

    return step


def theirs(config: ModelConfig, batch: Batch) -> Callable[[], None]:
    """One update of transformers' model, as its users write it: bf16 autocast, clipping, fused AdamW."""
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**to_config_json(config, "float32")))
    optimizer = torch.optim.AdamW(model.parameters(), lr=SETTINGS.learning_rate, fused=True)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(batch.tokens, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch.targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), SETTINGS.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()

    return step


def rate(step: Callable[[], None]) -> float:
    """Tokens a second over STEPS updates."""
    begun = time.perf_counter()
    for _ in range(STEPS):
        step()
    return STEPS * SETTINGS.tokens_per_step / (time.perf_counter() - begun)


def main() -> None:
    """Print the table of ratios."""
    config = msgspec.structs.replace(PRESETS["tiny-1m"], vocab_size=1_536)
    tokens = torch.randint(0, config.vocab_size, (SETTINGS.sequences_per_step, SETTINGS.sequence_length + 1))
    everything = torch.ones_like(tokens[:, 1:], dtype=torch.bool)
    batch = Batch(tokens[:, :-1], tokens[:, 1:], everything, ~everything)
    steps = {"zhen": ours(config, batch), "transformers": theirs(config, batch)}
    for step in steps.values():
        for _ in range(WARM):
            step()
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            rates[name].append(rate(step))
    peak = matmul_peak(torch.device("cpu"))
    flops = flops_per_token(config, SETTINGS.sequence_length, causal=True)
    base = statistics.median(rates["transformers"])
    rows = [
        (
            name,
            f"{statistics.median(found):,.0f}",
            f"{min(found):,.0f}–{max(found):,.0f}",
            f"{flops * statistics.median(found) / peak:.1%}",
            f"{statistics.median(found) / base:.2f}×",
        )
        for name, found in rates.items()
    ]
    threads = os.environ.get("OMP_NUM_THREADS", "?")
    title = f"tiny-1m, 16 × 128 tokens a step, bf16 autocast, AdamW, {threads} threads, peak {peak / 1e9:,.0f} GFLOP/s"
    out.print(table(("", "tokens/s", "range", "MFU (causal)", "ratio"), rows, title=title))


if __name__ == "__main__":
    relaunch()
    main()
