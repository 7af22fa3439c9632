"""`zhen generate`: continue a text with a checkpoint."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from zhen.cli.launch import relaunch
from zhen.cli.options import AsJson, Checkpoint, Dtype, Seed


def command(
    checkpoint: Checkpoint,
    prompt: Annotated[str, typer.Option(help="The text to continue.", show_default=False)],
    max_tokens: Annotated[int, typer.Option(min=1, help="Stop after so many tokens.")] = 64,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always take the likeliest token.")] = False,
    temperature: Annotated[float, typer.Option(min=0.0, help="Flatter (> 1) or sharper (< 1) choice.")] = 0.8,
    top_p: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Choose among the likeliest that make up this.")
    ] = 0.95,
    seed: Seed = 0,
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Continue a text with a checkpoint.

    Example: zhen generate runs/tiny/release --prompt "The town" --greedy
    """
    relaunch()
    from zhen.cli.app import print_json
    from zhen.infer.engine import Request, load_engine

    engine = load_engine(checkpoint, dtype=dtype)
    ids = engine.tokenizer.encode(prompt)
    request = Request(
        prompt=ids or [engine.tokenizer.end_of_text],
        max_tokens=max_tokens,
        temperature=0.0 if greedy else temperature,
        top_p=top_p,
        seed=seed,
    )
    started = time.perf_counter()
    (answer,) = engine.generate([request])
    seconds = time.perf_counter() - started
    if as_json:
        print_json(
            {
                "text": answer.text,
                "tokens": len(answer.tokens),
                "prompt_tokens": len(ids),
                "seconds": round(seconds, 4),
                "tokens_per_second": round(len(answer.tokens) / seconds, 1),
            }
        )
        return
    sys.stdout.write(prompt + answer.text + "\n")
