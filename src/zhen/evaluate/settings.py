"""The recipe section `[evaluate]`: which models are scored, by which tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1)]

TASKS = ("bits-per-byte", "samples")
SAMPLEWEB = "sampleweb"
"""The task that stands for all the sample web's own questions."""
BENCHMARKS = (
    *("mmlu", "cmmlu", "ceval", "gaokao", "agieval", "agieval_gaokao", "arc_challenge", "arc_easy", "hellaswag"),
    *("winogrande", "truthfulqa", "truthfulqa_mc1", "piqa", "siqa", "openbookqa", "commonsenseqa", "boolq", "squad"),
    *("lambada", "bbh", "bbh_direct", "gsm8k", "math", "humaneval", "mbpp"),
)
"""The tasks of `zhen evaluate`."""
LONG_CONTEXT = ("passkey", "needles", "loss-by-position")
"""The tasks on long texts: those that `--data` has, or held-out documents."""
PASSKEY = "passkey"
PASSKEY_BAR = 0.95
"""Share of the keys that a model must write, in each language, for a length to be one that it uses."""
USED_LENGTH = "long_context.passkey.length"
"""The figure of the longest such length."""
SHORT_TEXT = "short-text"
"""Where a result has what a longer context did to short texts."""
SHORTEST = 32
"""Tokens of the shortest length of long texts."""
LONGEST = 10_000_000
"""Of the longest: more than any model reads."""
DIALOGUE = "dialogue"
"""The task that puts the questions of the other tasks as turns of a chat."""
MODELS = ("pretrain:0", "pretrain", "extend", "tune", "quantize")


class EvaluateSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the stage `evaluate` does."""

    of: list[str] = []
    """Models: `pretrain`, `extend`, `tune`, `quantize`: what that stage made; `pretrain:0`: before its first step.
    Empty: the last one made."""

    tasks: list[str] = msgspec.field(default_factory=lambda: list(TASKS))
    """`bits-per-byte` on held-out documents, beside xz -9 and a Kneser-Ney model; `samples` of greedy text;
    `sampleweb`: the questions that come with the built-in web; a JSONL file of questions, `./mine.jsonl`; `dialogue`:
    all these questions again, as turns of a chat; `passkey`, `needles`, `loss-by-position` on long held-out documents;
    or a benchmark, `mmlu`, with other shots than its own as `mmlu@0`."""

    data: str | None = None
    """Folder of the benchmarks' files."""

    limit: Count | None = None
    """Items of each benchmark, spread evenly over its subjects, and of each task on long texts. None: all."""

    lengths: list[Count] | None = None
    """Tokens of long texts. None: an eighth, a quarter, a half and the whole of the longest context of the models."""

    stride: Count | None = None
    """Tokens by which the window over a long document moves on. None: half the model's context length, so that every
    token but a document's first ones is predicted from at least half a context."""

    reference_tokens: Count = 20_000_000
    """The Kneser-Ney model learns from at most so many training tokens: whole documents, spread evenly over
    every source. 20 M take half a minute and 4 GB."""

    samples: Count = 2
    """Greedy samples a source and language: the first held-out documents that are long enough are continued."""

    sample_prompt_tokens: Count = 24
    """Tokens of the document that a sample begins with."""

    sample_tokens: Count = 64
    """Tokens that a sample adds at most."""

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """(field, found, expected) for values that can't be used."""
        for field, values, known in (
            ("of", self.of, MODELS),
            ("tasks", self.tasks, (*TASKS, *LONG_CONTEXT, SAMPLEWEB, DIALOGUE)),
        ):
            more = ", a .jsonl file or a benchmark" if field == "tasks" else ""
            expected = " or ".join(f'"{name}"' for name in known) + more
            others = {*question_files(values), *benchmark_tasks(values)} if field == "tasks" else set()
            for value in values:
                if value not in known and value not in others:
                    yield field, f'"{value}"', expected
            if len(set(values)) < len(values):
                yield field, ", ".join(f'"{value}"' for value in values), "each name once"
        if benchmark_tasks(self.tasks) and self.data is None:
            yield "data", "nothing", f"the folder of the files of `{benchmark_tasks(self.tasks)[0]}`"
        if DIALOGUE in self.tasks and not (SAMPLEWEB in self.tasks or question_files(self.tasks)):
            yield "tasks", f'"{DIALOGUE}" without questions', f'"{SAMPLEWEB}" or a .jsonl file beside it'
        if self.lengths is not None and (usable := lengths_problem(self.lengths)):
            yield "lengths", str(self.lengths), usable
        if not self.tasks:
            yield "tasks", "an empty list", " or ".join(f'"{name}"' for name in TASKS)


def lengths_problem(lengths: Sequence[int]) -> str | None:
    """What lengths of long texts should be, where they are not."""
    usable = lengths and lengths[0] >= SHORTEST and lengths[-1] <= LONGEST and list(lengths) == sorted(set(lengths))
    return None if usable else f"{SHORTEST} to {LONGEST:,} tokens, each once, in order"


def used_length(written: Iterable[tuple[int, float]]) -> int:
    """The longest length up to which a model writes PASSKEY_BAR of the keys at every length that was tried, by (length,
    share written) of each language; 0 for none."""
    shares: dict[int, float] = {}
    for length, share in written:
        shares[length] = min(share, shares.get(length, 1.0))
    below = next((length for length in sorted(shares) if shares[length] < PASSKEY_BAR), None)
    return max((length for length in shares if below is None or length < below), default=0)


def question_files(tasks: Sequence[str]) -> list[str]:
    """The tasks that are files of questions."""
    return [name for name in tasks if name.endswith(".jsonl")]


def benchmark_tasks(tasks: Sequence[str]) -> list[str]:
    """The tasks that are benchmarks."""
    return [name for name in tasks if name.partition("@")[0] in BENCHMARKS]
