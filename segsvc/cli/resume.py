"""`segsvc resume`."""

from __future__ import annotations

import click

from segsvc.cli.job_client import JobClient, run_id_of, server_flag
from segsvc.cli.job_display import follow, show, show_end


@click.command("resume")
@click.argument("run")
@click.option("--retry-failed", is_flag=True, help="Take up failed images again, also of a run that has succeeded.")
@click.option("--wait", "waits", is_flag=True, help="Wait for its end; the exit code is then that of `segsvc run`.")
@server_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: what GET /v1/runs/{id} gives.")
def command(run: str, retry_failed: bool, waits: bool, client: JobClient, as_json: bool) -> int:
    """Go on with RUN, which failed or was cancelled, given by its id or its folder OUT."""
    job = client.resume(run_id_of(run), retry_failed=retry_failed)
    return show_end(follow(client, job), as_json=as_json) if waits else show(job, as_json=as_json)
