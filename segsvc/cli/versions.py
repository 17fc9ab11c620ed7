"""`segsvc models versions` and `segsvc models restore`."""

from __future__ import annotations

import click

from segsvc.cli.ledger_flag import table
from segsvc.cli.main import Exit
from segsvc.documents import printable_path
from segsvc.improvement_documents import Improvement, ModelVersion, VersionsDocument, VersionState
from segsvc.versions import Version, place_of, restore, versions


@click.command("versions")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_versions(name: str, as_json: bool) -> int:
    """Show the versions of a model: the one in force, those before, and candidates that `segsvc improve` did not let in."""
    _show(VersionsDocument(name=name, items=[_version(each) for each in versions(place_of(name))]), as_json=as_json)
    return Exit.DONE


@click.command("restore")
@click.argument("name")
@click.argument("version", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def restore_version(name: str, version: str | None, as_json: bool) -> int:
    """Put a version of a model in force again: the one before, or VERSION, the beginning of its digest."""
    _show(VersionsDocument(name=name, items=[_version(restore(place_of(name), version))]), as_json=as_json)
    return Exit.DONE


def _version(version: Version) -> ModelVersion:
    state: VersionState = "in_force" if version.in_force else "kept" if version.was_in_force else "candidate"
    point = version.model.operating_point
    return ModelVersion(digest=version.model.digest, state=state, folder=printable_path(version.model.folder),
                        operating_point=point.basis.value if point is not None else "none",
                        improvement=Improvement.read(version.model.folder))


def _show(document: VersionsDocument, *, as_json: bool) -> None:
    if as_json:
        click.echo(document.model_dump_json(indent=2))
        return
    rows = [("VERSION", "STATE", "MADE", "OLD", "NEW", "AT THE LEAST", "OPERATING POINT")]
    for each in document.items:
        it = each.improvement
        figures = ("",) * 4 if it is None else (
            f"{it.made_at:%Y-%m-%d %H:%M}", f"{it.old_mean:.3f}", f"{it.new_mean:.3f}", f"{it.lower:+.3f}")
        rows.append((each.digest[:12], each.state.replace("_", " "), *figures, each.operating_point))
    click.echo(table(rows))
