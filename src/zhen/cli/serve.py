"""`zhen serve`: a checkpoint behind OpenAI's protocol, with a chat page."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from zhen.cli.launch import relaunch
from zhen.cli.options import Checkpoint, Dtype
from zhen.console import say, visible
from zhen.errors import ZhenError, missing_extra

if TYPE_CHECKING:
    from fastapi import FastAPI

    from zhen.infer.server.app import Service
    from zhen.infer.server.asking import Served
    from zhen.infer.server.room import Room


Host = Annotated[str, typer.Option(help="Address to listen on; others than loopback need a key.")]
ApiKey = Annotated[
    str | None,
    typer.Option(help="A key that requests must bring, or a file with one a line.", envvar="ZHEN_API_KEY"),
]
MaxRequests = Annotated[int, typer.Option(min=1, help="Most requests waiting or answered; beyond: 429.")]
MaxBody = Annotated[int, typer.Option(min=1, help="Largest body of a request, bytes; beyond: 413.")]
Memory = Annotated[
    str | None, typer.Option(help="What to fit in: 24GB, 22.35GiB …; by default what is free.", show_default=False)
]


def command(
    checkpoint: Checkpoint,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    api_key: ApiKey = None,
    batch: Annotated[int, typer.Option(min=1, help="Most requests answered at a time.")] = 32,
    max_requests: MaxRequests = 256,
    max_context: Annotated[int | None, typer.Option(min=1, help="Most tokens of prompt and answer.")] = None,
    max_body: MaxBody = 4 << 20,
    timeout: Annotated[float, typer.Option(min=0.001, help="Longest time for an answer, seconds.")] = 600.0,
    name: Annotated[str | None, typer.Option(help="The model's name; by default the folder's.")] = None,
    dtype: Dtype = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 …; by default the CPU.")] = None,
    cache_bits: Annotated[int, typer.Option(help="16, or 8: keys and values in half the room.")] = 16,
    memory: Memory = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and load nothing.")] = False,
    page: Annotated[bool, typer.Option("--page/--no-page", help="A chat page under /.")] = True,
) -> None:
    """Serve a checkpoint by OpenAI's protocol, with a chat page, until SIGTERM or Ctrl-C.

    Answers that are running then end whole. Logs hold no contents.

    Example: zhen serve runs/tiny/release
    """
    relaunch()
    keys = _keys_for(host, api_key)
    try:
        from zhen.infer.server.app import api, gated, service
        from zhen.infer.server.run import serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(("zhen", "torch")):
            raise
        raise missing_extra(error.name or str(error), "serve", "`zhen serve`") from error
    from zhen.infer.server.gate import Bounds
    from zhen.infer.server.room import plan

    mount = page_mount() if page and not dry_run else None  # before the plan: it counts on all code being in memory
    kept, fit_in = _cache_bits(cache_bits), None if memory is None else read_bytes(memory)
    room = plan(
        checkpoint, batch=batch, max_context=max_context, dtype=dtype, device=device, cache_bits=kept, memory=fit_in
    )
    for line in room.lines():
        say(line)
    if dry_run:
        return
    served = _served(checkpoint, room, dtype, device, name)
    bounds = Bounds(keys=keys, local=is_loopback(host), body_bytes=max_body, answer_seconds=timeout)
    serving = service(served, max_requests, bounds)
    app = api(serving)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    ready = [f"API: {address}/v1"]
    if mount:
        app = mount(app, serving)
        ready.append(f"chat page: {address}/")
    serve(gated(app, serving), serving.worker, host, port, ready)


def _served(checkpoint: Path, room: Room, dtype: str | None, device: str | None, name: str | None) -> Served:
    """Load a checkpoint as it was found to fit, and say how it will answer."""
    from zhen.infer.engine import load_engine
    from zhen.infer.server.asking import open_served

    engine = load_engine(
        checkpoint,
        dtype=dtype,
        device=device,
        batch=room.batch,
        prefix_tokens=room.prefix_tokens,
        cache_tokens=room.cache_tokens,
        cache_bits=room.cache_bits,
    )
    engine.longest = room.context
    served = open_served(checkpoint, engine, name or checkpoint.absolute().name)
    say(visible(f"{served.name}: {served.conversation.manner}"))
    if served.defaults:
        told = ", ".join(f"{key} {value:g}" for key, value in served.defaults.items())
        say(f"where a request does not say, as generation_config.json has it: {told}")
    return served


def _keys_for(host: str, given: str | None) -> tuple[str, ...]:
    keys = read_keys(given)
    if not keys and not is_loopback(host):
        raise ZhenError(
            f"--host {host} is reached by others", expected="a key", hint="--api-key KEY, or a file with one a line"
        )
    return keys


def page_mount() -> Callable[[FastAPI, Service], FastAPI]:
    """What puts the chat page on an app; importing it takes seconds."""
    from zhen.infer.server.page import mount

    return mount


def read_keys(given: str | None) -> tuple[str, ...]:
    """The keys of `--api-key`: those of the file of that name, one a line, else itself. Raises ZhenError for none."""
    if given is None:
        return ()
    path = Path(given)
    text = path.read_text(encoding="utf-8") if len(given) < 4096 and path.is_file() else given
    keys = tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not keys:
        raise ZhenError("no key in it", expected="a key a line", file=given or "--api-key")
    if any(not key.isascii() or " " in key for key in keys):
        raise ZhenError("a key with blanks or beyond ASCII", expected="what a header can carry", file="--api-key")
    return keys


def read_bytes(text: str) -> int:
    """Bytes of `24GB`, `22.35 GiB`, `1000000`. Raises ZhenError for what is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:([kMGT])(i?)B|B)?", text.strip())
    if not found:
        raise ZhenError(f"--memory {text}", expected="a number of bytes, such as 24GB or 22.35GiB")
    number, prefix, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** (" kMGT".index(prefix) if prefix else 0))


def _cache_bits(bits: int) -> Literal[16, 8]:
    if bits == 16:
        return 16
    if bits == 8:
        return 8
    raise ZhenError(f"--cache-bits {bits}", expected="16 or 8")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
