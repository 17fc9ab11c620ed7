"""`segsvc models pull`."""

from __future__ import annotations

import sys
import time

import click

from segsvc.assets import SETS, AssetSet, is_here, pull_assets
from segsvc.catalogue import CATALOGUE, KnownModel
from segsvc.cli.main import Exit
from segsvc.cli.progress import say
from segsvc.documents import CatalogueDocument, CatalogueItem, printable_path
from segsvc.errors import ConfigError, UnknownName
from segsvc.pulling import pull_model
from segsvc.settings import settings

_SAY_EVERY_S = 10.0
_SHOW_EVERY_S = 0.2
_MB = 1_000_000


@click.command("pull")
@click.argument("name", required=False)
@click.option("--list", "listing", is_flag=True, help="List what can be pulled, with licences and digests.")
@click.option("--json", "as_json", is_flag=True, help="With --list: print one JSON document.")
@click.option("--sha256", help="The digest that the file must have; for a model of which the catalogue knows none.")
def pull(name: str | None, listing: bool, as_json: bool, sha256: str | None) -> int:
    """Fetch a known model by NAME, and hold it to its digest; without NAME, what the packaged models and the demo need.

    Where there is no network, it says which file to fetch elsewhere, and where to put it: it is taken from there then.
    """
    if listing:
        _refuse(name is not None, "NAME", "with --list")
        _refuse(sha256 is not None, "--sha256", "with --list")
        document = CatalogueDocument(items=[*map(_item_of_set, SETS), *map(_item, CATALOGUE)])
        click.echo(document.model_dump_json(indent=2) if as_json else "\n".join(_lines(document)))
        return Exit.DONE
    _refuse(as_json, "--json", "without --list")
    known = {each.name: each for each in CATALOGUE}
    if name in known:
        _pull_known(known[name], sha256.lower() if sha256 is not None else None)
        return Exit.DONE
    sets = [each.name for each in SETS]
    if name not in (None, *sets):
        raise UnknownName("model or set of images to pull", str(name), (*sets, *known))
    _refuse(sha256 is not None, "--sha256", "for what comes from packages, whose digests are known")
    for line in pull_assets(settings().assets_dir, settings().models_dir, wanted=name):
        click.echo(line)
    return Exit.DONE


def _refuse(given: bool, what: str, when: str) -> None:
    if given:
        raise ConfigError(f"{what}: leave it out {when}")


def _pull_known(known: KnownModel, sha256: str | None) -> None:
    shown = _Bytes()
    try:
        done = pull_model(known, settings().assets_dir, settings().models_dir, sha256=sha256, say=say, progress=shown)
    finally:
        shown.close()
    for note in done.notes:
        say(f"note: {note}")
    card, folder = done.model.card, printable_path(done.model.folder)
    click.echo(f"model {known.name}: {folder}" + ("" if done.new else f" was there; from {card.source or 'elsewhere'}"))
    click.echo(f"licence: {card.licence}" + (f"; trained on {card.trained_on}" if card.trained_on else ""))


class _Bytes:
    """Shows on stderr how much has come: in place on a terminal, a line now and then elsewhere. To be closed at the end."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown_at = time.monotonic()
        self._has_shown = False

    def __call__(self, came_bytes: int, size_bytes: int | None) -> None:
        if (now := time.monotonic()) - self._shown_at < (_SHOW_EVERY_S if self._terminal else _SAY_EVERY_S):
            return
        self._shown_at, self._has_shown = now, True
        text = f"{came_bytes // _MB}" + (f" of {size_bytes // _MB}" if size_bytes is not None else "") + " MB"
        click.echo(f"\r{text}\x1b[K" if self._terminal else text, nl=not self._terminal, err=True)

    def close(self) -> None:
        if self._terminal and self._has_shown:
            click.echo("\r\x1b[K", nl=False, err=True)


def _item(known: KnownModel) -> CatalogueItem:
    file, here = known.place(settings().assets_dir), (settings().models_dir / known.name / "card.json").is_file()
    return CatalogueItem(
        name=known.name, what=known.what, task=known.task.value, classes=known.n_classes, publisher=known.file.publisher,
        origin=known.file.origin, url=known.file.url, file=printable_path(file), licence=known.licence,
        trained_on=known.trained_on, size_bytes=known.size_bytes, sha256=known.sha256,
        digest_known=known.sha256 is not None, here=here)


def _item_of_set(each: AssetSet) -> CatalogueItem:
    digests = [file.sha256 for file in each.files]
    here = is_here(each.name, settings().assets_dir, settings().models_dir)
    return CatalogueItem(
        name=each.name, what=each.what, task=each.task, classes=each.n_classes, publisher=each.publisher,
        origin=each.origin, url=None, file=None, licence=each.licence, trained_on=each.trained_on,
        size_bytes=each.size_bytes, sha256=digests[0] if len(digests) == 1 else None, digest_known=True, here=here)


def _lines(document: CatalogueDocument) -> list[str]:
    rows = [("NAME", "TASK", "CLASSES", "SIZE", "DIGEST", "HERE", "FROM", "LICENCE")]
    rows += [(item.name, item.task, str(item.classes) if item.classes is not None else "",
              f"{item.size_bytes / _MB:.0f} MB" if item.size_bytes is not None else "?",
              "known" if item.digest_known else "not known", "yes" if item.here else "no", item.publisher, item.licence)
             for item in document.items]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
