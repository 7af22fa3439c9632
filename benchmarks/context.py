"""How much memory a process needs for one long sequence, where 1, 2 or 4 processes share it, on gloo.

A 10M shape (256 wide, 8 layers, 8/4 heads, vocabulary 8,192), one sequence, forward and backward, float32, weights
whole on each. Prints by how much the memory of a process grew at its largest, and the share of that of one process. No
timing.
"""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

import msgspec
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from zhen.cli.launch import relaunch
from zhen.console import out, table
from zhen.model.config import PRESETS
from zhen.model.transformer import Transformer, initialise
from zhen.train.context import SharedSequences

LENGTHS = (2_048, 8_192)
PROCESSES = (1, 2, 4)
SHAPE = msgspec.structs.replace(
    PRESETS["tiny-l"], vocab_size=8_192, intermediate_size=768, tie_word_embeddings=False, max_position_embeddings=8_192
)


def peak() -> int:
    """The most memory that this process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def worker(rank: int, size: int, length: int, folder: str) -> None:
    """One process: leaves the growth of its memory."""
    torch.set_num_threads(1)
    model = Transformer(SHAPE)
    initialise(model, seed=1)
    tokens = torch.arange(length)[None] % SHAPE.vocab_size
    part = None
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
        world = dist.group.WORLD
        assert world is not None
        shared = SharedSequences(world)
        tokens, part = shared.own(tokens), shared.part(length)
    warm = torch.ones(512, 512)
    (warm @ warm).sum()  # what the first product of matrices sets up is no part of it
    before = peak()
    model(tokens, part).logsumexp(-1).sum().backward()
    Path(folder, f"grown-{rank}").write_text(str(peak() - before))
    if size > 1:
        dist.barrier()
        dist.destroy_process_group()


def main() -> None:
    """Print the table."""
    rows = []
    for length in LENGTHS:
        alone = 0
        for size in PROCESSES:
            with tempfile.TemporaryDirectory() as folder:
                spawn(worker, (size, length, folder), nprocs=size)
                grown = max(int(Path(folder, f"grown-{rank}").read_text()) for rank in range(size))
            alone = alone or grown
            rows.append((f"{length:,}", str(size), f"{grown / 1e6:,.0f} MB", f"{grown / alone:.2f}"))
    out.print(table(("tokens", "processes", "memory of a process", "share"), rows))


if __name__ == "__main__":
    relaunch()
    main()
