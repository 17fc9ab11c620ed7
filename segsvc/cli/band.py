"""`segsvc band`."""

from __future__ import annotations

import click

from segsvc.asking import BandsAsked, operating_point
from segsvc.cli.bands import band_flags
from segsvc.cli.main import Exit
from segsvc.cli.progress import say
from segsvc.documents import BandDocument, RunDocument
from segsvc.errors import ConfigError
from segsvc.models.library import find_same_model
from segsvc.operating_point import OperatingPoint
from segsvc.results import RunFolder
from segsvc.stores import store_of
from segsvc.summary import finished_document
from segsvc.views import OpenRun


@click.command("band")
@click.argument("out")
@band_flags
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(out: str, recall: float | None, precision: float | None, flag_at: float | None, accept_at: float | None,
            as_json: bool) -> int:
    """Put other bands in force for the run in OUT. Nothing is computed again; the earlier ones stay on record."""
    bands = BandsAsked(recall, precision, flag_at, accept_at)
    if bands.is_empty:
        raise click.UsageError("expected --recall R [--precision P] or --flag-at S [--accept-at S], got no bands",
                               click.get_current_context())
    folder = RunFolder(store_of(out).folder(out))
    run = OpenRun(folder)
    before = finished_document(folder, out, "; it takes --flag-at and --accept-at too")
    point = operating_point(bands, find_same_model(run.spec.model, run.spec.model_digest), say,
                            folder.operating_points())
    if point is None:
        raise ConfigError("bands: expected --flag-at S, got none")
    document = put_in_force(folder, point, before)
    if as_json:
        click.echo(document.model_dump_json(indent=2))
    else:
        counts = document.candidates
        click.echo(f"candidates  {counts.accepted} accepted, {counts.review} for review, {counts.rejected} rejected "
                   f"({document.wording})")
        if document.drift is not None:
            click.echo(f"drift       {document.drift.says}")
    return Exit.DONE


def put_in_force(folder: RunFolder, point: OperatingPoint, before: RunDocument) -> BandDocument:
    """Writes the point into bands.json, and run.json (which was `before`) and report.html anew."""
    from segsvc.run_report import refresh  # loads what draws: not for `segsvc band --help`

    try:
        folder.add_operating_point(point)
        now, _ = refresh(folder, before)
    except OSError as error:
        raise ConfigError(f"OUT: expected a folder that can be written, got {folder.uri}: {error.strerror or error}"
                          ) from error
    return BandDocument(out=folder.uri, operating_point=point.without_profile(), wording=now.operating_point_wording,
                        drift=now.drift, candidates=now.candidates)
