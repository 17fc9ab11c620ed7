"""`segsvc run`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from pydantic import ValidationError

from segsvc.asking import Asked, Place, look_up, request_of
from segsvc.card import describe
from segsvc.claims import Desk, WorkerSpec
from segsvc.cli.bands import band_flags
from segsvc.cli.ledger_flag import ledger_flag
from segsvc.cli.main import Exit, Interrupted
from segsvc.cli.progress import ProgressDisplay, duration, say
from segsvc.documents import DryRunDocument, RunDocument
from segsvc.errors import ConfigError, SegsvcError
from segsvc.processes import Processes
from segsvc.runner import DEFAULT_SHARD_SIZE, Executor, ExecutorName, ExecutorOf, Run, RunRequest
from segsvc.settings import RuntimeChoice, settings
from segsvc.types import Runtime


@click.command("run")
@click.argument("source", metavar="INPUT")
@click.option("--model", "model_name", required=True, help="A model's name or folder; `segsvc models list` shows them.")
@click.option("--out", required=True, help="The run's folder. An earlier run of the same command is resumed.")
@click.option("--executor", type=click.Choice([name.value for name in ExecutorName]), default=ExecutorName.INLINE.value,
              show_default=True, help="inline: this machine. ray: the cluster at RAY_ADDRESS, else a local one.")
@click.option("--workers", type=click.IntRange(1), help="Worker processes. [default: by the number of cores]")
@click.option("--threads", type=click.IntRange(1), help="Threads of each worker. [default: all cores between them]")
@click.option("--runtime", type=click.Choice([choice.value for choice in RuntimeChoice]),
              help="What computes the scores. [default: CUDA where there is a GPU, else OpenVINO]")
@band_flags
@click.option("--limit", type=click.IntRange(1), help="At most so many images.")
@click.option("--shard-size", type=click.IntRange(1), default=DEFAULT_SHARD_SIZE, show_default=True,
              help="Images that are published together.")
@click.option("--retry-failed", is_flag=True, help="Take up failed images of an earlier run again.")
@click.option("--dry-run", is_flag=True, help="Images, bytes, time of the machine and of people; no work.")
@ledger_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: what run.json holds.")
def command(source: str, model_name: str, out: str, executor: str, workers: int | None, threads: int | None,
            runtime: str | None, recall: float | None, precision: float | None, flag_at: float | None,
            accept_at: float | None, limit: int | None, shard_size: int, retry_failed: bool, dry_run: bool,
            place: str, as_json: bool) -> int:
    """Run MODEL over INPUT (a file, folder, glob or manifest) and publish candidates in OUT.

    The same command on the same OUT resumes it; finished shards are not done again.
    """
    asked = _asked(input=source, model=model_name, out=out, recall=recall, precision=precision, flag_at=flag_at,
                   accept_at=accept_at, limit=limit, shard_size=shard_size, workers=workers, threads=threads,
                   runtime=RuntimeChoice(runtime) if runtime is not None else None, retry_failed=retry_failed)
    if dry_run:
        return _show_estimate(_estimate(asked, place), as_json=as_json)
    if executor == ExecutorName.RAY.value:
        from jobs.place import connected

        with connected(say) as cluster:  # a Place with an executor; a local cluster ends with the block
            return show_run(execute(request_of(asked, cluster, say), cluster.executor), as_json=as_json)
    return show_run(execute(request_of(asked, Place(), say), inline), as_json=as_json)


def _asked(**flags: Any) -> Asked:
    try:
        return Asked(**flags)
    except ValidationError as error:
        raise ConfigError(describe(error)) from error


def _estimate(asked: Asked, ledger: str) -> DryRunDocument:
    from segsvc.estimate import estimate, estimate_review
    from segsvc.ledger.pace import pace_at

    looked = look_up(asked, say)
    workers, threads = Place().spread(asked.workers, asked.threads, Runtime.TORCH_CPU)
    found = estimate(looked.source, looked.model, runtime=lambda: Place().runtime(looked.model, looked.choice, say),
                    limit=asked.limit, out_uri=asked.out, threads=workers * threads)
    if looked.point is None or looked.point.promise is None:
        return found
    pace = pace_at(ledger, say, model_digest=looked.model.digest)
    return found.model_copy(update={"review": estimate_review(looked.point, found.images, pace)})


def inline(desk: Desk, spec: WorkerSpec, workers: int) -> Executor:
    """The executor of this machine."""
    return Processes(desk, spec, workers=workers)


def execute(request: RunRequest, executor_of: ExecutorOf) -> RunDocument:
    """The run, with its progress on stderr; an interruption says what is kept and how to go on."""
    run = Run(request, settings(), executor_of)
    display = ProgressDisplay()
    try:
        return run.execute(display)
    except KeyboardInterrupt as error:
        kept = _finished_images(run)
        raise Interrupted(f"{kept} images are finished and kept in {request.out_uri}.\n"
                          "The same command goes on from there.") from error
    finally:
        display.close()


def _finished_images(run: Run) -> int:
    try:
        return run.finished_images()
    except (SegsvcError, OSError):  # OUT is gone
        return 0


def show_run(document: RunDocument, *, as_json: bool) -> int:
    """Prints what a run amounts to; the exit code says whether images failed."""
    images, candidates = document.images, document.candidates
    if as_json:
        click.echo(document.model_dump_json(indent=2))
    else:
        folder = _shown(document.out)
        click.echo(f"images      {images.listed} listed: {images.done} done, {images.empty} empty, {images.failed} failed, "
                   f"{images.quarantined} quarantined{_skipped(document.skipped)}")
        click.echo(f"candidates  {candidates.accepted} accepted, {candidates.review} for review, "
                   f"{candidates.rejected} rejected ({document.operating_point_wording})")
        if document.drift is not None:
            click.echo(f"drift       {document.drift.says}")
        click.echo(f"time        {duration(document.seconds)} with {document.workers} x {document.threads} threads, "
                   f"{document.spec.runtime.value}")
        click.echo(f"report      {folder}/report.html")
        if images.failed or images.quarantined:
            click.echo(f"failures    {folder}/failures.jsonl says why; --retry-failed takes them up again")
    return Exit.SOME_FAILED if images.failed or images.quarantined else Exit.DONE


def _skipped(counts: Mapping[str, int]) -> str:
    words = ", ".join(f"{count} {why.replace('_', ' ')}" for why, count in sorted(counts.items()))
    return f" (skipped: {words})" if words else ""


def _shown(uri: str) -> str:
    from segsvc.stores.file import to_path

    return to_path(uri).decode("utf-8", "surrogateescape") if uri.startswith("file://") else uri


def _show_estimate(document: DryRunDocument, *, as_json: bool) -> int:
    if as_json:
        click.echo(document.model_dump_json(indent=2))
        return Exit.DONE
    click.echo(f"images      {document.images}{_skipped(document.skipped)}")
    click.echo(f"bytes       {document.size_bytes:,}")
    took = duration(document.seconds_estimated) if document.seconds_estimated is not None else "unknown"
    click.echo(f"time        {took if took.startswith('less') else f'about {took}'} ({document.estimated_from})")
    if document.review is not None:
        click.echo(f"people      {document.review.says}")
    return Exit.DONE
