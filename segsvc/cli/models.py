"""`segsvc models`."""

from __future__ import annotations

import json
from typing import Any

import click

from segsvc.cli.exchange import export_model, import_model
from segsvc.cli.main import CommandGroup, Exit
from segsvc.cli.pull import pull
from segsvc.cli.versions import list_versions, restore_version
from segsvc.documents import ModelDocument, ModelsDocument, ModelSummary, printable_path
from segsvc.errors import ConfigError
from segsvc.models.library import Model, find_model, model_names
from segsvc.operating_point import OperatingPoint


@click.group("models", cls=CommandGroup)
def command() -> None:
    """List, show, fetch, import and copy models."""


command.add_command(import_model)
command.add_command(export_model)
command.add_command(pull)
command.add_command(list_versions)
command.add_command(restore_version)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_models(as_json: bool) -> int:
    """Show the models that can be used here: the user's own first, then those that came along."""
    items, damaged = [], {}
    for name in model_names():
        try:
            items.append(_summary(name, find_model(name)))
        except ConfigError as error:
            damaged[name] = str(error)
            click.echo(f"note: {name} cannot be used: {error}", err=True)
    if as_json:
        click.echo(ModelsDocument(items=items, damaged=damaged).model_dump_json(indent=2))
        return Exit.DONE
    rows = [("NAME", "TASK", "CLASSES", "DIGEST", "LICENCE", "OPERATING POINT")]
    rows += [(item.name, item.task, str(item.classes), item.digest[:12], item.licence, item.operating_point)
             for item in items]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return Exit.DONE


@command.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show_model(name: str, as_json: bool) -> int:
    """Show one model: what it is, where it comes from, what it is not for, and its operating point."""
    model = find_model(name)
    try:
        model.check_weights()
        weights = None
    except ConfigError as error:
        weights = str(error)
    document = model_document(model, weights_ok=weights is None)
    click.echo(document.model_dump_json(indent=2) if as_json else _text(document))
    if weights is not None:
        raise ConfigError(weights)
    return Exit.DONE


def model_document(model: Model, *, weights_ok: bool) -> ModelDocument:
    """All that is known of a model."""
    return ModelDocument(name=model.name, digest=model.digest, folder=printable_path(model.folder), card=model.card,
                         operating_point=model.operating_point, weights_ok=weights_ok, metrics=_metrics(model))


def _metrics(model: Model) -> dict[str, Any] | None:
    """metrics.json of the model, None where it has none. Raises ConfigError where it is no JSON object."""
    path = model.folder / "metrics.json"
    try:
        metrics = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: expected a JSON object, got: {error}. Remove it or copy the model again.") from error
    if not isinstance(metrics, dict):
        raise ConfigError(f"{path}: expected a JSON object, got {type(metrics).__name__}")
    return metrics


def _basis(point: OperatingPoint | None) -> str:
    if point is None:
        return "none"
    return {"calibrated": "calibrated" + (f" on {point.runtime.value}" if point.runtime is not None else ""),
            "measured": "measured, not guaranteed", "by_hand": "set by hand, not guaranteed"}[point.basis]


def _summary(name: str, model: Model) -> ModelSummary:
    card = model.card
    return ModelSummary(name=name, task=card.task.value, classes=len(card.classes), digest=model.digest,
                        licence=card.licence, operating_point=_basis(model.operating_point),
                        folder=printable_path(model.folder))


def _text(document: ModelDocument) -> str:
    card = document.card
    classes = ", ".join(card.class_names[:10]) + (f" ... ({len(card.classes)} in all)" if len(card.classes) > 10 else "")
    rows = [("name", card.name), ("description", card.description), ("task", card.task.value),
            ("network", f"{card.arch}" + (f", {card.encoder}" if card.encoder else "")), ("classes", classes),
            ("tiles", f"{card.tile_px} px, {card.overlap_px} px overlap" if card.resize is None else
             f"whole image at {card.resize.crop_px} px"),
            ("digest", document.digest), ("licence", card.licence), ("trained on", card.trained_on),
            ("not for", card.not_for), ("made by", card.made_by), ("folder", document.folder),
            ("operating point", _basis(document.operating_point))]
    if document.operating_point is not None:
        rows += [(f"  {name}", f"flag at {each.flag_at:g}, accept at "
                  + (f"{each.accept_at:g}" if each.accept_at is not None else "no score"))
                 for name, each in document.operating_point.classes.items()]
        rows.append(("  note", document.operating_point.note))
    return "\n".join(f"{name:16}  {value}" for name, value in rows if value)
