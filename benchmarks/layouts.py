"""How far training on several processes is from training on one: losses and weights of the same updates, by layout.

The preset `tiny-1m` with 4 key/value heads, tokens drawn by a rule that can be learnt, 10 updates of 8 sequences of 128
tokens, on gloo. Prints the largest relative difference of a loss and the largest difference of a weight. No timing.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from zhen.cli.launch import relaunch
from zhen.console import out, table
from zhen.model.config import PRESETS
from zhen.train.batch import Batch
from zhen.train.kernel import same_bits
from zhen.train.loop import CrossEntropy, Update, train
from zhen.train.optimizer import Optimizer
from zhen.train.parallel import Layout, gathered
from zhen.train.ranks import Ranks
from zhen.train.settings import Parallel, PretrainSettings
from zhen.train.values import fill, fresh_start

UPDATES, SEQUENCES, LENGTH = 10, 8, 128
MODEL = msgspec.structs.replace(PRESETS["tiny-1m"], vocab_size=1536, num_key_value_heads=4)
KINDS: tuple[tuple[str, Literal["adamw", "muon"]], ...] = (
    ("float32", "adamw"),
    ("bfloat16", "adamw"),
    ("float32", "muon"),
)
ALONE = Parallel()
LAYOUTS = (
    Parallel(data=2),
    Parallel(context=2),
    Parallel(tensor=2),
    Parallel(data=4),
    Parallel(context=4),
    Parallel(tensor=4),
    Parallel(data=2, context=2),
    Parallel(data=2, tensor=2),
    Parallel(context=2, tensor=2),
)


class Losses:
    """Keeps the loss of each update."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def before(self, step: int, batch: Batch) -> None:
        """Nothing is looked at."""

    def after(self, update: Update) -> None:
        """Keep it."""
        self.found.append(update.loss)


def batch(step: int, rows: list[int]) -> Batch:
    """These of a step's sequences, in which a token is the one before plus 1 to 4, with a tenth of noise."""
    generator = torch.Generator().manual_seed(step)
    first, by = (torch.randint(1, most, (SEQUENCES, 1), generator=generator) for most in (MODEL.vocab_size, 5))
    tokens = (first + by * torch.arange(LENGTH + 1)) % MODEL.vocab_size
    noise = torch.rand(tokens.shape, generator=generator) < 0.1
    tokens = torch.where(noise, torch.randint(0, MODEL.vocab_size, tokens.shape, generator=generator), tokens)
    tokens = tokens[rows]
    everything = torch.ones(len(rows), LENGTH, dtype=torch.bool)
    return Batch(tokens[:, :-1], tokens[:, 1:], everything, ~everything)


def worker(rank: int, size: int, port: int, parallel: Parallel, folder: str) -> None:
    """One process; process 0 leaves losses and weights of each of KINDS."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ.update(place)
    torch.set_num_threads(1)
    layout = Layout(Ranks(rank, size), parallel)
    rows = layout.share(SEQUENCES, None).rows
    for dtype, optimizer in KINDS:
        settings = PretrainSettings(
            tokens=UPDATES * SEQUENCES * LENGTH,
            tokens_per_step=SEQUENCES * LENGTH,
            sequence_length=LENGTH,
            learning_rate=3e-3,
            optimizer=optimizer,
        )
        losses = Losses()
        model = layout.build(MODEL)
        fill(dict(model.named_parameters()), fresh_start(MODEL, seed=1).values)
        with same_bits():
            train(
                model,
                Optimizer(model, settings),
                lambda step: batch(step, rows),
                lambda step: 3e-3,
                losses,
                steps=range(UPDATES),
                micro_batch=None,
                gradient_clip=1.0,
                dtype=getattr(torch, dtype),
                loss=CrossEntropy(settings.tokens_per_step),
                layout=layout,
            )
        whole = gathered(model)
        if rank == 0:
            torch.save((losses.found, whole.state_dict()), Path(folder, f"{dtype}-{optimizer}"))
    if size > 1:
        dist.barrier()
        dist.destroy_process_group()


def made(parallel: Parallel) -> list[Any]:
    """Losses and weights of each of KINDS on the layout."""
    size = max(1, parallel.data) * parallel.tensor * parallel.context
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        start_processes(worker, (size, port, parallel, folder), size, start_method="fork")
        return [torch.load(Path(folder, f"{dtype}-{optimizer}")) for dtype, optimizer in KINDS]


def differences(parallel: Parallel, alone: list[Any]) -> Iterator[str]:
    """Of losses, relative, and of weights, for each of KINDS."""
    for (losses, weights), (losses_alone, weights_alone) in zip(made(parallel), alone, strict=True):
        yield f"{max(abs(a - b) / b for a, b in zip(losses, losses_alone, strict=True)):.1e}"
        yield f"{max(float((weights[n] - weights_alone[n]).abs().max()) for n in weights):.1e}"


def main() -> None:
    """Print the table."""
    alone = made(ALONE)
    head = [f"{what}, {dtype} {optimizer}" for dtype, optimizer in KINDS for what in ("loss", "weights")]
    rows = []
    for parallel in LAYOUTS:
        sizes = {name: getattr(parallel, name) for name in ("data", "context", "tensor")}
        name = " · ".join(f"{what} {count}" for what, count in sizes.items() if count > 1)
        rows.append((name, *differences(parallel, alone)))
    first = [f"{found[0][0]:.3f} … {found[0][-1]:.3f}" for found in alone]
    out.print(table(("layout", *head), rows, title=f"one process: losses {', '.join(first)}"))


if __name__ == "__main__":
    relaunch()
    main()
