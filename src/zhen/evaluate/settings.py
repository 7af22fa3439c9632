"""The recipe section `[evaluate]`: which models are scored, by which tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1)]

TASKS = ("bits-per-byte", "samples")
SAMPLEWEB = "sampleweb"
"""The task that stands for all the sample web's own questions."""
MODELS = ("pretrain:0", "pretrain")


class EvaluateSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the stage `evaluate` does."""

    of: list[str] = []
    """Models: `pretrain` is that stage's last, `pretrain:0` the one before its first step. Empty: the last one made."""

    tasks: list[str] = msgspec.field(default_factory=lambda: list(TASKS))
    """`bits-per-byte` on held-out documents, beside xz -9 and a Kneser-Ney model; `samples` of greedy text;
    `sampleweb`: the questions that come with the built-in web; or a JSONL file of questions, `./mine.jsonl`."""

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
        for field, values, known in (("of", self.of, MODELS), ("tasks", self.tasks, (*TASKS, SAMPLEWEB))):
            expected = " or ".join(f'"{name}"' for name in known) + (" or a .jsonl file" if field == "tasks" else "")
            for value in values:
                if value not in known and not (field == "tasks" and question_files([value])):
                    yield field, f'"{value}"', expected
            if len(set(values)) < len(values):
                yield field, ", ".join(f'"{value}"' for value in values), "each name once"
        if not self.tasks:
            yield "tasks", "an empty list", " or ".join(f'"{name}"' for name in TASKS)


def question_files(tasks: Sequence[str]) -> list[str]:
    """The tasks that are files of questions."""
    return [name for name in tasks if name.endswith(".jsonl")]
