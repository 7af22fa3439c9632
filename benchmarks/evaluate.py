"""`zhen evaluate` beside lm-evaluation-harness's own Hugging Face backend: the same answers by item, and the time.

Both are given the same tasks, items, examples and seeds in one process, one after the other; the backend at each of
`--their-batches`, of which its fastest counts. Exit status 1 where a log-probability differs by more than 1e-3 or a
choice is another one. Texts may differ where a model writes bytes that are no text: two decoders show them differently.

    python benchmarks/evaluate.py CHECKPOINT --data FOLDER --limit 100
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

from zhen.console import out, table
from zhen.evaluate.harness.bench import Bench
from zhen.evaluate.harness.model import EngineLM
from zhen.evaluate.harness.own import task_of
from zhen.evaluate.harness.task import parts_of
from zhen.evaluate.items import Item
from zhen.infer.engine import load_engine

SIX = "mmlu,cmmlu,arc_challenge,hellaswag,gsm8k,gaokao"
TOLERANCE = 1e-3


def timed(bench: Bench, model: object) -> tuple[list[Item], float]:
    """The items and the seconds they took."""
    started = time.perf_counter()
    items = bench.put_to(model)
    return items, time.perf_counter() - started


def compared(ours: list[Item], theirs: list[Item]) -> tuple[float, int, int]:
    """Largest gap of a log-probability, items of other choices or scores, items of other text."""
    pairs = list(zip(ours, theirs, strict=True))
    gap = max((abs(p - q) for a, b in pairs for p, q in zip(a.logprobs, b.logprobs, strict=True)), default=0.0)
    other = sum(
        a.greedy != b.greedy or any(abs(a.scores[name] - b.scores[name]) > TOLERANCE for name in a.scores)
        for a, b in pairs
    )
    return gap, other, sum(a.output != b.output for a, b in pairs)


def main() -> int:
    """Print a row a task."""
    # behind Zhen's modules, which switch the network off for it
    from lm_eval.models.huggingface import HFLM

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", default=SIX)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--their-batches", default="8,32")
    given = parser.parse_args()
    engine = load_engine(given.checkpoint, dtype="float32", batch=given.batch)
    rows, total, theirs_total, failed = [], 0.0, 0.0, False
    for name in given.tasks.split(","):
        task = task_of(name)
        parts = parts_of(task, given.data)
        ours, seconds = timed(Bench(task, parts, limit=given.limit), EngineLM(engine))
        best = math.inf
        for batch in given.their_batches.split(","):
            model = HFLM(pretrained=str(given.checkpoint), dtype="float32", device="cpu", batch_size=int(batch))
            theirs, its = timed(Bench(task, parts, limit=given.limit), model)
            best = min(best, its)
        gap, other, texts = compared(ours, theirs)
        failed = failed or gap > TOLERANCE or other > 0
        total, theirs_total = total + seconds, theirs_total + best
        counts = f"{gap:.1e}", str(other), str(texts)
        rows.append((task.name, f"{len(ours):,}", *counts, f"{seconds:.1f}", f"{best:.1f}", f"{best / seconds:.2f}"))
    rows.append(("all", "", "", "", "", f"{total:.1f}", f"{theirs_total:.1f}", f"{theirs_total / total:.2f}"))
    columns = ("task", "items", "largest gap, nats", "other choices", "other texts", "s", "s, theirs", "times")
    out.print(table(columns, rows))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
