"""What weights packed in 8 and 4 bits gain in the engine: each beside bfloat16, in turns, in one run.

A round is a few steps of each; a ratio is the median of the ratios within a round. Times are the process's on the CPU,
one thread, so that other work on the machine counts little: it still takes its part of the memory's bandwidth.
"""

from __future__ import annotations

import statistics
import time
from typing import Annotated

import torch
import typer

from infer import SHAPES, Blank
from zhen.cli.launch import relaunch
from zhen.console import out, say, table
from zhen.infer.engine import Engine
from zhen.infer.requests import Request
from zhen.model.packed import Packed, PackedEmbedding
from zhen.model.packed_kernel import missing
from zhen.model.size import parameters
from zhen.model.transformer import Transformer

PROMPT = 32
STEPS = 2
STREAMS = (1, 2, 4, 8, 16, 32)
LAYOUTS = {"bfloat16": 16, "8 bits": 8, "4 bits": 4}


def random_words(rows: int, columns: int, bits: int, group: int) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Words and scales of a matrix whose products are neither large nor nothing."""
    words = torch.randint(-128, 128, (rows, columns * bits // 8), dtype=torch.int8)
    scales = torch.full((rows, columns // group), 0.02 / (1 << (bits - 1))).bfloat16()
    return words, scales.view(torch.int16), bits


def packed_model(shape: str, bits: int, group: int) -> Transformer:
    """A random model; in bfloat16, or all its matrices packed."""
    with torch.device("meta"):
        model = Transformer(SHAPES[shape])
    if bits < 16:
        for name, module in list(model.named_modules()):
            if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
                outside = isinstance(module, torch.nn.Embedding) or name == "lm_head"
                rows, columns = module.weight.shape
                words = random_words(rows, columns, 8 if outside else bits, group)
                parent, _, child = name.rpartition(".")
                kind = PackedEmbedding if isinstance(module, torch.nn.Embedding) else Packed
                setattr(model.get_submodule(parent), child, kind(*words))
    weights = {name: torch.randn(p.shape, dtype=torch.bfloat16) * 0.02 for name, p in model.named_parameters()}
    model.load_state_dict(weights, assign=True, strict=False)
    return model.eval()


class Running:
    """An engine, and the answers that it has under way."""

    def __init__(self, model: Transformer) -> None:
        self._vocabulary = model.config.vocab_size
        self._engine = Engine(model, Blank(self._vocabulary), STREAMS[-1], prefix_tokens=0)  # type: ignore[arg-type]
        self._ids: list[int] = []

    def start(self, streams: int) -> None:
        """Give up what was under way, begin `streams` answers."""
        for id in self._ids:
            self._engine.cancel(id)
        prompts = torch.randint(3, self._vocabulary, (streams, PROMPT)).tolist()
        asked = [Request(prompt=prompt, max_tokens=1024, stop_ids=frozenset()) for prompt in prompts]
        self._ids = [self._engine.submit(request) for request in asked]
        begun: set[int] = set()
        while len(begun) < streams:
            begun |= {event.id for event in self._engine.step() if event.token is not None}
        self.seconds()

    def seconds(self) -> float:
        """Of a step, over some."""
        begun = time.process_time()
        for _ in range(STEPS):
            self._engine.step()
        return (time.process_time() - begun) / STEPS


def main(
    shape: Annotated[str, typer.Option(help="50m or 850m.")] = "50m",
    group: Annotated[int, typer.Option(help="Weights that share a scale.")] = 128,
    rounds: Annotated[int, typer.Option(help="Of each number of streams.")] = 40,
) -> None:
    """Print the table of ratios."""
    if (lack := missing()) is not None:
        raise SystemExit(f"packed weights are not computed with here: {lack}")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    engines = {name: Running(packed_model(shape, bits, group)) for name, bits in LAYOUTS.items()}
    rows = []
    for streams in STREAMS:
        for engine in engines.values():
            engine.start(streams)
        times: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(rounds):
            for name, engine in engines.items():
                times[name].append(engine.seconds())
        for name, found in times.items():
            ratios = sorted(plain / its for plain, its in zip(times["bfloat16"], found, strict=True))
            middle, spread = statistics.median(ratios), f"{ratios[rounds // 10]:.2f}–{ratios[-1 - rounds // 10]:.2f}"
            rate = streams / statistics.median(found)
            say(f"{name}, {streams} streams: {middle:.2f}")
            rows.append((name, str(streams), f"{rate:,.1f}", f"{middle:.2f}×", spread))
    count = parameters(SHAPES[shape]) / 1e6
    title = f"{count:,.0f} M parameters, groups of {group}, behind {PROMPT} tokens, one thread, {rounds} rounds"
    out.print(table(("", "streams", "tokens a CPU second", "ratio", "8 of 10 rounds"), rows, title=title))


if __name__ == "__main__":
    relaunch()
    typer.run(main)
