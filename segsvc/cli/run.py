"""`segsvc run`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from segsvc.cli.bands import BandFlags, band_flags, operating_point
from segsvc.cli.converting import ready_runtime
from segsvc.cli.main import Exit, Interrupted
from segsvc.cli.progress import ProgressDisplay, duration
from segsvc.documents import DryRunDocument, RunDocument
from segsvc.errors import SegsvcError
from segsvc.loaded import available_cores
from segsvc.models.library import find_model
from segsvc.plan import read_input
from segsvc.results import RunFolder
from segsvc.runner import DEFAULT_SHARD_SIZE, ExecutorName, Run, RunRequest
from segsvc.settings import RuntimeChoice, settings
from segsvc.stores import store_of

_CORES_PER_WORKER = 8  # beyond, one process's threads wait for each other


@click.command("run")
@click.argument("source", metavar="INPUT")
@click.option("--model", "model_name", required=True, help="A model's name or folder; `segsvc models list` shows them.")
@click.option("--out", required=True, help="The run's folder. An earlier run of the same command is resumed.")
@click.option("--executor", type=click.Choice([name.value for name in ExecutorName]), default=ExecutorName.INLINE.value,
              show_default=True, help="Where the work is done: inline is this machine.")
@click.option("--workers", type=click.IntRange(1), help="Worker processes. [default: by the number of cores]")
@click.option("--threads", type=click.IntRange(1), help="Threads of each worker. [default: all cores between them]")
@click.option("--runtime", type=click.Choice([choice.value for choice in RuntimeChoice]),
              help="What computes the scores. [default: CUDA where there is a GPU, else OpenVINO]")
@band_flags
@click.option("--limit", type=click.IntRange(1), help="At most so many images.")
@click.option("--shard-size", type=click.IntRange(1), default=DEFAULT_SHARD_SIZE, show_default=True,
              help="Images that are published together.")
@click.option("--retry-failed", is_flag=True, help="Take up failed images of an earlier run again.")
@click.option("--dry-run", is_flag=True, help="Images, bytes and an estimate of time; no work.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: what run.json holds.")
def command(source: str, model_name: str, out: str, executor: str, workers: int | None, threads: int | None,
            runtime: str | None, recall: float | None, precision: float | None, flag_at: float | None,
            accept_at: float | None, limit: int | None, shard_size: int, retry_failed: bool, dry_run: bool,
            as_json: bool) -> int:
    """Run MODEL over INPUT (a file, folder, glob or manifest) and publish candidates in OUT.

    The same command on the same OUT resumes it; finished shards are not done again.
    """
    model = find_model(model_name)
    flags = BandFlags(recall, precision, flag_at, accept_at)
    point = operating_point(flags, model)
    given = read_input(source)
    model.check_weights()
    choice = RuntimeChoice(runtime) if runtime is not None else settings().runtime
    worker_count, thread_count = spread_cores(workers, threads)
    if dry_run:
        from segsvc.estimate import estimate

        return _show_estimate(estimate(given, model, runtime=lambda: ready_runtime(model, choice).runtime, limit=limit,
                                       out_uri=out, threads=worker_count * thread_count), as_json=as_json)
    request = RunRequest(
        source=given, model=model, runtime=ready_runtime(model, choice).runtime, out_uri=store_of(out).folder(out).uri,
        point=point, point_was_asked=not flags.is_empty, limit=limit, shard_size=shard_size, workers=worker_count,
        threads=thread_count, retry_failed=retry_failed)
    return show_run(execute(request), as_json=as_json)


def spread_cores(workers: int | None, threads: int | None) -> tuple[int, int]:
    """Workers and threads of each: what was given, and for the rest all cores."""
    cores = available_cores()
    if workers is None:
        workers = max(1, -(-cores // (threads or _CORES_PER_WORKER))) if threads is None or threads < cores else 1
    return workers, threads if threads is not None else max(1, cores // workers)


def execute(request: RunRequest) -> RunDocument:
    """The run, with its progress on stderr; an interruption says what is kept and how to go on."""
    run = Run(request, settings())
    display = ProgressDisplay()
    try:
        return run.execute(display)
    except KeyboardInterrupt as error:
        kept = _finished_images(run.folder)
        raise Interrupted(f"{kept} images are finished and kept in {request.out_uri}.\n"
                          "The same command goes on from there.") from error
    finally:
        display.close()


def _finished_images(folder: RunFolder) -> int:
    try:
        return sum(folder.part("images", number, ["image_id"]).num_rows for number in folder.numbers("images"))
    except (SegsvcError, OSError):  # OUT is gone
        return 0


def show_run(document: RunDocument, *, as_json: bool) -> int:
    """Prints what a run amounts to; the exit code says whether images failed."""
    images, candidates = document.images, document.candidates
    if as_json:
        click.echo(document.model_dump_json(indent=2))
    else:
        folder = Path(_local(document.out))
        click.echo(f"images      {images.listed} listed: {images.done} done, {images.empty} empty, {images.failed} failed, "
                   f"{images.quarantined} quarantined{_skipped(document.skipped)}")
        click.echo(f"candidates  {candidates.accepted} accepted, {candidates.review} for review, "
                   f"{candidates.rejected} rejected ({document.operating_point_wording})")
        click.echo(f"time        {duration(document.seconds)} with {document.workers} x {document.threads} threads, "
                   f"{document.spec.runtime.value}")
        click.echo(f"report      {folder / 'report.html'}")
        if images.failed or images.quarantined:
            click.echo(f"failures    {folder / 'failures.jsonl'} says why; --retry-failed takes them up again")
    return Exit.SOME_FAILED if images.failed or images.quarantined else Exit.DONE


def _skipped(counts: Mapping[str, int]) -> str:
    words = ", ".join(f"{count} {why.replace('_', ' ')}" for why, count in sorted(counts.items()))
    return f" (skipped: {words})" if words else ""


def _local(uri: str) -> str:
    from segsvc.stores.file import to_path

    return to_path(uri).decode("utf-8", "surrogateescape") if uri.startswith("file://") else uri


def _show_estimate(document: DryRunDocument, *, as_json: bool) -> int:
    if as_json:
        click.echo(document.model_dump_json(indent=2))
        return Exit.DONE
    click.echo(f"images      {document.images}{_skipped(document.skipped)}")
    click.echo(f"bytes       {document.size_bytes:,}")
    took = duration(document.seconds_estimated) if document.seconds_estimated is not None else "unknown"
    click.echo(f"time        about {took} ({document.estimated_from})")
    return Exit.DONE
