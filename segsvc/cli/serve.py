"""`segsvc serve`."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence

import click

from segsvc import logs
from segsvc.cli.ledger_flag import ledger_flag
from segsvc.cli.main import Exit
from segsvc.cli.progress import say

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8765


@click.command("serve")
@click.option("--host", default=DEFAULT_HOST, show_default=True,
              help="Where it is reached. Beyond this machine it starts only where users were made.")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0: any that is free.")
@ledger_flag
@click.option("--open/--no-open", "opens", default=False, help="Open the page in the browser.")
def command(place: str, host: str, port: int, opens: bool) -> int:
    """Serve the review page and its API until Ctrl-C or SIGTERM."""
    return serve_page(place, host=host, port=port, opens=opens)


def serve_page(place: str, *, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT, opens: bool = False,
               imports: Sequence[str] = ()) -> int:
    """Serves the ledger at `place` until told to end; `imports`: runs that are taken into it before."""
    try:
        from review_ui.server import serve  # loads the web server

        serve(place, host=host, port=port, imports=imports, say=say, ready=lambda url: _ready(url, opens=opens))
    except KeyboardInterrupt:  # told to end before it began
        return Exit.DONE
    return Exit.DONE


def _ready(url: str, *, opens: bool) -> None:
    click.echo(f"{url}/review")
    if logs.for_people():
        say("The review page is served at the address above; Ctrl-C ends it.")
    if opens:
        webbrowser.open(f"{url}/review")
