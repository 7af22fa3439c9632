"""The `zhen` command: the table of verbs, help without loading them, errors in one form, exit statuses."""

from __future__ import annotations

import errno
import importlib
import json
import os
import select
import sys
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TextIO

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

import zhen.errors as errors
from zhen.cli import launch


class Verb(NamedTuple):
    """A verb: where its `command` function is, one line of help, and its group."""

    module: str
    help: str
    group: str


VERBS = {
    "run": Verb("zhen.cli.run", "Take a recipe through its stages, from raw pages to a checked release", "Make"),
    "watch": Verb("zhen.cli.watch", "Show a training run as it goes on: a live page, or one file", "Make"),
    "plan": Verb("zhen.cli.plan", "Say what a recipe's run takes beforehand: layouts, memory, time, cost", "Make"),
    "ablate": Verb("zhen.cli.ablate", "Train a recipe at several settings and seeds, and compare", "Make"),
    "generate": Verb("zhen.cli.generate", "Continue a text with a checkpoint", "Use"),
    "chat": Verb("zhen.cli.chat", "Talk with a checkpoint's model in the terminal", "Use"),
    "serve": Verb("zhen.cli.serve", "Serve a checkpoint by OpenAI's protocol, with a chat page", "Use"),
    "evaluate": Verb("zhen.cli.evaluate", "Score checkpoints on benchmarks from local files, item by item", "Judge"),
    "try": Verb("zhen.cli.try_", "Take a page alone through the rules of a recipe", "Judge"),
    "why": Verb("zhen.cli.why", "Say what became of a document of a run, rule by rule", "Judge"),
    "inspect": Verb("zhen.cli.inspect", "Say what a checkpoint is: family, naming, shape, parameters", "Judge"),
    "rename": Verb("zhen.cli.rename", "Give a checkpoint another scheme's tensor names, in place if wanted", "Change"),
    "convert": Verb("zhen.cli.convert", "Write a checkpoint in another format, layout or dtype", "Change"),
    "release": Verb("zhen.cli.release", "Make a release of a renamed checkpoint, from its record", "Change"),
    "quantize": Verb("zhen.cli.quantize", "Write a checkpoint's weights in 8 or 4 bits", "Change"),
    "audit": Verb("zhen.cli.audit", "Check a checkpoint's files, names, code and claims", "Judge"),
    "verify": Verb("zhen.cli.verify", "Check that a run's or a release's files are still those recorded", "Judge"),
}


OF_THE_SYSTEM = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE}
    | {errno.ENAMETOOLONG}
)
"""Errors of the machine, wherever they show, that are the user's to mend."""


class _ReaderGone(Exception):
    """Whoever read our standard output went away."""


class _Stopped(Exception):
    """Ctrl-C."""


class VerbGroup(TyperGroup):
    """A group whose verbs are imported when they are called; its help is printed from the table alone."""

    def invoke(self, ctx: Any) -> Any:
        """Call the verb; what typer would end the process for in its own way is told by exceptions of ours."""
        try:
            outcome = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt as error:
            raise _Stopped from error
        except BrokenPipeError as error:
            if _has_reader(sys.stdout):
                raise RuntimeError("a process that Zhen talks to is gone") from error
            raise _ReaderGone from error
        return outcome

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs, in the order of use."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a verb's module and make its command."""
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(cmd_name, help=None)(importlib.import_module(verb.module).command)
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The verbs by group, without importing any."""
        for group in dict.fromkeys(verb.group for verb in VERBS.values()):
            with formatter.section(group):
                formatter.write_dl([(name, verb.help) for name, verb in VERBS.items() if verb.group == group])


app = typer.Typer(cls=VerbGroup, add_completion=False, rich_markup_mode=None)


def _show_version(value: bool) -> None:
    if value:
        import importlib.metadata

        typer.echo(f"zhen {importlib.metadata.version('zhen')}")
        raise typer.Exit


@app.callback(
    epilog="Begin with: zhen run recipes/tiny.toml · Exit status: 0 done, 1 the answer is no, 2 could not be done"
)
def _zhen(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Bilingual Chinese–English models of the LLaMA architecture, from raw pages to a release that can be checked."""


def run(arguments: list[str]) -> int:
    """Run a command line; returns the exit status."""
    launch.silence()
    command = typer.main.get_command(app)
    return guarded(lambda: command.main(arguments or ["--help"], prog_name="zhen", standalone_mode=False), arguments)


def guarded(call: Callable[[], Any], arguments: list[str]) -> int:
    """Call `call`, print what went wrong in our form, and turn the outcome into an exit status."""
    try:
        outcome = call()
    except errors.ZhenError as error:
        _print(error.lines())
        return error.status
    except TyperException as error:
        _print(_usage_lines(error, arguments))
        return errors.COULD_NOT
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("zhen"):
            raise
        verb = next((word for word in arguments if word in VERBS), "this")
        _print(errors.missing_extra(error.name or str(error), "make", f"`zhen {verb}`").lines())
        return errors.COULD_NOT
    except (_Stopped, KeyboardInterrupt, typer.Abort):
        _print(["stopped", *(["hint: the same command goes on from here"] if "run" in arguments[:1] else [])])
        return errors.INTERRUPTED
    except _ReaderGone:
        # nothing more to say, and Python must not say it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return errors.DONE
    except OSError as error:
        if error.errno not in OF_THE_SYSTEM:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _print([f"{where}{error.strerror}", "hint: free space, check rights, run again"])
        return errors.COULD_NOT
    return outcome if isinstance(outcome, int) else errors.DONE


def _usage_lines(error: TyperException, arguments: list[str]) -> list[str]:
    message = error.format_message()
    verb = next((word for word in arguments if word in VERBS), None)
    unknown = next((word for word in arguments[:1] if not word.startswith("-") and word not in VERBS), None)
    hint = errors.did_you_mean(unknown, VERBS) if unknown else None
    message = f'no verb "{unknown}"' if unknown else message.rstrip(".")
    where = f"zhen {verb}" if verb else "zhen"
    return [f"{where}: {message[0].lower()}{message[1:]}", f"hint: {hint or f'{where} --help'}"]


def _has_reader(stream: TextIO) -> bool:
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return not any(event & select.POLLERR for _, event in poll.poll(0))


def _print(lines: list[str]) -> None:
    from zhen.console import say

    for line in lines:
        say(line)


def print_json(value: Any) -> None:
    """Print one JSON object to standard output."""
    print(json.dumps(value, ensure_ascii=False, indent=2))
