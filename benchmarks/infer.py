"""Generation speed beside transformers' `generate`: one random LLaMA, one number format, in turns, in one run.

Of a single stream also the share of what the weights alone allow: a bf16 matrix-vector product over the same bytes.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import transformers
import typer

from zhen.cli.launch import relaunch
from zhen.console import out, table
from zhen.infer.engine import Engine
from zhen.infer.requests import Request
from zhen.model.config import ModelConfig, to_config_json
from zhen.model.size import parameters
from zhen.model.transformer import Transformer, initialise

SHAPES = {
    "50m": ModelConfig(
        hidden_size=512,
        intermediate_size=1_536,
        num_hidden_layers=12,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        vocab_size=16_384,
        max_position_embeddings=2_048,
    ),
    "850m": ModelConfig(
        hidden_size=2_048,
        intermediate_size=5_632,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        vocab_size=32_000,
        max_position_embeddings=2_048,
    ),
}
ROUNDS = 3
PROMPT = 128
Generate = Callable[[Sequence[Sequence[int]], int], None]


class Blank:
    """A tokenizer that costs nothing: transformers' `generate` makes no text either."""

    end_of_text = 2

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def decode(self, ids: Sequence[int]) -> str:
        """Nothing."""
        return ""


def ours(model: Transformer, drafts: int = 0) -> Generate:
    """Zhen's engine; beginnings are not kept, as the prompts of all rounds are the same."""
    engine = Engine(model, Blank(model.config.vocab_size), 16, prefix_tokens=0)  # type: ignore[arg-type]

    def generate(prompts: Sequence[Sequence[int]], count: int) -> None:
        engine.generate([Request(prompt=ids, max_tokens=count, stop_ids=frozenset(), drafts=drafts) for ids in prompts])

    return generate


def theirs(model: Transformer, dtype: str, compiled: bool) -> Generate:
    """transformers' `generate`, greedy, prompts of one length: nothing is padded."""
    other = transformers.LlamaForCausalLM(transformers.LlamaConfig(**to_config_json(model.config, dtype)))
    other.load_state_dict(model.state_dict())
    other = other.to(model.lm_head.weight.dtype).eval()
    settings: dict[str, Any] = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    if compiled:
        other.forward = torch.compile(other.forward)
        settings["cache_implementation"] = "static"

    def generate(prompts: Sequence[Sequence[int]], count: int) -> None:
        ids = torch.tensor(prompts)
        other.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count, **settings)

    return generate


def matrix_vector(model: Transformer) -> float:
    """Tokens a second if nothing but the matrices' products with a vector took time."""
    matrices = [module.weight for module in model.modules() if isinstance(module, torch.nn.Linear)]
    vectors = {weight.shape[1]: torch.randn(1, weight.shape[1]).to(weight.dtype) for weight in matrices}
    begun = time.perf_counter()
    for _ in range(8):
        for weight in matrices:
            F.linear(vectors[weight.shape[1]], weight)
    return 8 / (time.perf_counter() - begun)


def rate(generate: Generate, prompts: Sequence[Sequence[int]], count: int) -> float:
    """Tokens made a second behind the prompts: the time of the prompts and the first token is taken off."""
    begun = time.perf_counter()
    generate(prompts, 1)
    first = time.perf_counter()
    generate(prompts, 1 + count)
    took = (time.perf_counter() - first) - (first - begun)
    return len(prompts) * count / took


def main(
    shape: Annotated[str, typer.Option(help="50m or 850m.")] = "50m",
    dtype: Annotated[str, typer.Option(help="bfloat16 or float32.")] = "bfloat16",
    tokens: Annotated[int, typer.Option(help="Made in each stream.")] = 64,
    compiled: Annotated[bool, typer.Option("--compiled", help="transformers compiled, with a static cache.")] = False,
) -> None:
    """Print the table of ratios."""
    torch.manual_seed(0)
    model = Transformer(SHAPES[shape])
    initialise(model, seed=1)
    model = model.to(getattr(torch, dtype)).eval()
    runs = {"transformers": theirs(model, dtype, compiled), "zhen": ours(model)}
    rates: dict[tuple[str, int], list[float]] = {}
    bound = []
    with torch.inference_mode():
        for streams in (1, 16):
            prompts = torch.randint(3, model.config.vocab_size, (streams, PROMPT)).tolist()
            for generate in runs.values():
                generate(prompts, 3)
            for _ in range(ROUNDS):
                bound += [matrix_vector(model)] if streams == 1 else []
                for name, generate in runs.items():
                    rates.setdefault((name, streams), []).append(rate(generate, prompts, tokens))
    rows = []
    for (name, streams), found in rates.items():
        middle = statistics.median(found)
        share = f"{middle / statistics.median(bound):.0%}" if streams == 1 else ""
        ratio = f"{middle / statistics.median(rates['transformers', streams]):.2f}×"
        rows.append((name, str(streams), f"{middle:,.1f}", f"{min(found):,.1f}–{max(found):,.1f}", share, ratio))
    title = (
        f"{parameters(model.config) / 1e6:,.0f} M parameters, {dtype}, {tokens} tokens behind {PROMPT}, "
        f"{os.environ.get('OMP_NUM_THREADS', '?')} threads{', compiled' if compiled else ''}"
    )
    out.print(table(("", "streams", "tokens/s", "range", "of matrix-vector", "ratio"), rows, title=title))


if __name__ == "__main__":
    relaunch()
    typer.run(main)
