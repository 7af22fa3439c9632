"""Runs of the stage `extend` on the inputs of `small_run`; also a program that makes and kills such runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parent))
import many_ranks
import small_run

from zhen.formats.stage import Context, Figures
from zhen.train import extend
from zhen.train.settings import ExtendSettings

SETTINGS = ExtendSettings(
    tokens=6 * 256,
    tokens_per_step=256,
    sequence_length=64,
    rope_theta=80_000.0,
    learning_rate=1e-3,
    warmup_steps=1,
    checkpoint_every=2,
    evaluate_every=3,
    evaluate_bytes=600,
    max_epochs=50.0,
)


def context_for(
    inputs: Path,
    folder: Path,
    *,
    line: small_run.Line | None = None,
    stop: Callable[[], bool] = lambda: False,
    **changes: Any,
) -> Context:
    """The context of a run that goes on with the model in `inputs`/pretrain; `changes` go to [extend], but `init`."""
    folder.mkdir(parents=True, exist_ok=True)
    init = changes.pop("init", None)
    changes.pop("model", None)  # what `many_ranks` names for pretraining; here it is the model before
    after = {"shards": inputs / "shards", "tokenizer": inputs / "tokenizer"}
    return Context(
        folder=folder,
        sections={"extend": msgspec.structs.replace(SETTINGS, **changes), "model.init": init, "run.seed": 1},
        after=after if init else {**after, "pretrain": inputs / "pretrain"},
        line=line or small_run.Line(),
        stop_requested=stop,
        workers=1,
    )


def run(context: Context) -> Figures:
    """One attempt, as the runner makes it."""
    return small_run.attempt(context, extend.extend)


def main(inputs: Path, attempts: list[Any], several: list[Any]) -> None:
    """Attempts as `small_run` makes them, then runs by several processes as `many_ranks` does."""
    small_run.context_for, small_run.run = context_for, run
    small_run.main(inputs, attempts)
    many_ranks.main(inputs, several)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(json.loads(given) for given in sys.argv[2:]))
