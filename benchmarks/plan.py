"""A step of training on this machine beside what `zhen plan --device here` says of it, before and after.

    OMP_NUM_THREADS=1 python benchmarks/plan.py

Random tokens through `zhen.train.loop`, the median of six steps. Published speeds and memory are in `tests/plan`.
"""

from __future__ import annotations

import statistics

import torch

from zhen.cli.launch import relaunch
from zhen.console import out, table
from zhen.model.config import ModelConfig
from zhen.model.linear import product_dtype
from zhen.model.size import parameters
from zhen.model.transformer import Transformer, initialise
from zhen.plan.here import here, this_machine
from zhen.plan.layouts import Layout
from zhen.plan.plan import Training, choice
from zhen.train.batch import Batch
from zhen.train.kernel import same_bits
from zhen.train.layers import prepare_layers
from zhen.train.loop import CrossEntropy, Update, train
from zhen.train.optimizer import Optimizer
from zhen.train.settings import PretrainSettings

WARM, STEPS = 2, 6

# (hidden, ffn, layers, heads, key-value heads, vocabulary), sequences at once, length, micro-batches, compiled
CASES = (
    ((256, 704, 8, 8, 4, 4096), 4, 512, 1, False),
    ((384, 1024, 8, 6, 2, 8192), 2, 512, 2, False),
    ((128, 352, 4, 4, 2, 1536), 8, 256, 2, False),
    ((256, 704, 8, 8, 4, 4096), 4, 512, 1, True),
    ((512, 1536, 12, 8, 4, 16384), 8, 512, 1, True),
)


class Watch:
    """Keeps the seconds of each step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def before(self, step: int, batch: Batch) -> None:
        """Nothing."""

    def after(self, update: Update) -> None:
        """Note the time."""
        self.seconds.append(update.seconds)


def shape(hidden: int, ffn: int, layers: int, heads: int, keys: int, vocab: int) -> ModelConfig:
    """A model."""
    return ModelConfig(
        hidden_size=hidden,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=keys,
        vocab_size=vocab,
        max_position_embeddings=1024,
    )


def planned(config: ModelConfig, settings: PretrainSettings, rows: int, compiled: bool) -> float:
    """Seconds of a step, by the plan."""
    layout = Layout(micro_batch=rows, compiled=compiled, precision=here())
    training = Training(
        tokens=settings.tokens,
        steps=settings.steps,
        tokens_per_step=settings.tokens_per_step,
        sequence_length=settings.sequence_length,
        precision=here(),
    )
    device = this_machine(config, layout, settings.sequence_length)
    return choice(config, training, device, layout).seconds


def measured(config: ModelConfig, settings: PretrainSettings, rows: int, compiled: bool) -> float:
    """Median seconds of a step of our loop."""
    model, watch, draw = Transformer(config), Watch(), torch.Generator().manual_seed(1)
    initialise(model, 1)
    prepare_layers(model, compiled=compiled, recompute="none")
    wide = settings.sequence_length + 1

    def batch(step: int) -> Batch:
        tokens = torch.randint(0, config.vocab_size, (settings.sequences_per_step, wide), generator=draw)
        given = tokens[:, :-1]
        return Batch(given, tokens[:, 1:], given >= 0, given < 0)

    train(
        model,
        Optimizer(model, settings),
        batch,
        lambda step: settings.learning_rate,
        watch,
        steps=range(WARM + STEPS),
        micro_batch=rows,
        gradient_clip=1.0,
        dtype=product_dtype(torch.device("cpu")),
        loss=CrossEntropy(compiled=compiled),
    )
    return statistics.median(watch.seconds[WARM:])


def main() -> None:
    """Print the table."""
    lines = []
    for numbers, rows, length, parts, compiled in CASES:
        config, tokens = shape(*numbers), rows * length * parts
        settings = PretrainSettings(
            tokens=1000 * tokens, tokens_per_step=tokens, sequence_length=length, learning_rate=1e-3, micro_batch=rows
        )
        with same_bits():
            before, taken, after = (run(config, settings, rows, compiled) for run in (planned, measured, planned))
        errors = ", ".join(f"{100 * (one / taken - 1):+.0f} %" for one in (before, after))
        count = f"{parameters(config) / 1e6:.1f} M"
        how = "compiled" if compiled else "eager"
        lines.append((count, how, f"{tokens:,}", f"{taken:.3f} s", f"{before:.3f} s, {after:.3f} s", errors))
    out.print(table(("parameters", "layers", "tokens a step", "measured", "planned before, after", "errors"), lines))


if __name__ == "__main__":
    relaunch()
    main()
