"""`zhen chat`: talk with a checkpoint's model in the terminal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from zhen.cli.launch import relaunch
from zhen.cli.options import Checkpoint, Seed
from zhen.console import say, visible

if TYPE_CHECKING:
    from types import FrameType

    from zhen.infer.conversation import Conversation

PROMPT = "› "
COMMANDS = "/reset forgets what was said, /quit leaves, Ctrl-C stops an answer"


def command(
    checkpoint: Checkpoint,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 256,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="0: always the likeliest token, as is done where a form of question is on record; else 0.8."
        ),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Talk with a model: in its chat template, or in the form of question that its records name.

    Lines are read from standard input; without a terminal too.

    Example: zhen chat runs/tiny/release
    """
    relaunch()
    from zhen.infer.conversation import open_conversation
    from zhen.infer.engine import load_engine

    conversation = open_conversation(load_engine(checkpoint, batch=1), checkpoint)
    if temperature is None:
        temperature = 0.0 if conversation.forms and not conversation.template else 0.8
    say(visible(f"{checkpoint}: {conversation.manner}"))
    if sys.stdin.isatty():
        say(COMMANDS)
    _talk(conversation, max_tokens, temperature, seed)


def _talk(conversation: Conversation, max_tokens: int, temperature: float, seed: int) -> None:
    from zhen.errors import ZhenError

    with suppress(KeyboardInterrupt):  # at the prompt: the other way to leave
        for number, text in enumerate(_lines()):
            if text == "/quit":
                return
            if text == "/reset":
                conversation.reset()
                say("forgotten")
                continue
            if not text:
                continue
            forgotten = conversation.forgotten
            try:
                _answer(conversation, text, max_tokens, temperature, seed + number)
            except ZhenError as error:
                sys.stdout.write("\n")
                say("\n".join(error.lines()))
            if conversation.forgotten > forgotten:
                say(f"(the model's context is full: {conversation.forgotten} earlier turns are forgotten)")
        return
    sys.stdout.write("\n")


def _lines() -> Iterator[str]:
    """What is typed, or the lines of standard input."""
    if not sys.stdin.isatty():
        yield from (line.strip() for line in sys.stdin)
        return
    with suppress(ImportError):
        import readline  # noqa: F401 - editing and history of lines
    with suppress(EOFError):
        while True:
            yield input(PROMPT).strip()
    sys.stdout.write("\n")


def _answer(conversation: Conversation, text: str, max_tokens: int, temperature: float, seed: int) -> None:
    """Print the answer as it comes; Ctrl-C stops it and nothing else."""
    pieces = conversation.answer(text, max_tokens, temperature, seed)
    with _interrupted() as stopped, closing(pieces):
        for piece in pieces:
            sys.stdout.write(visible(piece))
            sys.stdout.flush()
            if stopped:
                break
    sys.stdout.write("\n")
    sys.stdout.flush()
    if stopped:
        say("(stopped)")


@contextmanager
def _interrupted() -> Iterator[list[int]]:
    """A list that is empty until Ctrl-C."""
    signals: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        signals.append(number)

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield signals
    finally:
        signal.signal(signal.SIGINT, previous)
