"""What invariant mode costs: the same updates with and without it, in turns, by one process and by two on gloo.

A 10M shape (256 wide, 8 layers, 8/4 heads, vocabulary 8,192), 16 sequences of 256 tokens a step, bf16 autocast, AdamW,
one thread a process. Prints seconds a step and the ratio, for some sizes of a micro-batch.
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
from torch import multiprocessing

from zhen.cli.launch import relaunch
from zhen.console import out, table
from zhen.model.config import PRESETS
from zhen.model.transformer import Transformer, initialise
from zhen.train.batch import Batch
from zhen.train.kernel import same_bits
from zhen.train.loop import accumulate, clip_gradient
from zhen.train.optimizer import Optimizer
from zhen.train.parallel import Layout, reshard
from zhen.train.ranks import Ranks
from zhen.train.settings import PretrainSettings

ROUNDS, STEPS, WARM = 7, 2, 2
PROCESSES = (1, 2)
MICRO_BATCHES = (2, 4, 8)
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


def updates(ranks: Ranks, micro_batch: int, invariant: bool) -> Callable[[], None]:
    """One update, as the training loop makes it."""
    leaves = SETTINGS.sequences_per_step // micro_batch
    layout = Layout(ranks, leaves=leaves if invariant else None)
    model = Transformer(SHAPE)
    initialise(model, seed=1)
    layout.shard(model)
    optimizer = Optimizer(model, SETTINGS)
    generator = torch.Generator().manual_seed(1)
    size = (SETTINGS.sequences_per_step, SETTINGS.sequence_length + 1)
    tokens = torch.randint(0, SHAPE.vocab_size, size, generator=generator)
    everything = torch.ones_like(tokens[:, 1:], dtype=torch.bool)
    batch = Batch(tokens[:, :-1], tokens[:, 1:], everything, ~everything)

    def step() -> None:
        accumulate(model, batch, micro_batch=micro_batch, dtype=torch.bfloat16, layout=layout)
        reshard(model)
        clip_gradient(optimizer, SETTINGS.gradient_clip, layout)
        optimizer.step(SETTINGS.learning_rate)

    return step


def worker(rank: int, size: int, port: int, folder: str) -> None:
    """One process: process 0 writes, by micro-batch, the seconds a step of each round, plain and invariant."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ.update(place)
    torch.set_num_threads(1)
    ranks = Ranks(rank, size)
    found: dict[int, list[list[float]]] = {}
    for micro_batch in MICRO_BATCHES:
        steps = [updates(ranks, micro_batch, invariant) for invariant in (False, True)]
        with same_bits():
            for step in steps * WARM:
                step()
            found[micro_batch] = [[seconds(step) for step in steps] for _ in range(ROUNDS)]
    if rank == 0:
        Path(folder, "seconds.json").write_text(json.dumps(found))
    if size > 1:
        dist.barrier()
        dist.destroy_process_group()


def seconds(step: Callable[[], None]) -> float:
    """Of one update; all processes end theirs at its norm."""
    begun = time.perf_counter()
    for _ in range(STEPS):
        step()
    return (time.perf_counter() - begun) / STEPS


def main() -> None:
    """Print the table."""
    rows = []
    for size in PROCESSES:
        with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            free.close()
            multiprocessing.spawn(worker, (size, port, folder), nprocs=size)
            found = json.loads(Path(folder, "seconds.json").read_text())
        for micro_batch, rounds in found.items():
            ratios = [invariant / plain for plain, invariant in rounds]
            plain, invariant = (statistics.median(column) for column in zip(*rounds, strict=True))
            spread = f"{min(ratios):.2f} … {max(ratios):.2f}"
            rows.append(
                (str(size), micro_batch, f"{plain:.3f}", f"{invariant:.3f}", f"{statistics.median(ratios):.2f}", spread)
            )
    out.print(table(("processes", "micro-batch", "plain, s", "invariant, s", "ratio", "range"), rows))


if __name__ == "__main__":
    relaunch()
    main()
