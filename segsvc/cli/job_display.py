"""Runs of a server as they are shown: while they are worked on, one in full, many in a table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from segsvc.cli.job_client import JobClient, Polled
from segsvc.cli.ledger_flag import table
from segsvc.cli.main import Exit, Interrupted
from segsvc.cli.progress import ProgressDisplay, duration
from segsvc.errors import RunError
from segsvc.job_documents import ImageCounts, JobDocument, RunState
from segsvc.runner import Progress

_POLL_EVERY_S = 1.0  # where the server does not say when


def follow(client: JobClient, job: JobDocument) -> JobDocument:
    """The run at its end, with its progress on stderr; who is interrupted is told that it goes on."""
    display, polled = ProgressDisplay(), Polled(job, None, _POLL_EVERY_S)
    try:
        while polled.job.is_open:
            if polled.job.state is RunState.RUNNING:
                display(_progress(polled.job))
            time.sleep(polled.again_s)
            polled = client.poll(polled)
        return polled.job
    except KeyboardInterrupt as error:
        raise Interrupted(f"run {job.id} goes on at the server.\n`segsvc status {job.id} --wait` waits for it again, "
                          f"`segsvc cancel {job.id}` ends it.") from error
    finally:
        display.close()


def show_end(job: JobDocument, *, as_json: bool) -> int:
    """Prints a run that ended; the exit code is that of `segsvc run`. Raises RunError for one that did not succeed."""
    if as_json:
        click.echo(job.model_dump_json(indent=2))
    if job.state is RunState.SUCCEEDED:
        if not as_json:
            show_job(job)
        return Exit.SOME_FAILED if _failed(job.images) else Exit.DONE
    how = "was cancelled" if job.state is RunState.CANCELLED else f"failed: {job.error}"
    raise RunError(f"run {job.id} {how}\n`segsvc resume {job.id}` goes on where it ended.")


def show(job: JobDocument, *, as_json: bool) -> int:
    """Prints a run as it stands."""
    if as_json:
        click.echo(job.model_dump_json(indent=2))
    else:
        show_job(job)
    return Exit.DONE


def show_job(job: JobDocument) -> None:
    """Prints a run for people."""
    images, candidates = job.images, job.candidates
    click.echo(f"run         {job.id}")
    click.echo(f"state       {_state(job)}, attempt {job.attempt}")
    click.echo(f"model       {job.model}")
    click.echo(f"input       {job.input}")
    click.echo(f"out         {job.out}")
    click.echo(f"images      {images.listed} listed: {images.done} done, {images.empty} empty, {images.failed} failed, "
               f"{images.quarantined} quarantined")
    if job.state is RunState.SUCCEEDED:
        click.echo(f"candidates  {candidates.accepted} accepted, {candidates.review} for review, "
                   f"{candidates.rejected} rejected")
    elif job.state is RunState.RUNNING and job.eta_s is not None:
        click.echo(f"time        about {duration(job.eta_s)} left")
    if job.error is not None:
        click.echo(f"error       {job.error}")


def show_table(jobs: Sequence[JobDocument]) -> None:
    """Prints runs, a line each."""
    now = datetime.now(UTC)
    click.echo(table([("RUN", "STATE", "MODEL", "IMAGES", "REVIEW", "AGE"), *(
        (job.id, _state(job), job.model, f"{_ended(job.images)}/{job.images.listed}",
         job.candidates.review if job.state is RunState.SUCCEEDED else "", _age((now - job.created_at).total_seconds()))
        for job in jobs)]))


def _progress(job: JobDocument) -> Progress:
    return Progress(ended=_ended(job.images), planned=job.images.listed, all_planned=job.eta_s is not None,
                    failed=_failed(job.images), eta_s=job.eta_s)


def _ended(images: ImageCounts) -> int:
    return images.done + images.empty + _failed(images)


def _failed(images: ImageCounts) -> int:
    return images.failed + images.quarantined


def _state(job: JobDocument) -> str:
    return "being cancelled" if job.is_open and job.cancelling else job.state.value


def _age(seconds: float) -> str:
    for unit_s, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit_s:
            return f"{int(seconds // unit_s)} {unit}"
    return f"{max(0, int(seconds))} s"
