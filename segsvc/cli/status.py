"""`segsvc status`."""

from __future__ import annotations

import click

from segsvc.cli.job_client import JobClient, run_id_of, server_flag
from segsvc.cli.job_display import follow, show, show_end


@click.command("status")
@click.argument("run")
@click.option("--wait", "waits", is_flag=True, help="Wait for its end; the exit code is then that of `segsvc run`.")
@server_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: what GET /v1/runs/{id} gives.")
def command(run: str, waits: bool, client: JobClient, as_json: bool) -> int:
    """Show how far RUN is, given by its id or its folder OUT."""
    job = client.find(run_id_of(run))
    return show_end(follow(client, job), as_json=as_json) if waits else show(job, as_json=as_json)
