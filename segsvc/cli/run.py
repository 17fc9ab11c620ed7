"""`segsvc run`."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from pathlib import Path

import click

from segsvc.cli.bands import BandFlags, band_flags, operating_point
from segsvc.cli.main import Exit
from segsvc.cli.progress import ProgressDisplay, duration
from segsvc.documents import DryRunDocument, RunDocument
from segsvc.errors import ConfigError
from segsvc.loaded import available_cores
from segsvc.models.library import Model, find_model
from segsvc.models.runtime import Chosen, choose_runtime, is_ready
from segsvc.plan import read_input
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
    if dry_run:
        from segsvc.estimate import estimate

        return _show_estimate(estimate(given, model, limit=limit, out_uri=out), as_json=as_json)
    model.check_weights()
    chosen = ready_runtime(model, RuntimeChoice(runtime) if runtime is not None else settings().runtime)
    worker_count, thread_count = spread_cores(workers, threads)
    request = RunRequest(
        source=given, model=model, runtime=chosen.runtime, out_uri=store_of(out).folder(out).uri, point=point,
        point_was_asked=not flags.is_empty, limit=limit, shard_size=shard_size, workers=worker_count,
        threads=thread_count, retry_failed=retry_failed)
    return show_run(execute(request), as_json=as_json)


def spread_cores(workers: int | None, threads: int | None) -> tuple[int, int]:
    """Workers and threads of each: what was given, and for the rest all cores."""
    cores = available_cores()
    if workers is None:
        workers = max(1, -(-cores // (threads or _CORES_PER_WORKER))) if threads is None or threads < cores else 1
    return workers, threads if threads is not None else max(1, cores // workers)


def ready_runtime(model: Model, choice: RuntimeChoice) -> Chosen:
    """The runtime for the model; where it must be converted first, that is said, and done in a process of its own."""
    if is_ready(model, choice):
        return choose_runtime(model, choice)
    click.echo(f"converting {model.name} for this machine, once ...", err=True)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            chosen = pool.submit(choose_runtime, model, choice).result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise ConfigError(f"model {model.name}: the process that converts it died (memory?). "
                              "Use --runtime torch-cpu.") from error
    if chosen.fallback_reason is not None:
        click.echo(f"note: {model.name} runs on {chosen.runtime.value}: {chosen.fallback_reason}", err=True)
    return chosen


def execute(request: RunRequest) -> RunDocument:
    """The run, with its progress on stderr; an interruption says what is kept and how to go on."""
    run = Run(request, settings())
    display = ProgressDisplay()
    try:
        return run.execute(display)
    except KeyboardInterrupt:
        display.close()
        kept = sum(run.folder.part("images", number, ["image_id"]).num_rows for number in run.folder.numbers("images"))
        click.echo(f"segsvc: interrupted. {kept} images are finished and kept in {request.out_uri}.\n"
                   "The same command goes on from there.", err=True)
        raise
    finally:
        display.close()


def show_run(document: RunDocument, *, as_json: bool) -> int:
    """Prints what a run amounts to; the exit code says whether images failed."""
    images, candidates = document.images, document.candidates
    if as_json:
        click.echo(document.model_dump_json(indent=2))
    else:
        folder = Path(_local(document.out))
        skipped = "".join(f", {count} {why.replace('_', ' ')}" for why, count in sorted(document.skipped.items()))
        click.echo(f"images      {images.listed} listed: {images.done} done, {images.empty} empty, {images.failed} failed, "
                   f"{images.quarantined} quarantined" + (f" (skipped: {skipped[2:]})" if skipped else ""))
        click.echo(f"candidates  {candidates.accepted} accepted, {candidates.review} for review, "
                   f"{candidates.rejected} rejected ({document.operating_point_wording})")
        click.echo(f"time        {duration(document.seconds)} with {document.workers} x {document.threads} threads, "
                   f"{document.spec.runtime.value}")
        click.echo(f"report      {folder / 'report.html'}")
        if images.failed or images.quarantined:
            click.echo(f"failures    {folder / 'failures.jsonl'} says why; --retry-failed takes them up again")
    return Exit.SOME_FAILED if images.failed or images.quarantined else Exit.DONE


def _local(uri: str) -> str:
    from segsvc.stores.file import to_path

    return to_path(uri).decode("utf-8", "surrogateescape") if uri.startswith("file://") else uri


def _show_estimate(document: DryRunDocument, *, as_json: bool) -> int:
    if as_json:
        click.echo(document.model_dump_json(indent=2))
        return Exit.DONE
    skipped = "".join(f", {count} {why.replace('_', ' ')}" for why, count in sorted(document.skipped.items()))
    click.echo(f"images      {document.images}" + (f" (skipped: {skipped[2:]})" if skipped else ""))
    click.echo(f"bytes       {document.size_bytes:,}")
    took = duration(document.seconds_estimated) if document.seconds_estimated is not None else "unknown"
    click.echo(f"time        about {took} ({document.estimated_from})")
    return Exit.DONE
