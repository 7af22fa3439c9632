"""What invariant mode costs: the same updates with and without it, in turns, by one process and by two on gloo.

A 10M shape (256 wide, 8 layers, 8/4 heads, vocabulary 8,192), 16 sequences of 256 tokens a step in micro-batches of 4,
products in what this CPU multiplies fastest, AdamW, one thread a process. Prints seconds a step and the ratio, by the
clock and of processor time, which other work on the machine moves less.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from zhen.cli.launch import relaunch
from zhen.console import out, table
from zhen.model.config import PRESETS
from zhen.model.linear import product_dtype
from zhen.train.batch import Batch
from zhen.train.kernel import same_bits
from zhen.train.loop import CrossEntropy, accumulate, clip_gradient
from zhen.train.optimizer import Optimizer
from zhen.train.parallel import Layout, reshard
from zhen.train.ranks import Ranks
from zhen.train.settings import PretrainSettings
from zhen.train.values import fill, fresh_start

ROUNDS, WARM = 12, 1
PROCESSES = (1, 2)
MICRO_BATCH = 4
SHAPE = msgspec.structs.replace(
    PRESETS["tiny-1m"],
    vocab_size=8_192,
    hidden_size=256,
    intermediate_size=768,
    num_hidden_layers=8,
    num_attention_heads=8,
    num_key_value_heads=4,
    tie_word_embeddings=False,
)
SETTINGS = PretrainSettings(tokens=4_096_000, tokens_per_step=4_096, sequence_length=256, learning_rate=1e-3)


def updates(ranks: Ranks, invariant: bool) -> Callable[[], None]:
    """One update, as the training loop makes it."""
    leaves = SETTINGS.sequences_per_step // MICRO_BATCH
    layout = Layout(ranks, leaves=leaves if invariant else None)
    model = layout.build(SHAPE)
    fill(dict(model.named_parameters()), fresh_start(SHAPE, seed=1).values)
    optimizer = Optimizer(model, SETTINGS)
    generator = torch.Generator().manual_seed(1)
    size = (SETTINGS.sequences_per_step, SETTINGS.sequence_length + 1)
    tokens = torch.randint(0, SHAPE.vocab_size, size, generator=generator)
    tokens = tokens[layout.share(SETTINGS.sequences_per_step, MICRO_BATCH).rows]
    everything = torch.ones_like(tokens[:, 1:], dtype=torch.bool)
    batch = Batch(tokens[:, :-1], tokens[:, 1:], everything, ~everything)
    loss = CrossEntropy(SETTINGS.tokens_per_step)

    def step() -> None:
        accumulate(
            model, batch, micro_batch=MICRO_BATCH, dtype=product_dtype(torch.device("cpu")), loss=loss, layout=layout
        )
        reshard(model)
        clip_gradient(optimizer, SETTINGS.gradient_clip, layout)
        optimizer.step(SETTINGS.learning_rate)

    return step


def worker(rank: int, size: int, port: int, folder: str) -> None:
    """One process: process 0 writes, by round, what an update took, plain and invariant."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ.update(place)
    torch.set_num_threads(1)
    ranks = Ranks(rank, size)
    steps = [updates(ranks, invariant) for invariant in (False, True)]
    with same_bits():
        for step in steps * WARM:
            step()
        found = [[seconds(step) for step in steps] for _ in range(ROUNDS)]
    if rank == 0:
        Path(folder, "seconds.json").write_text(json.dumps(found))
    if size > 1:
        dist.barrier()
        dist.destroy_process_group()


def seconds(step: Callable[[], None]) -> tuple[float, float]:
    """Of one update, by the clock and of the processor; all processes end theirs at its norm."""
    begun, used = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - begun, time.process_time() - used


def main() -> None:
    """Print the table."""
    rows = []
    for size in PROCESSES:
        with tempfile.TemporaryDirectory() as folder:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            spawn(worker, (size, port, folder), nprocs=size)
            found = json.loads(Path(folder, "seconds.json").read_text())
        for at, clock in enumerate(("wall", "processor")):
            rounds = [(plain[at], invariant[at]) for plain, invariant in found]
            ratios = [invariant / plain for plain, invariant in rounds]
            plain, invariant = (statistics.median(column) for column in zip(*rounds, strict=True))
            spread = f"{min(ratios):.2f} … {max(ratios):.2f}"
            rows.append(
                (f"{size}, {clock}", f"{plain:.2f}", f"{invariant:.2f}", f"{statistics.median(ratios):.2f}", spread)
            )
    out.print(table(("processes", "plain, s", "invariant, s", "ratio", "range"), rows))


if __name__ == "__main__":
    relaunch()
    main()
