"""Training speed beside transformers and litgpt: same shape, batch, clipping and AdamW, in turns, in one run.

Each row is a process of its own, so that each has its own allocator: every peer once as its users run it and once
compiled, with Zhen's allocator and fused AdamW. Zhen and what is tuned like it multiply in one format over float32
weights, bfloat16 where this CPU has units for it, else float32; a line says which. So does transformers as its users
run it. A ratio is the median of the ratios within a round. litgpt's rows
need `pip install --no-deps --target FOLDER litgpt==0.5.13 lightning lightning-utilities torchmetrics jsonargparse` and
`--litgpt FOLDER`.

litgpt's `pretrain` compiles, leaves AdamW unfused on CPUs, takes the loss in chunks of 128, and multiplies in bfloat16
(`bf16-mixed`, its default, on CPUs without units for it too).

Everything runs on the GPU where there is one: `--shape 1b` is meant for it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from zhen.cli.launch import GLIBC, SPIN, relaunch, threads
from zhen.console import out, say, table
from zhen.model.config import PRESETS, ModelConfig, to_config_json
from zhen.model.linear import product_dtype
from zhen.model.size import flops_per_token, parameters
from zhen.model.transformer import Transformer, initialise
from zhen.train.batch import Batch
from zhen.train.kernel import same_bits
from zhen.train.layers import compiles, prepare_layers
from zhen.train.loop import CrossEntropy, accumulate, clip_gradient
from zhen.train.optimizer import Optimizer
from zhen.train.peak import matmul_peak
from zhen.train.settings import PretrainSettings

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPE = product_dtype(DEVICE)
ROWS = ("Zhen", "transformers, tuned", "litgpt, tuned", "transformers", "litgpt")
Step = Callable[[], float]
"""One update; gives the loss before it."""


class Shape(NamedTuple):
    """A model and what it is trained on."""

    config: ModelConfig
    settings: PretrainSettings


def shape(hidden: int, layers: int, heads: int, ffn: int, vocab: int, length: int, rows: int, tokens: int) -> Shape:
    """The shape of so many numbers; half as many key/value heads as heads; a training of `tokens`."""
    config = msgspec.structs.replace(
        PRESETS["tiny-1m"],
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        head_dim=hidden // heads,
        intermediate_size=ffn,
        vocab_size=vocab,
        max_position_embeddings=length,
        tie_word_embeddings=False,
    )
    settings = PretrainSettings(
        tokens=tokens, tokens_per_step=rows * length, sequence_length=length, learning_rate=1e-3
    )
    return Shape(config, settings)


SHAPES = {
    "1m": shape(128, 4, 4, 384, 2_048, 128, 16, 2_400_000),
    "10m": shape(256, 8, 8, 768, 8_192, 256, 16, 200_000_000),
    "50m": shape(512, 12, 8, 1_536, 16_384, 512, 8, 1_000_000_000),
    "1b": shape(2_048, 16, 16, 5_632, 32_000, 4_096, 1, 20_000_000_000),
}
"""The first as the demo, whose training is too short to be compiled; the last for a GPU, which all rows share."""


def batch_of(given: Shape) -> Batch:
    """Random tokens, the same for all."""
    size = (given.settings.sequences_per_step, given.settings.sequence_length + 1)
    tokens = torch.randint(0, given.config.vocab_size, size, generator=torch.Generator().manual_seed(1))
    every = torch.ones_like(tokens[:, 1:], dtype=torch.bool)
    return Batch(tokens[:, :-1], tokens[:, 1:], every, ~every).to(DEVICE)


def fresh(config: ModelConfig) -> Transformer:
    """Zhen's model with fresh weights."""
    model = Transformer(config)
    initialise(model, seed=1)
    return model


def ours(given: Shape) -> Step:
    """Zhen's own loop, as `zhen run` has it."""
    config, settings = given
    model, batch = fresh(config).to(DEVICE), batch_of(given)
    compiled, missing = compiles(settings, config, DEVICE)
    if missing:
        say(f"Zhen is not compiled: {missing}")
    prepare_layers(model, compiled=compiled, recompute=settings.recompute)
    optimizer, loss = Optimizer(model, settings), CrossEntropy(compiled=compiled)

    def step() -> float:
        with same_bits():
            mean, _ = accumulate(model, batch, micro_batch=None, dtype=DTYPE, loss=loss)
            clip_gradient(optimizer, settings.gradient_clip)
            optimizer.step(settings.learning_rate)
            return mean.item()

    return step


def theirs(
    model: torch.nn.Module,
    given: Shape,
    loss: Callable[[Any, Tensor], Tensor],
    *,
    fused: bool,
    dtype: torch.dtype = DTYPE,
) -> Step:
    """A peer's model in its users' loop: autocast, clipping, AdamW."""
    model.to(DEVICE)
    rate = given.settings.learning_rate
    betas, decay = given.settings.betas, given.settings.weight_decay
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=betas, weight_decay=decay, fused=fused)
    batch = batch_of(given)

    def step() -> float:
        with torch.autocast(DEVICE.type, dtype=dtype, enabled=dtype is not torch.float32):
            made = loss(model, batch.tokens)
        mean = loss_of(made, batch.targets) if made.ndim else made
        torch.autograd.backward(mean)
        torch.nn.utils.clip_grad_norm_(model.parameters(), given.settings.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        return mean.item()

    return step


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Plain cross-entropy."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def of_transformers(given: Shape, tuned: bool) -> Step:
    """transformers' LLaMA with Zhen's fresh weights: eager as in its examples, or compiled."""
    import transformers

    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**to_config_json(given.config, "float32")))
    model.load_state_dict(fresh(given.config).state_dict())
    run = torch.compile(model) if tuned else model
    return theirs(model, given, lambda _, tokens: run(tokens, use_cache=False).logits, fused=True)


def of_litgpt(given: Shape, tuned: bool) -> Step:
    """litgpt's GPT, compiled as `litgpt pretrain` does."""
    from litgpt.config import Config
    from litgpt.model import GPT
    from litgpt.utils import chunked_cross_entropy

    config = given.config
    model = GPT(
        Config(
            block_size=config.max_position_embeddings,
            padded_vocab_size=config.vocab_size,
            n_layer=config.num_hidden_layers,
            n_head=config.num_attention_heads,
            n_query_groups=config.num_key_value_heads,
            n_embd=config.hidden_size,
            head_size=config.head_dim,
            intermediate_size=config.intermediate_size,
            rotary_percentage=1.0,
            parallel_residual=False,
            bias=False,
            norm_class_name="RMSNorm",
            mlp_class_name="LLaMAMLP",
        )
    )
    run: Callable[[Tensor], Tensor] = torch.compile(model)
    targets = batch_of(given).targets

    def loss(_: Any, tokens: Tensor) -> Tensor:
        logits = run(tokens)
        return logits if tuned else chunked_cross_entropy(logits, targets)

    return theirs(model, given, loss, fused=tuned or DEVICE.type == "cuda", dtype=DTYPE if tuned else torch.bfloat16)


def make(row: str, given: Shape) -> Step:
    """The step that a row stands for."""
    if row == "Zhen":
        return ours(given)
    return (of_transformers if row.startswith("transformers") else of_litgpt)(given, tuned=row.endswith("tuned"))


def work(row: str, name: str, steps: int) -> None:
    """A row's process: at each line of its input, `steps` updates; answers with tokens a second, loss or the peak."""
    given = SHAPES[name]
    step = make(row, given)
    for line in sys.stdin:
        if line == "peak\n":
            print(json.dumps(matmul_peak(DEVICE, 2.0)), flush=True)
            continue
        begun = time.perf_counter()
        losses = [step() for _ in range(1 if line == "first\n" else steps)]
        rate = len(losses) * given.settings.tokens_per_step / (time.perf_counter() - begun)
        print(json.dumps(losses[0] if line == "first\n" else rate), flush=True)


class Worker:
    """A row's process, seen from outside."""

    def __init__(self, row: str, name: str, steps: int, litgpt: Path | None) -> None:
        environment = {key: value for key, value in os.environ.items() if key not in GLIBC and key not in SPIN}
        if row in ("Zhen", "transformers, tuned", "litgpt, tuned"):
            environment = dict(os.environ)
        else:
            environment.pop("LD_PRELOAD", None)
        if litgpt:
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, (environment.get("PYTHONPATH"), str(litgpt))))
        command = [sys.executable, __file__, "--shape", name, "--steps", str(steps), "--row", row]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, line: str) -> float:
        """What it answers to a line."""
        into, back = self._process.stdin, self._process.stdout
        assert into is not None
        assert back is not None
        into.write(f"{line}\n")
        into.flush()
        answer = back.readline()
        if not answer:
            raise SystemExit("a row's process ended; what it said is above")
        found: float = json.loads(answer)
        return found

    def end(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def where() -> str:
    """What it runs on."""
    return torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"{threads(os.environ)} threads"


def compare(name: str, rounds: int, steps: int, litgpt: Path | None) -> None:
    """Print the table of one shape."""
    given = SHAPES[name]
    rows = [row for row in ROWS if litgpt or not row.startswith("litgpt")]
    say(f"matrix products run in {str(DTYPE).removeprefix('torch.')}")
    workers, losses = {}, {}
    for row in rows:  # one after the other: each compiles
        workers[row] = Worker(row, name, steps, litgpt)
        losses[row] = workers[row].ask("first")
        workers[row].ask("first")
        say(f"{row}: loss {losses[row]:.4f} with fresh weights")
    if abs(losses["Zhen"] - losses["transformers"]) > 1e-3 * losses["transformers"]:
        raise SystemExit("Zhen and transformers differ on the same weights and tokens: nothing to compare")
    rates: dict[str, list[float]] = {row: [] for row in rows}
    peak = 0.0
    for _ in range(rounds):
        for row in rows:
            rates[row].append(workers[row].ask("go"))
        peak = max(peak, workers["Zhen"].ask("peak"))
    for worker in workers.values():
        worker.end()
    length = given.settings.sequence_length
    causal, square = (flops_per_token(given.config, length, causal=causal) for causal in (True, False))
    shown = []
    for row, found in rates.items():
        rate = statistics.median(found)
        ratio = statistics.median(mine / other for mine, other in zip(rates["Zhen"], found, strict=True))
        used = f"{causal * rate / peak:.1%} / {square * rate / peak:.1%}"
        shown.append((row, f"{rate:,.0f}", f"{min(found):,.0f}–{max(found):,.0f}", used, f"{ratio:.2f}×"))
    title = (
        f"{parameters(given.config) / 1e6:.1f} M parameters, "
        f"{given.settings.sequences_per_step} × {length} tokens a step, "
        f"{where()}, {rounds} rounds of {steps} steps, peak {peak / 1e12:.2f} TFLOP/s"
    )
    out.print(table(("", "tokens/s", "range", "MFU causal / full", "Zhen is"), shown, title=title))
    if not litgpt:
        say("litgpt's rows are left out: --litgpt FOLDER, see the head of this file")


def main(
    shape: Annotated[list[str], typer.Option(help="1m, 10m, 50m, 1b")] = ["10m"],  # noqa: B006
    rounds: int = 3,
    steps: int = 3,
    litgpt: Annotated[Path | None, typer.Option(help="folder where litgpt was installed")] = None,
    row: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Print a table a shape."""
    if row:
        work(row, shape[0], steps)
        return
    for name in shape:
        compare(name, rounds, steps, litgpt)


if __name__ == "__main__":
    if "--row" not in sys.argv:
        relaunch()
    typer.run(main)
