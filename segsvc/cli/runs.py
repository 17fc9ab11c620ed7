"""`segsvc runs`."""

from __future__ import annotations

import click

from segsvc.cli.job_client import JobClient, server_flag
from segsvc.cli.job_display import show_table
from segsvc.cli.main import Exit
from segsvc.cli.progress import say


@click.command("runs")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many, the newest first.")
@server_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(limit: int, client: JobClient, as_json: bool) -> int:
    """Show the runs of a server, the newest first."""
    found = client.newest(limit)
    if as_json:
        click.echo(found.model_dump_json(indent=2))
    elif found.items:
        show_table(found.items)
        if found.next_cursor is not None:
            say(f"There are more; --limit {10 * limit} shows some of them.")
    else:
        say("no runs; `segsvc submit INPUT --model MODEL` asks for one")
    return Exit.DONE
