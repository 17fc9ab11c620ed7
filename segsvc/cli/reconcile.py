"""`segsvc reconcile`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from segsvc.cli.ledger_flag import ledger_flag
from segsvc.cli.main import Exit
from segsvc.cli.progress import say

if TYPE_CHECKING:
    from segsvc.event_documents import ReconcileDocument


@click.command("reconcile")
@click.argument("prefix", metavar="s3://BUCKET/PREFIX")
@click.option("--rules", "rules_file", required=True, type=click.Path(path_type=Path), metavar="FILE",
              help="YAML file that says which objects become which runs.")
@click.option("--dry-run", is_flag=True, help="Count what would be queued; nothing is stored.")
@ledger_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(prefix: str, rules_file: Path, dry_run: bool, place: str, as_json: bool) -> int:
    """Find by listing what no event told: queue the images that the rules' models have not seen, and note what is gone.

    What a model has seen, or has queued, is not queued again. To be run now and then, by cron.
    """
    from segsvc.cli.triggering import Triggering  # loads the ledger and the models: not for `segsvc reconcile --help`

    with Triggering(place, rules_file) as triggering:
        document, runs = triggering.reconcile(prefix, dry_run=dry_run)
        if runs:
            images = sum(run.images for run in runs)
            say(f"queued: {len(runs)} run{'s' * (len(runs) > 1)}, {images} images. {triggering.works}")
        failed = [run for run in runs if run.run_id is None]
        for run in failed:
            say(f"rule {run.rule}: {run.images} images wait for a run: {run.error or 'nobody has queued it yet'}")
    click.echo(document.model_dump_json(indent=2) if as_json else _text(document))
    return Exit.FAILED if failed else Exit.DONE


def _text(document: ReconcileDocument) -> str:
    would = "would be " if document.dry_run else ""
    skipped = "".join(f", {count} skipped ({why})" for why, count in document.skipped.items())
    return "\n".join([
        f"listed  {document.listed} images of {document.prefix}, {document.unmatched} without a rule{skipped}",
        f"queued  {document.queued} {would}queued, {document.known} known",
        f"gone    {document.gone} {would}marked as gone"])
