"""`segsvc cancel`."""

from __future__ import annotations

import click

from segsvc.cli.job_client import JobClient, run_id_of, server_flag
from segsvc.cli.job_display import show


@click.command("cancel")
@click.argument("run")
@server_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: what GET /v1/runs/{id} gives.")
def command(run: str, client: JobClient, as_json: bool) -> int:
    """End RUN, given by its id or its folder OUT. What is published is kept; `segsvc resume RUN` goes on from there."""
    return show(client.cancel(run_id_of(run)), as_json=as_json)
