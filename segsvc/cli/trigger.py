"""`segsvc trigger`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from segsvc.cli.ledger_flag import ledger_flag, table
from segsvc.cli.main import Exit
from segsvc.cli.progress import say

if TYPE_CHECKING:
    from segsvc.event_documents import TriggerDocument


@click.command("trigger")
@click.option("--queue", "queue_url", required=True, metavar="URL", help="The SQS queue that a bucket's events come to.")
@click.option("--rules", "rules_file", required=True, type=click.Path(path_type=Path), metavar="FILE",
              help="YAML file that says which objects become which runs.")
@click.option("--once", is_flag=True, help="Take what is in the queue, start its runs, and end.")
@click.option("--dry-run", is_flag=True, help="Say which rule takes each event, or why none does; nothing is taken.")
@ledger_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document; with --once or --dry-run.")
def command(queue_url: str, rules_file: Path, once: bool, dry_run: bool, place: str, as_json: bool) -> int:
    """Start runs on the events of buckets (S3, SNS, EventBridge, SeaweedFS) that come to a queue, until Ctrl-C.

    Where a server has the ledger it works on the runs; else this command does, with --once until they have ended.
    """
    if as_json and not (once or dry_run):
        raise click.UsageError("--json: expected --once or --dry-run with it: without, the command does not end by itself")
    from segsvc.cli.triggering import Triggering  # loads the ledger and the models: not for `segsvc trigger --help`

    with Triggering(place, rules_file) as triggering:
        queue = triggering.queue(queue_url)
        if not (once or dry_run):
            triggering.follow(queue)
            return Exit.DONE
        document = triggering.explain(queue) if dry_run else triggering.take_once(queue)
    click.echo(document.model_dump_json(indent=2) if as_json else _text(document))
    return _code(document)


def _code(document: TriggerDocument) -> Exit:
    if any(run.run_id is None or run.state in ("failed", "cancelled") for run in document.runs):
        return Exit.FAILED
    return Exit.SOME_FAILED if any(run.failed_images for run in document.runs) else Exit.DONE


def _text(document: TriggerDocument) -> str:
    if document.explained is not None:
        lines = [f"{'gone ' if each.gone else ''}{each.uri}\n    {each.rule or 'no rule'}: {each.why}"
                 for each in document.explained]
        taken = document.taken
        return "\n".join([*lines, f"{document.messages} messages: {len(lines)} events, {taken.unmatched} without a rule, "
                                  f"{taken.ignored} ignored, {taken.kept_aside} messages that cannot be read"])
    taken = document.taken
    said = (f"{document.messages} messages: {taken.queued} images to look at, {taken.known} known, {taken.gone} gone, "
            f"{taken.stale} overtaken, {taken.unmatched} without a rule, {taken.ignored} ignored, "
            f"{taken.kept_aside} kept aside")
    for run in document.runs:
        if run.error is not None:
            say(f"rule {run.rule}: {run.images} images wait for a run: {run.error}")
    rows = [[run.run_id or "-", f"{run.images} images", run.state or "waits", run.rule, run.out] for run in document.runs]
    return "\n".join([said, *([table(rows)] if rows else [])])
