"""`segsvc submit`."""

from __future__ import annotations

import click

from segsvc.cli.bands import band_flags
from segsvc.cli.job_client import JobClient, server_flag
from segsvc.cli.job_display import follow, show_end
from segsvc.cli.main import Exit, Interrupted
from segsvc.cli.progress import say


@click.command("submit")
@click.argument("source", metavar="INPUT")
@click.option("--model", required=True, help="A model's name or folder, as the server knows it.")
@click.option("--out", help="The run's folder; an earlier run of the same request is resumed. [default: a new folder beside "
                            "the server's ledger]")
@band_flags
@click.option("--limit", type=click.IntRange(1), help="At most so many images.")
@click.option("--wait", "waits", is_flag=True, help="Wait for its end; the exit code is then that of `segsvc run`.")
@server_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: the run as GET /v1/runs/{id} gives it.")
def command(source: str, model: str, out: str | None, recall: float | None, precision: float | None, flag_at: float | None,
            accept_at: float | None, limit: int | None, waits: bool, client: JobClient, as_json: bool) -> int:
    """Ask a server (`segsvc serve`) for a run of MODEL over INPUT, and print its id.

    Paths are those of the server's machine; where that is this one, they may be relative.
    """
    is_folder = "/" in model or model in (".", "..")
    body = {"input": client.place(source, "INPUT"), "model": client.place(model, "--model") if is_folder else model,
            "out": client.place(out, "--out") if out is not None else None, "recall": recall, "precision": precision,
            "flag_at": flag_at, "accept_at": accept_at, "limit": limit}
    try:
        job = client.submit({name: value for name, value in body.items() if value is not None})
    except KeyboardInterrupt as error:
        raise Interrupted("The server may have taken the run all the same.\n`segsvc runs` shows whether it has.") from error
    if waits:
        say(f"run {job.id} is {job.state.value}; its results go to {job.out}")
        return show_end(follow(client, job), as_json=as_json)
    click.echo(job.model_dump_json(indent=2) if as_json else job.id)
    if not as_json:
        say(f"The run is {job.state.value}; its results go to {job.out}. `segsvc status {job.id}` shows how far it is.")
    return Exit.DONE
