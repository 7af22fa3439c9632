"""`zhen watch`: the live page of a training run, or the same as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zhen.console import say, visible


def command(
    runs: Annotated[
        list[Path], typer.Argument(help="A run's folder; further ones are drawn beside it.", show_default=False)
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0: any that is free.")] = 8765,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the page as it is now to this file, and end.")
    ] = None,
    bell: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", envvar="ZHEN_BELL", help="Run this on trouble, and when a run falls silent."),
    ] = None,
) -> None:
    """Show a training run as it goes on: loss, bits per byte, gradient, speed, events, samples.

    Reads the run's files and nothing else: the run may be going on, finished, or on a disk mounted from elsewhere.
    The page is for this machine; from another one reach it by ssh -L 8765:127.0.0.1:8765.

    Example: zhen watch runs/tiny
    """
    from zhen.watch.runs import Watched

    watched = Watched(runs)
    if export is not None:
        from zhen.formats.files import write_text
        from zhen.watch.page import watch_page

        write_text(export, watch_page(watched.title, watched.since({})))
        say(visible(f"wrote {export}"))
        return
    from zhen.watch.server import Server

    server = Server(watched, port)
    if bell is not None:
        from zhen.train.bell import Bell
        from zhen.watch.listen import Listener

        listener = Listener(watched, Bell(bell))
        listener.look()
        listener.start()
    say(visible(f"{watched.title}: {server.address} (Ctrl-C ends)"))
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
