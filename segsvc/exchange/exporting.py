"""A model's folder, copied whole to a folder or a place in a bucket."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from segsvc.card import ModelCard, describe
from segsvc.errors import ConfigError
from segsvc.models.library import WEIGHTS, Model
from segsvc.stores import PartFolder, store_of

_CARD = "card.json"


@dataclass(frozen=True, slots=True)
class Exported:
    """Where the copy is, how many files it has, and how many of them were there already."""

    uri: str
    files: int
    kept: int


def export_model(model: Model, to: str) -> Exported:
    """Copies all files of the model, the card last, and reads back what makes its digest.

    Files that are there with the same bytes stay, so that a copy that was interrupted can be taken up. Raises ConfigError
    where another file of such a name, or another model, is at the place: nothing is written then.
    """
    model.check_weights()
    names = model_files(model)
    place = store_of(to).folder(to.rstrip("/") or to)
    kept = [name for name in names if _is_there(place, name, model, to)]
    for name in names:
        if name not in kept:
            place.put(name, (model.folder / name).read_bytes())
    _check(place, model)
    return Exported(place.uri, len(names), len(kept))


def model_files(model: Model) -> list[str]:
    """The names of a model's files below its folder, hidden ones left out, the card last."""
    found = {path.relative_to(model.folder).as_posix() for path in model.folder.rglob("*") if path.is_file()}
    return [*sorted(name for name in found - {_CARD} if not _is_hidden(name)), _CARD]


def _is_hidden(name: str) -> bool:
    return any(step.startswith(".") for step in Path(name).parts)


def _is_there(place: PartFolder, name: str, model: Model, to: str) -> bool:
    there = place.read(name)
    if there is None:
        return False
    if there != (model.folder / name).read_bytes():
        raise ConfigError(f"--to {to}: expected a new place, or a copy of {model.name}, got another {name} there. Choose "
                          "another place, or remove what is there.")
    return True


def _check(place: PartFolder, model: Model) -> None:
    """Raises ConfigError where what can be read at the place is not the model."""
    card, weights = place.read(_CARD) or b"", place.read(WEIGHTS) or b""
    try:
        came = ModelCard.model_validate_json(card)
    except ValidationError as error:
        raise ConfigError(f"{place.uri}/{_CARD}: expected the card that was written: {describe(error)}") from error
    if came.digest != model.digest or hashlib.sha256(weights).hexdigest() != came.weights_sha256:
        raise ConfigError(f"{place.uri}: expected the model {model.digest[:12]} that was written, got another one")
